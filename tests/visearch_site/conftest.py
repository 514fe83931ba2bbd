from tests.library_fixtures import fakes, media, shop

__all__ = ["fakes", "media", "shop"]
