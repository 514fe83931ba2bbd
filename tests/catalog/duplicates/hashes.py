"""Images with perceptual hashes that tests choose."""

from __future__ import annotations

import random
from typing import Any

from catalog.models import Collection, Image
from tests.cast import make_image

_BITS = 64


def some_hash(seed: int) -> int:
    """Signed, as the database keeps it, with half of its bits set; two seeds are far from each other."""
    bits = random.Random(seed).sample(range(_BITS), _BITS // 2)
    return signed(sum(1 << bit for bit in bits))


def flipped(phash: int, *bits: int) -> int:
    """With these bits turned over."""
    return signed((phash ^ sum(1 << bit for bit in bits)) % (1 << _BITS))


def signed(number: int) -> int:
    return number - (1 << _BITS) if number >> (_BITS - 1) else number


def hashed_image(collection: Collection, phash: int | None, mirrored: int | None = None, **facts: Any) -> Image:
    """A row without files; its mirror image looks like nothing else unless ``mirrored`` says so."""
    if mirrored is None and phash is not None:
        mirrored = some_hash(phash)
    return make_image(collection, phash=phash, phash_mirrored=mirrored, **facts)
