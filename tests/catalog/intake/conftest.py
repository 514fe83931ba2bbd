"""Jobs of the collection ``shop``, and servers to fetch from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_django import Settings

from tests.catalog.api.conftest import cast
from tests.catalog.intake.web import Web, serving

__all__ = ["cast"]


@pytest.fixture
def web(settings: Settings) -> Iterator[Web]:
    """A server that may be fetched from."""
    with serving() as web:
        settings.VISEARCH_FETCH_ALLOW = [web.allow]
        yield web
