"""An embedder that was taught: the crops and vectors of its base, moved by a head (catalog.vision.heads)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image as PILImage

from catalog.vision import heads
from catalog.vision.cards import Context
from catalog.vision.heads import Head
from catalog.vision.protocols import Embedder
from catalog.vision.runtime import Session
from catalog.vision.types import DecodedImage, Detection


class TaughtEmbedder:
    VERSION: ClassVar[str] = heads.VERSION

    def __init__(self, context: Context, head: Head, base: Embedder) -> None:
        self.dimension = head.dimension
        self._base = base
        self._session = Session(head, context)

    def crop(self, image: DecodedImage, detection: Detection) -> PILImage:
        return self._base.crop(image, detection)

    def embed(self, crops: Sequence[PILImage]) -> NDArray[np.float32]:
        return self.from_base(self._base.embed(crops))

    def from_base(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """See catalog.vision.protocols.DerivedEmbedder."""
        if not len(vectors):
            return np.empty((0, self.dimension), np.float32)
        return self._session.run(np.ascontiguousarray(vectors, dtype=np.float32))["vectors"]
