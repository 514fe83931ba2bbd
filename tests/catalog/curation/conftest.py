from tests.catalog.api.conftest import cast

__all__ = ["cast"]
