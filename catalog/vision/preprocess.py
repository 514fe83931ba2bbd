"""Pixels and geometry, without networks and without files: orientation, colour modes, sizes and crops.

Boxes and points are in pixels of the image given, origin at the top left, x to the right, y down.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Image as PILImage
from PIL.Image import Resampling, Transpose

from catalog.vision.types import Box, Point

DECODED_SIDE = 1280  # the longest side of a decoded image is never made smaller than this
LONGEST = 4  # `covered` cuts a box to its middle that is longer than so many times its width
DETECTION_SIDE = 640  # detectors see the image with its longest side at most this

Matrix = NDArray[np.float64]

# What undoes each EXIF orientation (EXIF 2.32, tag 0x0112).
_UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
_REDUCIBLE = frozenset({"L", "LA", "RGB", "RGBA", "CMYK", "YCbCr"})  # modes whose pixels may be averaged as they are
_STRIP = 1 << 19  # pixels that are worked on at once


def upright(image: PILImage, orientation: int) -> PILImage:
    """``image`` turned and mirrored as its EXIF ``orientation`` (1 to 8) asks."""
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def reduction(width: int, height: int, least: int) -> int:
    """The largest power of two by which the longest side may be divided and stay at least ``least``."""
    factor = 1
    while max(width, height) // (factor * 2) >= least:
        factor *= 2
    return factor


def reduced_rgb(image: PILImage, factor: int) -> PILImage:
    """8-bit RGB at 1/``factor`` of the size (rounded up), transparency laid on white.

    Strip by strip, so that a large image is not held twice at full size; averages before converting where the mode
    allows.
    """
    if _is_deep(image):
        image = _eight_bit(image)
    if factor == 1:
        return to_rgb(image)
    averages_first = image.mode in _REDUCIBLE and "transparency" not in image.info
    reduced = Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
    for top, strip in strips(image, factor):
        rgb = to_rgb(strip.reduce(factor)) if averages_first else to_rgb(strip).reduce(factor)
        reduced.paste(rgb, (0, top // factor))
    return reduced


def strips(image: PILImage, step: int = 1) -> Iterator[tuple[int, PILImage]]:
    """Its rows from the top, some at once (``step`` or a multiple of it): the first one's number, and the part."""
    rows = max(1, _STRIP // (image.width * step)) * step
    if rows >= image.height:
        yield 0, image
        return
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def to_rgb(image: PILImage) -> PILImage:
    """8-bit RGB from any mode but LAB. 16-bit values keep their upper byte; other ranges are stretched to 0..255."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if _is_deep(image):
        return _eight_bit(image).convert("RGB")
    if image.has_transparency_data:
        return _on_white(image.convert("RGBA"))
    return image.convert("RGB")


def _is_deep(image: PILImage) -> bool:
    return image.mode.startswith("I;16") or image.mode in ("I", "F")


def _eight_bit(image: PILImage) -> PILImage:
    """Mode L. Values within 16 bits become 0 to 255, all else is stretched from its smallest to its largest value.

    Strip by strip: as float64 a whole image of the most pixels allowed would take half a gigabyte in each step.
    """
    low, high = _stretched_range(image)
    grey = Image.new("L", image.size)
    for top, values in _values(image):
        stretched = (values - low) * (255.0 / max(high - low, 1e-12))
        grey.paste(Image.fromarray(stretched.astype(np.uint8)), (0, top))
    return grey


def _stretched_range(image: PILImage) -> tuple[float, float]:
    """What becomes 0 and what becomes 255."""
    if image.mode.startswith("I;16"):
        return 0.0, 65_280.0  # the upper byte
    ranges = [(float(values.min()), float(values.max())) for _, values in _values(image)]
    low, high = min(least for least, _ in ranges), max(most for _, most in ranges)
    return (0.0, 65_535.0) if image.mode == "I" and low >= 0 and high <= 65_535 else (low, high)


def _values(image: PILImage) -> Iterator[tuple[int, Matrix]]:
    """Of each of its `strips` the first row's number, and the values with 0 for what is not finite."""
    for top, strip in strips(image):
        yield top, np.nan_to_num(np.asarray(strip, np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def _on_white(image: PILImage) -> PILImage:
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(image, mask=image.getchannel("A"))
    return canvas


def capped(image: PILImage, side: int) -> PILImage:
    """``image`` with its longest side at most ``side`` (antialiased), itself when it is small enough."""
    if side >= max(image.size):
        return image
    return image.resize(same_shape(*image.size, side), Resampling.BILINEAR, reducing_gap=2.0)


def same_shape(width: int, height: int, side: int) -> tuple[int, int]:
    """Width and height of the same shape with the longest side at ``side``."""
    scale = side / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def visible(box: Box, width: int, height: int) -> Box:
    """``box`` clipped to the frame and at least one pixel in each direction, wherever it was drawn."""
    x = min(max(box.x, 0.0), width - 1.0)
    y = min(max(box.y, 0.0), height - 1.0)
    right = min(max(box.right, x + 1.0), float(width))
    bottom = min(max(box.bottom, y + 1.0), float(height))
    return Box(x, y, right - x, bottom - y)


def central(box: Box, longest: float) -> Box:
    """The middle of ``box``, no side of it longer than ``longest``."""
    width, height = min(box.width, longest), min(box.height, longest)
    return Box(box.x + (box.width - width) / 2, box.y + (box.height - height) / 2, width, height)


def covered(
    image: PILImage, box: Box, size: tuple[int, int], short_side: int, resampling: Resampling = Resampling.BICUBIC
) -> PILImage:
    """The middle of ``box`` as a crop of ``size`` (width, height), after resizing that keeps the box's shape.

    The box is resized until it covers ``size`` enlarged to a shorter side of ``short_side`` pixels, which must not be
    less than the shorter side of ``size``. A box longer than LONGEST times its width is cut to its middle first, so
    that nothing huge is resized.
    """
    box = central(box, LONGEST * min(box.width, box.height))
    least = [side * short_side / min(size) for side in size]
    scale = max(least[0] / box.width, least[1] / box.height)
    resized = image.resize(
        (max(round(least[0]), round(box.width * scale)), max(round(least[1]), round(box.height * scale))),
        resampling,
        box=(box.x, box.y, box.right, box.bottom),
    )
    left, top = (resized.width - size[0]) // 2, (resized.height - size[1]) // 2
    return resized.crop((left, top, left + size[0], top + size[1]))


def similarity(source: Sequence[Point], target: Sequence[Point]) -> Matrix | None:
    """The 2 x 3 rotation, uniform scale and shift that brings ``source`` nearest to ``target`` in least squares.

    None where the source points do not span a direction. Umeyama, "Least-squares estimation of transformation
    parameters between two point patterns", IEEE TPAMI 13(4), 1991; in the plane it needs no SVD.
    """
    from_points = np.array([complex(x, y) for x, y in source])
    to_points = np.array([complex(x, y) for x, y in target])
    from_centre, to_centre = from_points.mean(), to_points.mean()
    spread = float((np.abs(from_points - from_centre) ** 2).sum())
    if not np.isfinite(spread) or spread < 1e-6:
        return None
    turn = (np.conj(from_points - from_centre) * (to_points - to_centre)).sum() / spread
    if not np.isfinite(turn) or abs(turn) < 1e-6:
        return None
    shift = to_centre - turn * from_centre
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def warped(image: PILImage, matrix: Matrix, side: int) -> PILImage:
    """The ``side`` x ``side`` chip that ``matrix`` (image to chip, a similarity) cuts out, black beyond the frame.

    Where the chip is much smaller than its source, the source is averaged first, because bilinear sampling alone
    would skip pixels.
    """
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    factor = max(1, int(1 / scale))
    if factor > 1:
        area = _source_area(matrix, side, image.size, factor)
        if area is None:
            return Image.new("RGB", (side, side))
        image = image.reduce(factor, area)
        to_area = np.array([[factor, 0, area[0]], [0, factor, area[1]], [0, 0, 1]], dtype=np.float64)
        matrix = matrix @ to_area
    back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    data = tuple(float(value) for value in back.ravel())
    return image.transform((side, side), Image.Transform.AFFINE, data, Resampling.BILINEAR, fillcolor=0)


def _source_area(matrix: Matrix, side: int, size: tuple[int, int], margin: int) -> tuple[int, int, int, int] | None:
    """The part of the image under the chip, with ``margin`` pixels around it; None when it lies outside the frame."""
    back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    corners = back @ np.array([[0, side, 0, side], [0, 0, side, side], [1, 1, 1, 1]], dtype=np.float64)
    left, top = (int(value) - margin for value in np.floor(corners[:2].min(axis=1)))
    right, bottom = (int(value) + margin for value in np.ceil(corners[:2].max(axis=1)))
    area = (max(left, 0), max(top, 0), min(right, size[0]), min(bottom, size[1]))
    return area if area[0] < area[2] and area[1] < area[3] else None
