"""What is made of a file before it is kept, where a job asks for it: ``longest:1024`` or ``square:512``.

``longest``: no side longer than that; a smaller image keeps its file as it is. ``square``: exactly so many pixels each
way, as the article's 512 x 512. The article stretches every photo to that; here it keeps its shape, as faces that were
bent are recognised worse, and loses nothing at its edges: it is fitted in, a small one enlarged, on white.

The result is upright and has no metadata. Formats of photographs (JPEG, HEIC, AVIF) become JPEG at quality 92 with all
of its colours (4:4:4: what was reduced has detail in every pixel); the others, which may hold drawings, a PNG, which
loses nothing, and which every program reads.
"""

from __future__ import annotations

import io
import math
import re

from PIL import Image
from PIL.Image import Image as PILImage
from PIL.Image import Resampling

from catalog.vision import preprocess
from catalog.vision.types import DecodedImage, ImageHeader

LONGEST, SQUARE = "longest", "square"
LEAST_SIDE, MOST_SIDE = 64, 2048
QUALITY = 92
_RULE = re.compile(rf"({LONGEST}|{SQUARE}):(\d{{1,5}})")
_OF_PHOTOGRAPHS = frozenset({"JPEG", "HEIC", "AVIF"})


def check_rule(text: str, most_pixels: int | None = None) -> tuple[str, int] | None:
    """The rule and its side in pixels, None for "". Raises ValueError with a sentence for whoever wrote it.

    ``most_pixels``: that an image may have here, so that a rule that makes larger ones is none.
    """
    if not text:
        return None
    rule = _RULE.fullmatch(text)
    if rule is None or not LEAST_SIDE <= int(rule[2]) <= MOST_SIDE:
        raise ValueError(
            f"{text!r} says nothing of how to normalise images. Write {LONGEST}:1024 for the longest side or "
            f"{SQUARE}:512 for an exact square, of {LEAST_SIDE} to {MOST_SIDE} pixels, or nothing."
        )
    kind, side = rule[1], int(rule[2])
    if kind == SQUARE and most_pixels is not None and side**2 > most_pixels:
        raise ValueError(
            f"{text!r} makes images of {side**2:,} pixels, {most_pixels:,} are the most that one may have here. Take a "
            f"square of {math.isqrt(most_pixels)} at the most, or raise VISEARCH_MAX_PIXELS."
        )
    return kind, side


def least_side(rule: str) -> int:
    """How long the longest side of the pixels must be at least that `normalised` gets, if the image has as many."""
    found = check_rule(rule)
    return max(preprocess.DECODED_SIDE, found[1] if found else 0)


def normalised(image: DecodedImage, rule: str) -> tuple[bytes, ImageHeader] | None:
    """A file made of ``image`` by ``rule``, and its header; None where the file as it came will do.

    The header keeps the time of the photo, which the file no longer says. Raises ValueError for a bad rule.
    """
    found = check_rule(rule)
    if found is None:
        return None
    kind, side = found
    if kind == LONGEST and max(image.header.width, image.header.height) <= side:
        return None
    pixels = _fitted(image.pixels, side) if kind == SQUARE else _shrunk(image, side)
    name = "JPEG" if image.header.format in _OF_PHOTOGRAPHS else "PNG"
    out = io.BytesIO()
    pixels.save(out, name, quality=QUALITY, subsampling=0)  # a PNG has neither
    return out.getvalue(), ImageHeader(name, *pixels.size, 1, 1, image.header.taken_at)


def _shrunk(image: DecodedImage, side: int) -> PILImage:
    """The original's shape, its longest side at ``side``."""
    size = preprocess.same_shape(image.header.width, image.header.height, side)
    return image.pixels.resize(size, Resampling.LANCZOS)


def _fitted(pixels: PILImage, side: int) -> PILImage:
    size = preprocess.same_shape(*pixels.size, side)
    square = Image.new("RGB", (side, side), "white")
    square.paste(pixels.resize(size, Resampling.LANCZOS), ((side - size[0]) // 2, (side - size[1]) // 2))
    return square
