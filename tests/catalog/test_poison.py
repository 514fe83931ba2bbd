"""An image that kills whatever process works on it: it is not tried for ever, and takes no others along."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL.Image import Image as PILImage
from pytest_django.fixtures import Settings

from catalog.embedding_models import register_models
from catalog.models import Collection, Image, IntakeLine
from tests.drawn import image_file
from tests.fakes import MeanColour
from tests.library import put_image, run_python

pytestmark = pytest.mark.django_db(transaction=True)


class DiesOfRed(MeanColour):
    """A network of an operator's own that crashes on some images, as a bug in C or a lack of memory does it."""

    def embed(self, crops: Sequence[PILImage]) -> NDArray[np.float32]:
        vectors = super().embed(crops)
        if any(red > 0.8 and blue < 0.2 for red, blue, *_ in vectors):
            os.kill(os.getpid(), signal.SIGKILL)
        return vectors


MODELS = f"""
[embedders.image-colours]
BACKEND = "{DiesOfRed.__module__}.{DiesOfRed.__name__}"
[pipelines.image]
DETECTOR = "frame"
EMBEDDERS = ["image-colours"]
"""
WORKS = """
from catalog.processing import process_batch
while process_batch():
    pass
"""
ENDED_WELL = 0


@pytest.fixture
def gallery(fakes: None, settings: Settings) -> Collection:
    settings.VISEARCH_EMBEDDERS = settings.VISEARCH_EMBEDDERS | {
        "image-colours": {"BACKEND": f"{DiesOfRed.__module__}.{DiesOfRed.__name__}"}
    }
    register_models()
    return Collection.objects.create(name="shop", pipelines=["image"])


def test_an_image_that_kills_its_worker_fails_after_three_tries(
    gallery: Collection, media: Path, tmp_path: Path
) -> None:
    models = tmp_path / "models.toml"
    models.write_text(MODELS)
    for name, colour in {"a": (0, 0, 9), "poison": (250, 0, 0), "b": (0, 9, 9), "c": (9, 0, 90)}.items():
        put_image(gallery, image_file(colour), f"{name}.jpg")
    ends = [run_python(WORKS, media, VISEARCH_LEASE_SECONDS="-1", VISEARCH_MODELS_FILE=str(models)) for _ in range(4)]
    assert [end.returncode for end in ends] == [-signal.SIGKILL] * 3 + [ENDED_WELL], ends[-1].stderr
    assert dict(Image.objects.values_list("original_name", "status")) == {
        **dict.fromkeys(["a.jpg", "b.jpg", "c.jpg"], "ready"),
        "poison.jpg": "failed",
    }
    poison = IntakeLine.objects.get(source="poison.jpg")
    assert (poison.verdict, poison.code) == ("failed", "processing-failed")
    assert "died on this image 3 times" in poison.reason
