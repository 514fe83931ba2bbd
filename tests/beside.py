"""A second model beside the one that serves, without weights, also in processes of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image as PILImage
from pytest_django.fixtures import Settings

from catalog.models import EmbeddingModel
from catalog.vision import registry
from tests.fakes import MeanColour


class Darkness(MeanColour):
    """Another network: of the same crop it makes other numbers."""

    def embed(self, crops: Sequence[PILImage]) -> NDArray[np.float32]:
        return np.asarray(2 - super().embed(crops), np.float32)


def another(settings: Settings, pipeline: str) -> EmbeddingModel:
    """A model that is derived from none, beside the serving one."""
    entry = settings.VISEARCH_PIPELINES[pipeline]
    settings.VISEARCH_EMBEDDERS = {
        **settings.VISEARCH_EMBEDDERS,
        "other": {"BACKEND": f"{Darkness.__module__}.Darkness"},
    }
    settings.VISEARCH_PIPELINES = {
        **settings.VISEARCH_PIPELINES,
        pipeline: {**entry, "EMBEDDERS": [*entry["EMBEDDERS"], "other"]},
    }
    about = registry.describe("other")
    return EmbeddingModel.objects.create(
        pipeline=pipeline, embedder="other", fingerprint=about.fingerprint, dimension=8, licence="x", source="x"
    )


def same_in_a_process(folder: Path) -> Path:
    """A VISEARCH_MODELS_FILE that says of `image` what the fixture `fakes` and `another` say."""
    path = folder / "models.toml"
    path.write_text(
        '[embedders.image-colours]\nBACKEND = "tests.fakes.MeanColour"\n'
        f'[embedders.other]\nBACKEND = "{Darkness.__module__}.Darkness"\n'
        '[pipelines.image]\nDETECTOR = "frame"\nEMBEDDERS = ["image-colours", "other"]\n'
    )
    return path
