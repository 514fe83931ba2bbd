"""What was written on an image: how far each pixel stands out from the ground, whatever the colours and the light.

Two ways to know the ground. Of the whole image at once: one colour or a smooth surface, which is exact for a digit that
fills its image and in light that changes slowly. Of each place by its neighbours (`inks_by_place`): what is left when
everything narrower than a stroke is closed or opened away (grey morphology: Serra, Image Analysis and Mathematical
Morphology, 1982), which knows the edge of a shadow from ink.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_SURFACE_SIDE = 40  # pixels of the small copy to which the ground is fitted
_SURFACE_ROUNDS = 12
_RIM_WEIGHT = 4.0  # how much more a pixel of the rim says about the ground than one of the middle
_WIDEST_STROKE = 0.2  # of the image's longer side: what is wider is ground to `inks_by_place`
_DETAIL = 12  # of the longer side: colours change from ink to ground within such a part of it
_SMOOTHED = 1.5, 4.0  # pixels at 480 of side: against grain in the ground, and in how bright it is
_GAINS = 0.5, 2.5  # the least and the most by which ink in another light is made as strong as elsewhere
_CLEAR = 0.85  # of the variance is between ink and ground: so clear must one colour of ground be to be taken for it
_LEAST_CONTRAST = 12.0  # of 255: less is a blank sheet with its stains
_NOISE = 3.0  # standard deviations of the ground that are not ink

Array = NDArray[np.float32]


def ink_by_surface(pixels: Array) -> Array:
    """``pixels`` (height, width, 3) to (height, width): 0 (ground) to 1 (full ink); all 0 where nothing stands out.

    The ground is what the rim and the most of the image are. So it does not matter which of the two is darker.
    """
    return _from_none_to_full(_along(pixels - _ground(pixels)))


def inks_by_place(pixels: Array) -> tuple[Array, Array]:
    """The same twice: what is darker than its surroundings, and what is lighter. One of them is the ink.

    "Dark" and "light" are the two ends of the direction in which colours change over short distances.
    """
    side = max(pixels.shape[:2])
    width = int(_WIDEST_STROKE * side) | 1
    square = np.ones((width, width), np.uint8)
    grain, light = (max(0.3, side / 480 * each) for each in _SMOOTHED)
    line = np.asarray(pixels @ _main_direction(pixels - cv2.GaussianBlur(pixels, (0, 0), side / _DETAIL)), np.float32)
    smooth = cv2.GaussianBlur(line, (0, 0), grain)
    brightness = np.linalg.norm(cv2.GaussianBlur(pixels, (0, 0), light), axis=2)
    brightness = cv2.morphologyEx(brightness, cv2.MORPH_CLOSE, square)
    gain = np.clip(np.median(brightness) / np.maximum(brightness, 1), *_GAINS)
    dark = (cv2.morphologyEx(smooth, cv2.MORPH_CLOSE, square) - line) * gain
    pale = (line - cv2.morphologyEx(smooth, cv2.MORPH_OPEN, square)) * gain
    return _from_none_to_full(dark), _from_none_to_full(pale)


def _from_none_to_full(along: NDArray[np.floating]) -> Array:
    """0 where ``along`` is no more than the ground's own noise, 1 where it is as strong as nearly all ink."""
    strong = along > _otsu(along)
    nothing = np.zeros(along.shape, np.float32)
    if not strong.any() or strong.all():
        return nothing
    full = float(np.percentile(along[strong], 90))
    ground = float(np.median(along[~strong]))
    floor = ground + _NOISE * 1.4826 * float(np.median(np.abs(along[~strong] - ground)))
    if full - ground < _LEAST_CONTRAST or full < 2 * floor:
        return nothing
    return np.asarray(np.clip((along - floor) / (full - floor), 0, 1), np.float32)


def _ground(pixels: Array) -> Array:
    """The colour that each pixel would have without ink, (height, width, 3).

    A quadratic surface for each channel, unless one colour parts ink and ground clearly and better: a digit that fills
    its image leaves too little of the ground to know its curve.
    """
    height, width = pixels.shape[:2]
    scale = min(1.0, _SURFACE_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).reshape(-1, 3).astype(np.float32)
    terms = _terms(size[1], size[0])
    surface = _fitted(small, terms, _rim(size[1], size[0]))
    colour = _colour_of_most(small)
    if _clearness(small - colour) > max(_CLEAR, _clearness(small - terms @ surface)):
        return np.broadcast_to(colour, pixels.shape)
    return np.asarray((_terms(height, width) @ surface).reshape(pixels.shape), np.float32)


def _colour_of_most(colours: Array) -> Array:
    """Of the two kinds that ``colours`` (n, 3) fall into, the median of the larger one: (3,)."""
    along = _along(colours - colours.mean(axis=0))
    first = along > _otsu(along - along.min()) + along.min()
    return np.asarray(np.median(colours[first if first.mean() > 0.5 else ~first], axis=0), np.float32)


def _fitted(colours: Array, terms: NDArray[np.float64], rim: NDArray[np.float64]) -> NDArray[np.float64]:
    """Factors of ``terms`` (n, t) that give ``colours`` (n, 3): (t, 3).

    By least absolute differences (iteratively reweighted least squares), which ink in less than half of the image does
    not bend; it begins at the rim.
    """
    weights = rim
    for _ in range(_SURFACE_ROUNDS):
        weighted = terms * weights[:, None]
        surface = np.linalg.lstsq(weighted.T @ terms, weighted.T @ colours, rcond=1e-9)[0]
        weights = (1 + (_RIM_WEIGHT - 1) * rim) / np.maximum(np.linalg.norm(colours - terms @ surface, axis=1), 0.5)
    return np.asarray(surface)


def _clearness(apart: NDArray[np.floating]) -> float:
    """The share of the variance that is between ink and ground, 0 to 1 (Otsu's criterion). ``apart``: (n, 3)."""
    along = _along(apart.astype(np.float32))
    strong = along > _otsu(along)
    variance = float(along.var())
    if not strong.any() or strong.all() or not variance:
        return 0.0
    share = float(strong.mean())
    return share * (1 - share) * float(along[strong].mean() - along[~strong].mean()) ** 2 / variance


def _along(apart: Array) -> Array:
    """``apart`` (..., 3) from the ground as one number, ink being positive: (...)."""
    along = np.asarray(apart @ _main_direction(apart), np.float32)
    return -along if np.sum(along**3) < 0 else along  # ink stands out to one side, the ground's noise to both


def _terms(height: int, width: int) -> NDArray[np.float64]:
    """1, x, y, x², xy, y² at each pixel's middle, the frame going from -1 to 1: (height * width, 6)."""
    y, x = np.meshgrid(
        (np.arange(height) + 0.5) / height * 2 - 1, (np.arange(width) + 0.5) / width * 2 - 1, indexing="ij"
    )
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1).reshape(-1, 6)


def _rim(height: int, width: int) -> NDArray[np.float64]:
    """1 in the outermost tenth of each side, 0 inside: (height * width,)."""
    rim = np.ones((height, width))
    down, across = max(1, height // 10), max(1, width // 10)
    rim[down : height - down, across : width - across] = 0
    return rim.ravel()


def _main_direction(apart: Array) -> Array:
    """The direction in colour (unit vector) in which the pixels differ most from their ground."""
    flat = apart.reshape(-1, 3).astype(np.float64)
    _values, vectors = np.linalg.eigh(flat.T @ flat)
    return vectors[:, -1].astype(np.float32)


def _otsu(values: NDArray[np.floating]) -> float:
    """The threshold between ground and ink (Otsu, IEEE Transactions on Systems, Man, and Cybernetics 9(1), 1979)."""
    top = float(values.max())
    if top <= 0:
        return 0.0
    steps = np.clip(values / top * 255, 0, 255).astype(np.uint8)
    level, _ = cv2.threshold(steps, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return float(level) / 255 * top
