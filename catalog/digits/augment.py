"""Digits as other hands, pens and cameras would have made them, and shapes that are no digits."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from catalog.digits.rows import SIDE
from catalog.vision.mnist_form import placed

NO_DIGIT = 10  # the class of a shape that is none

# What a digit is changed by: each evenly between minus and plus so much, unless it says otherwise.
DEGREES = 12.0
SLANT = 0.25  # pixels aside for each pixel up
STRETCH = 0.1  # of each side for itself
SHIFT = 1.5  # pixels
# Pixels, standard deviation at the points of a grid of BENDS x BENDS (Simard, Steinkraus, Platt, ICDAR 2003).
BEND = 1.0
BENDS = 5
THINNER_OR_THICKER = 0.5  # share of the digits; by as much as one pixel
BLURRED, BLUR = 0.2, 0.8  # share, and the largest standard deviation in pixels

Ink = NDArray[np.uint8]
_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


def augmented(ink: Ink, random: np.random.Generator) -> Ink:
    """(n, 28, 28) like ``ink``, each a little other than it was."""
    return np.stack([_as_by_another_hand(each, random) for each in ink])


def _as_by_another_hand(ink: Ink, random: np.random.Generator) -> Ink:
    changed = _pressed(ink, random) if random.random() < THINNER_OR_THICKER else ink
    x, y = _sources(random)
    moved = cv2.remap(changed, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    if random.random() < BLURRED:
        moved = cv2.GaussianBlur(moved, (0, 0), random.uniform(0.2, BLUR))
    return np.asarray(moved, np.uint8)


def _pressed(ink: Ink, random: np.random.Generator) -> Ink:
    """With a thicker or a thinner pen."""
    thicker = random.random() < 0.6
    share = random.random() * (1.0 if thicker else 0.6)  # thin strokes must not vanish
    changed = cv2.dilate(ink, _CROSS) if thicker else cv2.erode(ink, _CROSS)
    return np.asarray(cv2.addWeighted(ink, 1 - share, changed, share, 0), np.uint8)


def _sources(random: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where each pixel of the changed digit comes from: x and y, (28, 28)."""
    angle = np.radians(random.uniform(-DEGREES, DEGREES))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    slant = np.array([[1, random.uniform(-SLANT, SLANT)], [0, 1]])
    matrix = turn @ slant @ np.diag(1 + random.uniform(-STRETCH, STRETCH, 2))
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    points = np.stack([x, y], axis=-1) @ matrix.T + random.uniform(-SHIFT, SHIFT, 2) + (SIDE - 1) / 2
    bend = random.normal(0, BEND, (BENDS, BENDS, 2)).astype(np.float32)
    points = (points + cv2.resize(bend, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)).astype(np.float32)
    return np.ascontiguousarray(points[..., 0]), np.ascontiguousarray(points[..., 1])


# --- No digits --------------------------------------------------------------------------------------------------------

_CANVAS = 96  # pixels on which a shape is drawn
_LETTERS = "AEFHKMNRTVWXYadefhkmnrtwxy?%&#@"  # those that nobody takes for a digit


def shapes(count: int, random: np.random.Generator) -> Ink:
    """(count, 28, 28): letters, figures, scribbles, blots and empty frames, placed as MNIST's digits are."""
    kinds = (_letter, _figure, _scribble, _blot, _empty)
    drawn = [kinds[random.choice(len(kinds), p=(0.3, 0.3, 0.2, 0.15, 0.05))](random) for _ in range(count)]
    frames = [placed((each / 255).astype(np.float32)) for each in drawn]
    return np.rint(np.reshape(frames, (-1, SIDE, SIDE)) * 255).astype(np.uint8)


def _letter(random: np.random.Generator) -> Ink:
    canvas = _canvas()
    letter = _LETTERS[random.integers(len(_LETTERS))]
    font = int(random.choice([cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_SCRIPT_SIMPLEX]))
    return np.asarray(cv2.putText(canvas, letter, (24, 66), font, 2, 255, int(random.integers(3, 8)), cv2.LINE_AA))


def _figure(random: np.random.Generator) -> Ink:
    """A polygon of three to six corners or an ellipse, full; or the outline of a polygon."""
    canvas, middle = _canvas(), _CANVAS // 2
    if random.random() < 0.3:
        axes = tuple(int(each) for each in random.integers(12, 40, 2))
        return np.asarray(cv2.ellipse(canvas, (middle, middle), axes, random.uniform(0, 180), 0, 360, 255, -1))
    corners = np.sort(random.uniform(0, 2 * np.pi, random.integers(3, 7)))
    reach = random.uniform(20, 42, len(corners))
    points = np.stack([np.cos(corners) * reach, np.sin(corners) * reach], axis=1).astype(np.int32) + middle
    if random.random() < 0.5:
        return np.asarray(cv2.fillPoly(canvas, [points], 255))
    return np.asarray(cv2.polylines(canvas, [points], True, 255, int(random.integers(4, 10)), cv2.LINE_AA))


def _scribble(random: np.random.Generator) -> Ink:
    points = random.integers(10, _CANVAS - 10, (random.integers(6, 12), 2)).astype(np.int32)
    canvas = _canvas()
    return np.asarray(cv2.polylines(canvas, [points], False, 255, int(random.integers(3, 8)), cv2.LINE_AA))


def _blot(random: np.random.Generator) -> Ink:
    noise = cv2.GaussianBlur(random.normal(0, 1, (_CANVAS, _CANVAS)).astype(np.float32), (0, 0), random.uniform(3, 9))
    return np.where(noise > np.quantile(noise, random.uniform(0.6, 0.9)), 255, 0).astype(np.uint8)


def _empty(_: np.random.Generator) -> Ink:
    return _canvas()


def _canvas() -> Ink:
    return np.zeros((_CANVAS, _CANVAS), np.uint8)
