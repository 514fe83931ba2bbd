"""Fixtures of the API's tests. Models are imported late: this file may be read before Django is set up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.core.cache import cache
from rest_framework.test import APIClient

if TYPE_CHECKING:
    from tests.cast import Cast


@pytest.fixture
def cast(db: None) -> Cast:
    from tests.cast import make_cast

    return make_cast()


@pytest.fixture(autouse=True)
def fresh_throttles() -> None:
    """All tests come from one address; none pays for the requests of another."""
    cache.delete_pattern("throttle_*")  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def json_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients of the API send JSON unless a test says ``format="multipart"``."""
    monkeypatch.setattr(APIClient, "default_format", "json")
