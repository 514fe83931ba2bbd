"""Faces and their five landmarks by MTCNN: three networks, each with fewer and better candidates than the one before.

Zhang, Zhang, Li, Qiao: Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks, IEEE SPL
23(10), 2016. Weights and details (strides, offsets, suppression thresholds, sampling grid) as in mtcnn 1.0.0.
Boxes are float64 arrays of shape (n, 4): left, top, right, bottom, in pixels of the image given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image as PILImage

from catalog.vision import cards, networks
from catalog.vision.cards import Context, MtcnnOptions
from catalog.vision.cores import usable_cores
from catalog.vision.runtime import Session
from catalog.vision.types import Box, Detection

Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]

_CELL, _STRIDE = 12, 2  # the first network sees 12 x 12 pixels at every second pixel
_CORNERS = np.array([1, 1, _CELL, _CELL])  # of a cell as mtcnn counts it, from 1 to 12: 11 wide (generate_bounding_box)
_RNET_SIDE, _ONET_SIDE = 24, 48
_WITHIN_LEVEL, _BETWEEN_LEVELS, _AFTER_RNET, _AFTER_ONET = 0.5, 0.7, 0.7, 0.7  # overlaps that suppress
_CHUNK = 256  # candidates in one run, so that a busy image takes no more memory than another
_GREY = (127.5, 127.5, 127.5)  # beyond the frame; 0 after normalisation


@dataclass(frozen=True, slots=True)
class _Candidates:
    boxes: Floats
    scores: Floats

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> _Candidates:
        return _Candidates(self.boxes[rows], self.scores[rows])


class Mtcnn:
    CARD = cards.MTCNN
    VERSION: ClassVar[str] = CARD.version

    def __init__(self, context: Context, options: MtcnnOptions) -> None:
        # For the whole process. OpenCV's own choice is all cores, which worker processes would take from each other.
        cv2.setNumThreads(context.threads or usable_cores())
        self._options = options
        self._pnet = Session(networks.MTCNN_PNET, context)
        self._rnet = Session(networks.MTCNN_RNET, context)
        self._onet = Session(networks.MTCNN_ONET, context)

    def detect(self, image: PILImage) -> list[Detection]:
        """Faces of at least ``min_face_px`` pixels. Raises ModelUnavailable.

        Best is the largest, weighed by its score: nearly every score is above 0.99 and says that something is a face,
        not whom the image shows (a face printed on a shirt may score higher than its wearer's).
        """
        pixels: Pixels = np.asarray(image)
        candidates = self._refine(pixels, self._propose(pixels))
        if not len(candidates.boxes):
            return []
        return self._finish(pixels, candidates)

    def _propose(self, pixels: Pixels) -> _Candidates:
        """The first network over a pyramid of sizes."""
        height, width = pixels.shape[:2]
        scale = _CELL / self._options.min_face_px
        levels = [_Candidates(np.empty((0, 4)), np.empty(0))]
        while min(height, width) * scale >= _CELL:
            size = (int(width * scale), int(height * scale))
            level = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
            levels.append(self._propose_at(level, scale))
            scale *= self._options.factor
        boxes, scores = (np.concatenate([getattr(level, name) for level in levels]) for name in ("boxes", "scores"))
        return _Candidates(boxes, scores).take(suppressed(boxes, scores, _BETWEEN_LEVELS))

    def _propose_at(self, level: Pixels, scale: float) -> _Candidates:
        outputs = self._pnet.run(_planes(level[None]))
        probabilities = outputs["probabilities"][0, 1]
        rows, columns = np.nonzero(probabilities > self._options.thresholds[0])
        corners = np.stack([columns, rows, columns, rows], axis=1) * _STRIDE + _CORNERS
        offsets = outputs["offsets"][0][:, rows, columns].T * (_CELL - 1)
        boxes = (corners + offsets) / scale
        scores = probabilities[rows, columns].astype(np.float64)
        return _Candidates(boxes, scores).take(suppressed(boxes, scores, _WITHIN_LEVEL))

    def _refine(self, pixels: Pixels, candidates: _Candidates) -> _Candidates:
        """The second network over every candidate."""
        squares = _square(candidates.boxes)
        outputs = self._run(self._rnet, pixels, squares, _RNET_SIDE)
        if not outputs:
            return candidates
        probabilities = outputs["probabilities"][:, 1].astype(np.float64)
        kept = probabilities > self._options.thresholds[1]
        boxes, scores = _moved(squares, outputs["offsets"])[kept], probabilities[kept]
        return _Candidates(boxes, scores).take(suppressed(boxes, scores, _AFTER_RNET))

    def _finish(self, pixels: Pixels, candidates: _Candidates) -> list[Detection]:
        """The third network, which also places the landmarks."""
        squares = _square(candidates.boxes)
        outputs = self._run(self._onet, pixels, squares, _ONET_SIDE)
        probabilities = outputs["probabilities"][:, 1].astype(np.float64)
        landmarks = _placed(squares, outputs["landmarks"])
        kept = probabilities > self._options.thresholds[2]
        boxes, scores, landmarks = _moved(squares, outputs["offsets"])[kept], probabilities[kept], landmarks[kept]
        best = suppressed(boxes, scores, _AFTER_ONET, over_smaller=True)
        found = (_detection(boxes[row], scores[row], landmarks[row], pixels.shape) for row in best)
        faces = [detection for detection in found if detection is not None]
        return sorted(faces, key=lambda face: face.box.area * face.score, reverse=True)

    def _run(self, session: Session, pixels: Pixels, squares: Floats, side: int) -> dict[str, NDArray[np.float32]]:
        """All outputs for all squares; {} for none."""
        parts = [
            session.run(_planes(_cut(pixels, squares[start : start + _CHUNK], side)))
            for start in range(0, len(squares), _CHUNK)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else ())}


def suppressed(boxes: Floats, scores: Floats, most: float, *, over_smaller: bool = False) -> NDArray[np.intp]:
    """Rows to keep, best first: none overlaps a better one by more than ``most``, whether that one is kept or not.

    So does mtcnn (utils/bboxes.py, nms). Overlap is intersection over union, or over the smaller of the two areas.
    """
    order = np.argsort(-scores, kind="stable")
    left, top, right, bottom = boxes[order].T
    areas = (right - left) * (bottom - top)
    dropped = np.zeros(order.size, np.bool_)
    for start in range(0, order.size, _CHUNK):
        # Each of these rows with all from the first of them on; a row is compared with those before it only.
        some, rest = slice(start, start + _CHUNK), slice(start, None)
        wide = np.minimum(right[some, None], right[rest]) - np.maximum(left[some, None], left[rest])
        high = np.minimum(bottom[some, None], bottom[rest]) - np.maximum(top[some, None], top[rest])
        shared = np.clip(wide, 0, None) * np.clip(high, 0, None)
        both = areas[some, None]
        base = np.minimum(both, areas[rest]) if over_smaller else both + areas[rest] - shared
        dropped[rest] |= np.triu(shared > most * base, 1).any(axis=0)
    return order[~dropped]


def _planes(pixels: Pixels) -> NDArray[np.float32]:
    """(n, h, w, 3) bytes as (n, 3, h, w) floats 0..255."""
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=np.float32)


def _square(boxes: Floats) -> Floats:
    """Each box grown to a square around its middle."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) / 2
    return np.concatenate([middle - half, middle + half], axis=1)


def _sizes(boxes: Floats) -> Floats:
    """Widths and heights as the networks were taught them, counting both end pixels."""
    return boxes[:, 2:] - boxes[:, :2] + 1


def _moved(boxes: Floats, offsets: NDArray[np.float32]) -> Floats:
    return boxes + offsets * np.tile(_sizes(boxes), 2)


def _placed(boxes: Floats, landmarks: NDArray[np.float32]) -> Floats:
    """(n, 10) shares of the box, five x then five y, as (n, 5, 2) pixels."""
    shares = landmarks.reshape(-1, 2, 5).transpose(0, 2, 1)
    return shares * _sizes(boxes)[:, None] + boxes[:, None, :2] - 1


def _cut(pixels: Pixels, boxes: Floats, side: int) -> Pixels:
    """(n, side, side, 3) bilinear samples on the grid of TensorFlow's crop_and_resize, grey beyond the frame."""
    height, width = pixels.shape[:2]
    crops = np.empty((len(boxes), side, side, 3), np.uint8)
    shrink_x, shrink_y = (width - 1) / width, (height - 1) / height
    for crop, (left, top, right, bottom) in zip(crops, boxes, strict=True):
        step_x, step_y = (right - left) * shrink_x / (side - 1), (bottom - top) * shrink_y / (side - 1)
        grid = np.array([[step_x, 0, left * shrink_x], [0, step_y, top * shrink_y]])
        cv2.warpAffine(
            pixels,
            grid,
            (side, side),
            dst=crop,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=_GREY,
        )
    return crops


def _detection(box: Floats, score: float, landmarks: Floats, shape: tuple[int, ...]) -> Detection | None:
    """The clipped detection, None where nothing of the box lies inside the frame."""
    left, top, right, bottom = (float(value) for value in box)
    clipped = Box(left, top, right - left, bottom - top).clipped(shape[1], shape[0])
    if clipped.area <= 0:
        return None
    return Detection(clipped, float(score), tuple((float(x), float(y)) for x, y in landmarks))
