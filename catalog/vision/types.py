"""What goes in and out of the vision code: frozen, Django-free, nothing but numpy and PIL inside.

Coordinates are pixels of the *oriented original*: the full-size image after its EXIF orientation has been applied,
origin at the top left, x to the right, y down. Whoever works on a smaller copy scales back before returning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image as PILImage

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels: top left corner, width and height, all floats."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height

    @property
    def area(self) -> float:
        return max(self.width, 0.0) * max(self.height, 0.0)

    def scaled(self, factor: float) -> Box:
        return Box(self.x * factor, self.y * factor, self.width * factor, self.height * factor)

    def clipped(self, width: float, height: float) -> Box:
        """The part of this box inside a frame of ``width`` by ``height`` pixels; its area may be 0."""
        x, y = min(max(self.x, 0.0), width), min(max(self.y, 0.0), height)
        right, bottom = min(max(self.right, 0.0), width), min(max(self.bottom, 0.0), height)
        return Box(x, y, max(right - x, 0.0), max(bottom - y, 0.0))

    def iou(self, other: Box) -> float:
        """Intersection over union, 0 to 1."""
        wide = min(self.right, other.right) - max(self.x, other.x)
        high = min(self.bottom, other.bottom) - max(self.y, other.y)
        if wide <= 0 or high <= 0:
            return 0.0
        shared = wide * high
        return shared / (self.area + other.area - shared)


@dataclass(frozen=True, slots=True)
class Detection:
    """One region worth a vector.

    ``score`` is the detector's own confidence, 0 to 1 (never a similarity). ``landmarks`` are five points of a face in
    the order left eye, right eye, nose, left mouth corner, right mouth corner (left as seen in the image), or None.
    """

    box: Box
    score: float
    landmarks: tuple[Point, ...] | None = None

    def scaled(self, factor: float) -> Detection:
        landmarks = self.landmarks and tuple((x * factor, y * factor) for x, y in self.landmarks)
        return Detection(self.box.scaled(factor), self.score, landmarks)


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What a file says of itself before a single pixel is decoded. ``width`` and ``height`` are oriented."""

    format: str  # a key of catalog.vision.formats.FORMATS: "JPEG", "PNG", ...
    width: int
    height: int
    frames: int
    orientation: int  # EXIF 1 to 8
    taken_at: str | None  # EXIF DateTimeOriginal as "YYYY:MM:DD HH:MM:SS", no time zone


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """An image decoded and oriented once; every later step works on ``pixels``.

    ``pixels`` is 8-bit RGB, possibly smaller than the original (its longest side is then at least 1280 px);
    ``scale`` is the original's size over ``pixels``' size, so box_in_original = box_in_pixels.scaled(scale).
    """

    pixels: PILImage
    header: ImageHeader

    @property
    def scale(self) -> float:
        return max(self.header.width, self.header.height) / max(self.pixels.size)


@dataclass(frozen=True, slots=True)
class ExtractedRegion:
    """A detection with its vectors: embedder name to float32 of shape (dimension,), as the network gives it."""

    pipeline: str
    detection: Detection
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Extraction:
    """All that the vision code has to say about one image. Regions are grouped by pipeline, best first within one."""

    width: int
    height: int
    regions: tuple[ExtractedRegion, ...]
