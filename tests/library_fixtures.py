"""A small catalogue run by the fakes, in folders of the test's own: fixtures for conftests.

Models are imported late: conftests may be read before Django is set up.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pytest_django import Settings

if TYPE_CHECKING:
    from catalog.models import Collection


@pytest.fixture
def media(settings: Settings, tmp_path: Path) -> Path:
    """An empty media folder."""
    folder = tmp_path / "media"
    use_media(settings, folder)
    return folder


def use_media(settings: Settings, folder: Path) -> None:
    backend = "catalog.storage.AtomicFileSystemStorage"
    mine = {
        name: {"BACKEND": backend, "OPTIONS": {"location": str(folder / name)}} for name in ("originals", "renditions")
    }
    settings.STORAGES = {**settings.STORAGES, **mine}


@pytest.fixture
def fakes(media: Path, settings: Settings, tmp_path: Path) -> None:
    """The pipelines `face` (coloured squares) and `image` (the frame) without weights; indexes, models: empty."""
    from search import serving

    settings.VISEARCH_DETECTORS = {
        "squares": {"BACKEND": "tests.fakes.ColourSquares"},
        "frame": {"BACKEND": "catalog.vision.detectors.frame.Frame"},
    }
    settings.VISEARCH_EMBEDDERS = {
        name: {"BACKEND": "tests.fakes.MeanColour"} for name in ("face-colours", "image-colours")
    }
    settings.VISEARCH_PIPELINES = {
        "face": {"DETECTOR": "squares", "EMBEDDERS": ["face-colours"]},
        "image": {"DETECTOR": "frame", "EMBEDDERS": ["image-colours"]},
    }
    settings.VISEARCH_INDEXES = {
        "face": {"ENGINE": "exact", "METRIC": "l2"},
        "image": {"ENGINE": "exact", "METRIC": "cosine"},
    }
    settings.VISEARCH_INDEXES_DIR = tmp_path / "indexes"
    settings.VISEARCH_MODELS_DIR = tmp_path / "models"  # of taught heads, where a test keeps some
    serving.forget()


@pytest.fixture
def registered(db: None, fakes: None) -> None:
    """The models of both pipelines serve."""
    from catalog.embedding_models import register_models

    register_models()


@pytest.fixture
def shop(registered: None) -> Collection:
    """A public collection that runs both pipelines and lets everybody search faces."""
    from catalog.models import Collection

    return Collection.objects.create(
        name="shop", pipelines=["face", "image"], is_public=True, face_search=Collection.FaceSearch.EVERYONE
    )
