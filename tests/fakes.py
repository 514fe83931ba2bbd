"""A detector and an embedder that need no weights, by colour. They pass the contract suites of the real ones.

Use them by dotted path in VISEARCH_DETECTORS and VISEARCH_EMBEDDERS: ``tests.fakes.ColourSquares``,
``tests.fakes.MeanColour``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from django.core.files.storage import Storage
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from PIL.Image import Image as PILImage

from catalog.vision import preprocess
from catalog.vision.cards import Card, Context
from catalog.vision.types import Box, DecodedImage, Detection, ImageHeader

SATURATED = 120  # a pixel belongs to a square when its channels differ by more than this


@dataclass(frozen=True, slots=True)
class SquareOptions:
    min_side_px: int = 4


class ColourSquares:
    """Finds upright squares of one strong colour each on a grey or white ground; they must not touch."""

    CARD = Card(version="1", options=SquareOptions)
    VERSION: ClassVar[str] = CARD.version

    def __init__(self, context: Context, options: SquareOptions) -> None:
        self._least = options.min_side_px

    def detect(self, image: PILImage) -> list[Detection]:
        """Largest first; all scores are 1."""
        pixels = np.asarray(image).astype(np.int16)
        strong = pixels.max(axis=2) - pixels.min(axis=2) > SATURATED
        found = []
        while strong.any():
            box = _first_block(strong)
            strong[int(box.y) : int(box.bottom), int(box.x) : int(box.right)] = False
            if min(box.width, box.height) >= self._least:
                found.append(Detection(box, 1.0))
        return sorted(found, key=lambda detection: detection.box.area, reverse=True)


def _first_block(strong: NDArray[np.bool_]) -> Box:
    """The block whose top left pixel comes first in reading order."""
    top, left = (int(value) for value in np.argwhere(strong)[0])
    columns, rows = strong[top, left:], strong[top:, left]
    width = int(np.argmin(columns)) or len(columns)
    height = int(np.argmin(rows)) or len(rows)
    return Box(float(left), float(top), float(width), float(height))


class MeanColour:
    """The mean colour of four quarters of the box, without green: 8 numbers, 0 to 1, plus a little against zero."""

    CARD = Card(version="1", dimension=8, preprocessing={"side": 16})
    VERSION: ClassVar[str] = CARD.version

    def __init__(self, context: Context, options: object) -> None:
        self.dimension = self.CARD.dimension

    def crop(self, image: DecodedImage, detection: Detection) -> PILImage:
        box = preprocess.visible(detection.box.scaled(1 / image.scale), *image.pixels.size)
        return image.pixels.resize((16, 16), Image.Resampling.BOX, box=(box.x, box.y, box.right, box.bottom))

    def embed(self, crops: Sequence[PILImage]) -> NDArray[np.float32]:
        if not crops:
            return np.empty((0, self.dimension), np.float32)
        pixels = np.stack([np.asarray(crop, np.float32) for crop in crops])[..., [0, 2]] / 255
        quarters = pixels.reshape(len(crops), 2, 8, 2, 8, 2).mean(axis=(2, 4))
        return np.asarray(quarters.reshape(len(crops), self.dimension) + 0.01, np.float32)


def drawn_image(
    squares: Sequence[tuple[int, int, int, str]] = ((20, 30, 40, "red"),), size: tuple[int, int] = (200, 150)
) -> PILImage:
    """Squares (left, top, side, colour) on light grey."""
    image = Image.new("RGB", size, (200, 200, 200))
    draw = ImageDraw.Draw(image)
    for left, top, side, colour in squares:
        draw.rectangle((left, top, left + side - 1, top + side - 1), fill=colour)
    return image


def as_decoded(pixels: PILImage, scale: int = 1) -> DecodedImage:
    """``pixels`` as if they came from a PNG file ``scale`` times as large."""
    return DecodedImage(pixels, ImageHeader("PNG", pixels.width * scale, pixels.height * scale, 1, 1, None))


class StorageAway(Storage):
    """Nothing can be asked of it."""

    def __init__(self, location: str = "") -> None:
        self.location = location

    def open(self, name: str, mode: str = "rb") -> Any:
        raise ConnectionError("no route to it")

    save = delete = listdir = open  # type: ignore[assignment]  # all the same
