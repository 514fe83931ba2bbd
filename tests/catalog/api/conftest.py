"""Fixtures of the API's tests. Models are imported late: this file may be read before Django is set up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.core.cache import cache

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
