"""World leaders: photographs beside this file, and `leaders.csv`, which says who and what they are and whose."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from catalog.samples.types import Sample
from catalog.uploads import ImageFacts

FOLDER = Path(__file__).resolve().parent / "leaders"
TABLE = FOLDER / "leaders.csv"


def read() -> Iterator[Sample]:
    with TABLE.open(encoding="utf-8", newline="") as table:
        for row in csv.DictReader(table):
            facts = ImageFacts(
                title=row["title"], label=row["person"], source_url=row["source_url"], licence=row["licence"]
            )
            yield Sample(row["file"], facts, partial((FOLDER / row["file"]).read_bytes), row["person"])
