"""How alike two images look: perceptual hashes that survive resizing, compressing and slight retouching.

pHash as imagehash 4.3 computes it: 32 x 32 grey values, their cosine transform, of its 8 x 8 lowest frequencies whether
each is above the median. Loads scipy at the first image.
"""

from __future__ import annotations

import imagehash
import numpy as np
from PIL.Image import Image as PILImage
from PIL.Image import Resampling, Transpose

_SIDE = 32  # of what imagehash reduces an image to, here once for the image and its mirror
_GAP = 3.0  # images are averaged to three times that side first, which costs a third and turns hardly a bit
_FLAT = 8  # grey values from the darkest to the brightest: where nothing is to be seen, nothing looks alike
_SIGNED = 1 << 63


def hashes(image: PILImage) -> tuple[int, int] | None:
    """The hash of an image and that of its mirror, 64 bits each, as signed numbers (Postgres has no others).

    None where it is of one colour all over: all such would look alike.
    """
    grey = image.convert("L").resize((_SIDE, _SIDE), Resampling.LANCZOS, reducing_gap=_GAP)
    values = np.asarray(grey)
    if int(values.max()) - int(values.min()) < _FLAT:
        return None
    return _signed(grey), _signed(grey.transpose(Transpose.FLIP_LEFT_RIGHT))


def distance(one: int, other: int) -> int:
    """In how many of their 64 bits two hashes differ."""
    return ((one ^ other) & (2 * _SIGNED - 1)).bit_count()


def _signed(grey: PILImage) -> int:
    number = int(str(imagehash.phash(grey)), 16)
    return number - 2 * _SIGNED if number >= _SIGNED else number
