from __future__ import annotations

from collections.abc import Callable

import pytest
from pytest_django import Settings

from tests.library_fixtures import fakes, media, registered, shop

__all__ = ["fakes", "media", "registered", "shop"]


@pytest.fixture
def take_redis_away(settings: Settings) -> Callable[[], None]:
    """From the call to the end of the test nobody listens where Redis should be."""

    def take_away() -> None:
        settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": "redis://127.0.0.1:1/0"}}

    return take_away
