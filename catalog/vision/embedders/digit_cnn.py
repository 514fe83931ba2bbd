"""Handwritten digits to 64 numbers on the unit sphere: the same digit, whoever wrote it, is near."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Image as PILImage

from catalog.vision import cards, networks, preprocess
from catalog.vision.cards import Context, NoOptions
from catalog.vision.mnist_form import mnist_form
from catalog.vision.runtime import Session
from catalog.vision.types import DecodedImage, Detection


class DigitCnn:
    CARD = cards.DIGIT_CNN
    VERSION: ClassVar[str] = CARD.version

    def __init__(self, context: Context, options: NoOptions) -> None:
        self.dimension = self.CARD.dimension
        self._session = Session(networks.DIGIT_CNN, context)

    def crop(self, image: DecodedImage, detection: Detection) -> PILImage:
        """The digit of the box in MNIST's form, 28 x 28 px, its three channels alike (catalog.vision.mnist_form)."""
        box = preprocess.visible(detection.box.scaled(1 / image.scale), *image.pixels.size)
        corners = (round(box.x), round(box.y), round(box.right), round(box.bottom))
        part = image.pixels.crop(
            (corners[0], corners[1], max(corners[2], corners[0] + 1), max(corners[3], corners[1] + 1))
        )
        return Image.fromarray(mnist_form(part)).convert("RGB")

    def embed(self, crops: Sequence[PILImage]) -> NDArray[np.float32]:
        if not crops:
            return np.empty((0, self.dimension), np.float32)
        ink = np.stack([np.asarray(crop)[..., 0] for crop in crops])
        return self._session.run(ink[:, None].astype(np.float32))["vectors"]
