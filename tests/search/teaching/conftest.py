from tests.library_fixtures import fakes, media, registered, shop

__all__ = ["fakes", "media", "registered", "shop"]
