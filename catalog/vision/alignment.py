"""Where a face's chip lies in the image: by its five landmarks, or by its box alone.

Matrices are 2 x 3, from pixels of the image to pixels of the chip, and similarities.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from catalog.vision import cards, preprocess
from catalog.vision.preprocess import Matrix
from catalog.vision.types import Box, Detection, Point

_DLIB_SIDE = 150


def onto(template: Sequence[Point], face: Detection) -> Matrix:
    """What moves the face's landmarks onto ``template``, five points in pixels of the chip.

    Without landmarks, or where they coincide, the face is taken to stand upright and to fill its box as MTCNN's faces
    fill theirs.
    """
    matrix = preprocess.similarity(face.landmarks, template) if face.landmarks else None
    if matrix is not None:
        return matrix
    by_box = dlib_chip_by_box(face.box)
    if tuple(template) == cards.DLIB_TEMPLATE:
        return by_box
    between = preprocess.similarity(cards.DLIB_TEMPLATE, template)
    if between is None:  # a template whose points coincide has no size
        raise ValueError(f"the five points of a template must lie apart, not {template!r}")
    return np.asarray(between @ np.vstack([by_box, [0, 0, 1]]))


def dlib_chip_by_box(box: Box) -> Matrix:
    """Image to dlib's 150 px chip by the box alone."""
    longest = max(box.width, box.height, 1.0)
    scale = _DLIB_SIDE / (longest * cards.DLIB_BOX_SCALE)
    middle_x = box.x + box.width / 2
    middle_y = box.y + box.height / 2 + longest * cards.DLIB_BOX_SHIFT
    return np.array([[scale, 0, _DLIB_SIDE / 2 - scale * middle_x], [0, scale, _DLIB_SIDE / 2 - scale * middle_y]])
