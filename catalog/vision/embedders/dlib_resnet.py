"""Faces to 128 numbers by dlib's ResNet: the same person is nearer than about 0.6 in Euclidean distance.

Crops as dlib's get_face_chip does (150 px, padding 0.25), aligned by five landmarks in place of dlib's own predictor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image as PILImage

from catalog.vision import alignment, cards, networks, preprocess
from catalog.vision.cards import Context, NoOptions
from catalog.vision.runtime import Session
from catalog.vision.types import DecodedImage, Detection

_SIDE = 150


class DlibResnet:
    CARD = cards.DLIB_RESNET
    VERSION: ClassVar[str] = CARD.version

    def __init__(self, context: Context, options: NoOptions) -> None:
        self.dimension = self.CARD.dimension
        self._session = Session(networks.DLIB_RESNET, context)

    def crop(self, image: DecodedImage, detection: Detection) -> PILImage:
        """The 150 px chip: landmarks moved onto the template by a similarity, black beyond the frame.

        Without landmarks (a box drawn by hand) the face is taken to stand upright and to fill the box as MTCNN's
        faces fill theirs.
        """
        matrix = alignment.onto(cards.DLIB_TEMPLATE, detection.scaled(1 / image.scale))
        return preprocess.warped(image.pixels, matrix, _SIDE)

    def embed(self, crops: Sequence[PILImage]) -> NDArray[np.float32]:
        if not crops:
            return np.empty((0, self.dimension), np.float32)
        pixels = np.stack([np.asarray(crop) for crop in crops])
        return self._session.run(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=np.float32))["vectors"]
