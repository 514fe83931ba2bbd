"""Faces to vectors by the package that the article uses: keras-vggface 0.6 on TensorFlow, in a process of its own.

`catalog.vision.embedders.vggface` runs the same weights without TensorFlow. These are for those who want the original,
and to compare (`make parity`). Crops are those of `vggface`; preprocessing is the package's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image as PILImage

from catalog.vision import cards
from catalog.vision.cards import CardMaker, Context, PinOptions
from catalog.vision.embedders.vggface import face_crop
from catalog.vision.errors import ModelUnavailable
from catalog.vision.originals.client import Original, checked
from catalog.vision.originals.vggface import original
from catalog.vision.types import DecodedImage, Detection
from catalog.vision.weights import LocalFile


class _KerasVggface:
    CARD: ClassVar[CardMaker]
    VERSION: ClassVar[str] = "1"
    ARCHITECTURE: ClassVar[str]

    def __init__(self, context: Context, options: PinOptions) -> None:
        self._card = self.CARD.make(options, context.models_dir)
        self._name = f"keras-vggface-{self.ARCHITECTURE}"
        self.dimension = self._card.dimension
        (source,) = self._card.weights
        assert isinstance(source, LocalFile)
        self._original: Original = original(self.ARCHITECTURE, source.path, source.sha256, threads=context.threads)

    def crop(self, image: DecodedImage, detection: Detection) -> PILImage:
        """See `vggface.face_crop`."""
        return face_crop(image, detection)

    def embed(self, crops: Sequence[PILImage]) -> NDArray[np.float32]:
        if not crops:
            return np.empty((0, self.dimension), np.float32)
        missing = self._card.problem(self._name)
        if missing:
            raise ModelUnavailable(self._name, missing)
        answer = self._original.ask("embed", crops=np.stack([np.asarray(crop) for crop in crops]))
        found = checked(self._name, answer, {"vectors": (len(crops), self.dimension)})
        return found["vectors"].astype(np.float32)


class KerasVggfaceVgg16(_KerasVggface):
    """512 numbers: the average of pool5."""

    CARD = cards.KERAS_VGGFACE_VGG16
    ARCHITECTURE = "vgg16"


class KerasVggfaceResNet50(_KerasVggface):
    """2048 numbers."""

    CARD = cards.KERAS_VGGFACE_RESNET50
    ARCHITECTURE = "resnet50"


class KerasVggfaceSeNet50(_KerasVggface):
    """2048 numbers."""

    CARD = cards.KERAS_VGGFACE_SENET50
    ARCHITECTURE = "senet50"
