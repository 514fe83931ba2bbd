"""Faces by the package that the article uses: mtcnn 1.0.0 on TensorFlow, in a process of its own.

`catalog.vision.detectors.mtcnn` runs the same weights without TensorFlow, several times faster. This one is for those
who want the original, and to compare (`make parity`).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from PIL.Image import Image as PILImage

from catalog.vision import cards
from catalog.vision.cards import Context, MtcnnTensorflowOptions
from catalog.vision.errors import ModelUnavailable
from catalog.vision.originals.client import Original, checked
from catalog.vision.types import Box, Detection

_NAME = "mtcnn-tensorflow"
PROGRAM = "catalog.vision.originals.programs.mtcnn_tensorflow"
_CELL = 12  # what the first network looks at


class MtcnnTensorflow:
    CARD = cards.MTCNN_TENSORFLOW
    VERSION: ClassVar[str] = CARD.version

    def __init__(self, context: Context, options: MtcnnTensorflowOptions) -> None:
        self._options = options
        self._has_weights = False
        self._original = Original(_NAME, PROGRAM, threads=context.threads, stateless=True)

    def detect(self, image: PILImage) -> list[Detection]:
        """Faces of at least ``min_face_px`` pixels, largest first as by `mtcnn.Mtcnn`.

        Raises ModelUnavailable, also where the package's own weights are not those of the card, and ModelFailed where
        the package cannot be run on this image.
        """
        if min(image.size) < _CELL:
            return []
        missing = self.CARD.problem(_NAME)
        if missing:
            raise ModelUnavailable(_NAME, missing)
        self._check_weights()
        answer = self._original.ask(
            "detect",
            image=np.asarray(image),
            min_face_px=np.array(self._options.min_face_px),
            factor=np.array(self._options.factor),
            thresholds=np.array(self._options.thresholds),
        )
        found = checked(_NAME, answer, {"boxes": (None, 4), "scores": (None,), "landmarks": (None, 10)})
        faces = (
            _detection(box, score, points, image.size)
            for box, score, points in zip(
                found["boxes"].tolist(), found["scores"].tolist(), found["landmarks"].tolist(), strict=True
            )
        )
        return sorted(
            (face for face in faces if face.box.area > 0), key=lambda face: face.box.area * face.score, reverse=True
        )

    def _check_weights(self) -> None:
        """Once: they are in the fingerprint, and the package reads them by itself."""
        if not self._has_weights:
            for source in self.CARD.weights:
                source.read()
            self._has_weights = True


def _detection(box: list[float], score: float, points: list[float], size: tuple[int, int]) -> Detection:
    left, top, right, bottom = box
    landmarks = tuple(zip(points[:5], points[5:], strict=True))
    return Detection(Box(left, top, right - left, bottom - top).clipped(*size), min(score, 1.0), landmarks)
