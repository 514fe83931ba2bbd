"""The same cast as in the catalogue's tests."""

from tests.catalog.api.conftest import cast, fresh_throttles, json_by_default

__all__ = ["cast", "fresh_throttles", "json_by_default"]
