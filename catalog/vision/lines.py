"""Ruled and squared paper: its lines taken out of what was written on it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_SIDE = 240  # pixels of the copy in which lines are looked for
_SMALLEST = 100  # pixels: a smaller image shows no paper, and its strokes are as thin as lines
_REACH = 3  # pixels in which the strongest is looked for
_LENGTH = 0.55  # of the frame: a straight stroke of a digit is shorter, or thicker than a line
_THICKEST = 9  # pixels of the copy
_TILT = 0.06  # pixels down for each pixel aside
_FAINTEST = 0.08  # of full ink
_AS_THE_LINE = 1.35, 0.05  # times the line's strength and as much more: what is stronger was written across it
_GAP = 120  # of the longer side: what a line was taken out of is closed over such a part of it

Array = NDArray[np.float32]


def without_lines(ink: Array) -> Array:
    """``ink`` (height, width), 0 to 1, without long thin straight lines that are nearly upright or level.

    What crosses them stays where it is stronger, and is mended where it is not.
    """
    if max(ink.shape) < _SMALLEST:
        return ink
    lines = _lines(ink)
    times, more = _AS_THE_LINE
    gone = (lines > _FAINTEST) & (ink < times * lines + more)
    rest = np.where(gone, 0, ink).astype(np.float32)
    reach = 2 * max(1, round(max(ink.shape) / _GAP)) + 1
    round_ = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    return np.where(gone, cv2.morphologyEx(rest, cv2.MORPH_CLOSE, round_), rest).astype(np.float32)


def _lines(ink: Array) -> Array:
    """How strong the strongest line through each pixel is: the least ink along it."""
    height, width = ink.shape
    scale = min(1.0, _SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    strongest = cv2.dilate(ink, np.ones((_REACH, _REACH), np.uint8))  # a mean would halve a line between two pixels
    small = np.asarray(cv2.resize(strongest, size, interpolation=cv2.INTER_NEAREST), np.float32)
    found = np.maximum(_level_lines(small), _level_lines(np.ascontiguousarray(small.T)).T)
    return np.asarray(cv2.resize(cv2.dilate(found, np.ones((3, 3), np.uint8)), (width, height)), np.float32)


def _level_lines(ink: Array) -> Array:
    """Openings with a row of pixels, of ``ink`` sheared so that each of some tilts becomes level."""
    height, width = ink.shape
    wide = cv2.dilate(ink, np.ones((3, 1), np.uint8))  # so that three pixels of tilt need one shear
    row, column = np.ones((1, int(_LENGTH * width) | 1), np.uint8), np.ones((_THICKEST, 1), np.uint8)
    found = np.zeros_like(ink)
    most = int(_TILT * width) // 3
    for tilt in range(-most, most + 1):
        shear = np.array([[1, 0, 0], [tilt * 3 / width, 1, -tilt * 1.5]], np.float32)
        level = cv2.warpAffine(
            wide,
            shear,
            (width, height),
            flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        opened = cv2.morphologyEx(level, cv2.MORPH_OPEN, row)
        if opened.max(initial=0) < _FAINTEST:
            continue
        thick = cv2.morphologyEx(level, cv2.MORPH_OPEN, column) >= 0.6 * opened
        thin = np.where(thick, 0, opened).astype(np.float32)
        found = np.maximum(found, cv2.warpAffine(thin, shear, (width, height), flags=cv2.INTER_NEAREST))
    return found
