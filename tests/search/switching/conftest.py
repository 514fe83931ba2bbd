from __future__ import annotations

import pytest
from django.core.cache import cache
from pytest_django.fixtures import Settings

from catalog.models import Collection, EmbeddingModel
from tests.beside import another


@pytest.fixture(autouse=True)
def nothing_reported() -> None:
    cache.clear()


@pytest.fixture
def other(shop: Collection, settings: Settings) -> EmbeddingModel:
    """Beside the model that serves `image`."""
    return another(settings, "image")
