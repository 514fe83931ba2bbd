"""Any network that somebody exported to ONNX, from its options alone (catalog.vision.onnx_options)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image as PILImage
from PIL.Image import Resampling

from catalog.vision import alignment, cards, preprocess
from catalog.vision.cards import Context
from catalog.vision.onnx_options import OnnxOptions
from catalog.vision.runtime import Session
from catalog.vision.types import Box, DecodedImage, Detection

_LEAST_NORM = 1e-12  # against a division by zero; a vector of zeros stays one


class OnnxEmbedder:
    CARD = cards.ONNX_FILE
    VERSION: ClassVar[str] = cards.ONNX_VERSION

    def __init__(self, context: Context, options: OnnxOptions) -> None:
        card = cards.ONNX_FILE.make(options, context.models_dir)
        self.dimension = card.dimension
        self._options = options
        self._session = Session(card.networks[0], context)
        self._resampling = Resampling[options.resampling.upper()]
        self._mean = np.array(options.mean, np.float32)
        self._std = np.array(options.std, np.float32)

    def crop(self, image: DecodedImage, detection: Detection) -> PILImage:
        """The crop that the options ask for, at the network's input size. What lies beyond the frame is left out of a
        box, and black in an aligned chip."""
        here = detection.scaled(1 / image.scale)
        options, size = self._options, self._options.input_size
        if options.crop == "aligned":
            return preprocess.warped(image.pixels, alignment.onto(options.template, here), size[0])
        box = preprocess.visible(_grown(here.box, options.margin), *image.pixels.size)
        if options.fit == "cover":
            return preprocess.covered(image.pixels, box, size, options.short_side, self._resampling)
        return image.pixels.resize(size, self._resampling, box=(box.x, box.y, box.right, box.bottom))

    def embed(self, crops: Sequence[PILImage]) -> NDArray[np.float32]:
        if not crops:
            return np.empty((0, self.dimension), np.float32)
        rows = self._session.run(self._input(crops))["vectors"]
        if not self._options.normalise:
            return rows
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(rows / np.maximum(norms, _LEAST_NORM), np.float32)

    def _input(self, crops: Sequence[PILImage]) -> NDArray[np.float32]:
        pixels = np.stack([np.asarray(crop) for crop in crops]).astype(np.float32)
        if self._options.colour == "BGR":
            pixels = pixels[..., ::-1]
        values = (pixels / (255 / self._options.scale) - self._mean) / self._std
        if self._options.layout == "NCHW":
            values = values.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(values, dtype=np.float32)


def _grown(box: Box, margin: float) -> Box:
    """``box`` larger by the share ``margin``, half of it on each side."""
    wide, high = box.width * margin, box.height * margin
    return Box(box.x - wide / 2, box.y - high / 2, box.width + wide, box.height + high)
