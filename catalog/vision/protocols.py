"""The two contracts of the vision code. tests/catalog/vision/ holds the suites that every implementation passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image as PILImage

from catalog.vision.types import DecodedImage, Detection


class Detector(Protocol):
    """Finds the regions of an image that are worth a vector."""

    VERSION: ClassVar[str]  # changes when the code's output changes; part of every fingerprint

    def detect(self, image: PILImage) -> list[Detection]:
        """Pixel boxes inside ``image`` (8-bit RGB, oriented), best first; [] where there is nothing, never an error.

        Every box has an area and lies inside the frame. ``image`` is not changed. The same image gives the same list.
        """
        ...


class Embedder(Protocol):
    """Turns crops into vectors. An embedder says itself how it wants its regions cropped."""

    VERSION: ClassVar[str]  # changes when the code's output changes; part of every fingerprint
    dimension: int

    def crop(self, image: DecodedImage, detection: Detection) -> PILImage:
        """The 8-bit RGB crop this network was trained with (aligned, with margin, whole frame ...), at its input size.

        ``detection`` is in pixels of the oriented original. Pure geometry: no network runs here.
        """
        ...

    def embed(self, crops: Sequence[PILImage]) -> NDArray[np.float32]:
        """float32 of shape (len(crops), dimension), row i for crop i, as the network gives it (not normalised).

        The same crop gives the same vector in any batch (within 1e-5). No crops give shape (0, dimension).
        Raises ModelFailed where the network's output is not finite.
        """
        ...


class DerivedEmbedder(Embedder, Protocol):
    """An embedder whose vectors follow from those of another one, its base, which crops for it."""

    def from_base(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 (n, dimension) from the base's vectors (n, base's dimension), as `embed` would give them.

        Raises ModelUnavailable where its file is missing or altered.
        """
        ...
