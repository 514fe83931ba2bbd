"""Real models and real photos for the tests of the vision code."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.models_fixture import built_models, real_models

__all__ = ["built_models", "real_models"]

PHOTOS = Path(__file__).resolve().parents[4] / "shared" / "data"


@pytest.fixture
def photos() -> Path:
    if not PHOTOS.is_dir():
        pytest.skip("the real photos (../shared/data) are not beside this checkout")
    return PHOTOS
