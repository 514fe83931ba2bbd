"""Any image through the whole way: the real detector and the real embedders, whatever the file was made of."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.Image import Image as PILImage
from PIL.Image import Transpose

from catalog.vision import preprocess
from catalog.vision.decode import Limits, read_image
from catalog.vision.extract import extract
from catalog.vision.types import Box, Extraction
from tests.catalog.vision.files import HEIC, HEIC_TURNED, Made, encoded, with_exif

pytestmark = [pytest.mark.models, pytest.mark.usefixtures("real_models")]

SAMPLES = Path(__file__).resolve().parents[3] / "catalog" / "samples" / "leaders"
PORTRAIT = "Barack Obama/portrait-2012.jpg"
GALLERY = ("Barack Obama/blue-room-2010.jpg", "Barack Obama/congress-2009.jpg", "Joe Biden/blue-room-2010.jpg")


@cache
def portrait() -> PILImage:
    with Image.open(SAMPLES / PORTRAIT) as image:
        return preprocess.capped(image.convert("RGB"), 640)


def found_in(file: io.BytesIO) -> Extraction:
    return extract(read_image(file, None, Limits()), ["image", "face"])


def regions(extraction: Extraction, pipeline: str) -> list[tuple[Box, np.ndarray]]:
    return [
        (region.detection.box, next(iter(region.vectors.values())))
        for region in extraction.regions
        if region.pipeline == pipeline
    ]


# --- Formats and colours ----------------------------------------------------------------------------------------------


def animated(plugin: str) -> io.BytesIO:
    options: dict[str, Any] = {"quality": 90} if plugin == "WEBP" else {}
    blank = Image.new("RGB", portrait().size, "navy")
    return encoded(portrait(), plugin, save_all=True, append_images=[blank, blank], **options)


def transparent() -> io.BytesIO:
    image = portrait().convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, image.width, 12))
    return encoded(image, "PNG")


def sixteen_bit() -> io.BytesIO:
    return encoded(Image.fromarray(np.asarray(portrait().convert("L")).astype(np.uint16) * 257), "PNG")


MADE: dict[str, Made] = {
    "JPEG": lambda: encoded(portrait(), "JPEG", quality=90),
    "grayscale": lambda: encoded(portrait().convert("L"), "JPEG", quality=90),
    "palette": lambda: encoded(portrait().quantize(256), "PNG"),
    "CMYK": lambda: encoded(portrait().convert("CMYK"), "JPEG", quality=90),
    "16 bit": sixteen_bit,
    "alpha": transparent,
    "animated GIF": lambda: animated("GIF"),
    "animated WebP": lambda: animated("WEBP"),
    "MPO": lambda: encoded(
        portrait(), "MPO", save_all=True, append_images=[Image.new("RGB", portrait().size)], quality=90
    ),
    "TIFF": lambda: encoded(portrait(), "TIFF", compression="tiff_lzw"),
    "AVIF": lambda: encoded(portrait(), "AVIF", quality=85),
}


@pytest.fixture(scope="module")
def plain() -> Callable[[], Extraction]:
    return cache(lambda: found_in(encoded(portrait(), "PNG")))


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
def test_the_face_is_found_and_is_the_same_person(made: Made, plain: Callable[[], Extraction]) -> None:
    found = found_in(made())
    ((frame, looks),) = regions(found, "image")
    assert (frame, looks.shape) == (Box(0, 0, *portrait().size), (1280,))
    assert np.isfinite(looks).all()
    ((box, vector),) = regions(found, "face")
    ((expected, same),) = regions(plain(), "face")
    assert box.iou(expected) > 0.8
    assert np.linalg.norm(vector - same) < 0.3  # dlib: another person is beyond 0.6


@pytest.mark.parametrize("data", [HEIC, HEIC_TURNED], ids=["HEIC", "turned"])
def test_heic_is_a_whole_image(data: bytes) -> None:
    found = found_in(io.BytesIO(data))
    ((frame, looks),) = regions(found, "image")
    assert (frame.width, frame.height) == (found.width, found.height)
    assert sorted((found.width, found.height)) == [48, 64]
    assert np.isfinite(looks).all() and np.linalg.norm(looks) > 1


@pytest.mark.parametrize("size", [(1, 1), (20_000, 50), (50, 20_000), (1, 3_000), (12, 12)])
def test_any_size_is_a_whole_image(size: tuple[int, int]) -> None:
    image = portrait().resize(size)
    found = found_in(encoded(image, "PNG"))
    ((frame, looks),) = regions(found, "image")
    assert frame == Box(0, 0, *size)
    assert np.isfinite(looks).all() and np.linalg.norm(looks) > 1
    assert regions(found, "face") == []


# --- Orientations -----------------------------------------------------------------------------------------------------

# What a camera held in each way writes to the file, so that the photo comes out upright.
STORED: dict[int, Transpose | None] = {
    1: None,
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_90,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_270,
}


@pytest.fixture(scope="module")
def neighbours() -> Callable[[str], dict[str, np.ndarray]]:
    """By name the vectors of the other photos, of a pipeline."""

    def read(pipeline: str) -> dict[str, np.ndarray]:
        found = {name: found_in(io.BytesIO((SAMPLES / name).read_bytes())) for name in GALLERY}
        return {
            f"{name} {number}": vector
            for name, extraction in found.items()
            for number, (_, vector) in enumerate(regions(extraction, pipeline))
        }

    return cache(read)


@pytest.mark.parametrize("plugin", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", STORED)
def test_an_orientation_changes_neither_the_box_nor_the_nearest_neighbour(
    plugin: str,
    orientation: int,
    plain: Callable[[], Extraction],
    neighbours: Callable[[str], dict[str, np.ndarray]],
) -> None:
    stored = STORED[orientation]
    found = found_in(with_exif(portrait().transpose(stored) if stored is not None else portrait(), plugin, orientation))
    assert (found.width, found.height) == portrait().size
    for pipeline in ("image", "face"):
        ((box, vector),) = regions(found, pipeline)
        ((expected, same),) = regions(plain(), pipeline)
        moved = np.abs(
            np.subtract(
                [box.x, box.y, box.right, box.bottom], [expected.x, expected.y, expected.right, expected.bottom]
            )
        )
        assert moved.max() <= 2
        assert nearest(vector, neighbours(pipeline)) == nearest(same, neighbours(pipeline))
    ((_, face),) = regions(found, "face")
    assert nearest(face, neighbours("face")).startswith("Barack Obama")


def nearest(vector: np.ndarray, others: dict[str, np.ndarray]) -> str:
    return min(others, key=lambda name: float(np.linalg.norm(others[name] - vector)))
