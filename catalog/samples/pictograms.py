"""Objects: the glyphs of `objects/objects.ttf` in colour on white; `objects/objects.csv` has their names and groups."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from functools import cache, partial
from itertools import zip_longest
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from catalog.samples.types import Sample
from catalog.uploads import ImageFacts

FOLDER = Path(__file__).resolve().parent / "objects"
TABLE = FOLDER / "objects.csv"
FONT = FOLDER / "objects.ttf"
LICENCE = "CC BY 4.0, Twitter, Inc. and other contributors to Twemoji"
SOURCE_URL = "https://github.com/mozilla/twemoji-colr"
SIDE_PX = 320
GLYPH_PX = 260  # the glyph's em square; the rest is ground


def read() -> Iterator[Sample]:
    """One of each group in turn, so that those that are loaded first are not all of one kind."""
    groups: dict[str, list[dict[str, str]]] = {}
    with TABLE.open(encoding="utf-8", newline="") as table:
        for row in csv.DictReader(table):
            groups.setdefault(row["label"], []).append(row)
    for turn in zip_longest(*groups.values()):
        for row in filter(None, turn):
            facts = ImageFacts(title=row["title"], label=row["label"], source_url=SOURCE_URL, licence=LICENCE)
            yield Sample(f"{row['label']}/{row['title']}.png", facts, partial(draw, row["emoji"]))


def draw(emoji: str) -> bytes:
    """A PNG of SIDE_PX x SIDE_PX: the glyph in the middle of white."""
    image = Image.new("RGB", (SIDE_PX, SIDE_PX), "white")
    left, top, right, bottom = _font().getbbox(emoji)
    corner = ((SIDE_PX - left - right) / 2, (SIDE_PX - top - bottom) / 2)
    ImageDraw.Draw(image).text(corner, emoji, font=_font(), embedded_color=True)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


@cache
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(FONT), GLYPH_PX, layout_engine=ImageFont.Layout.BASIC)
