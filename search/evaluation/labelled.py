"""Labelled vectors, and what was read to get them: no models, no settings."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from catalog.vision.types import Box
from search.evaluation.metrics import NotMeasurable

MOST_STORED = 100_000  # vectors that are evaluated at once; of more so many are drawn
SEED = 20  # of every draw here, so that the same vectors give the same figures
NAMED_AT_ONCE = 5  # names in a sentence, before "and so many more"


class LabelsAre(StrEnum):
    """Where labels come from."""

    FOLDERS = "the names of folders"
    IMAGES = "the labels of images"
    PEOPLE = "people"


class QueriesInCatalogue(ValueError):
    """A query's file is in the catalogue, where it would find itself."""


@dataclass(frozen=True, slots=True)
class Item:
    """What a vector is of. ``key``: the id of a region, or the path of a file. ``box``: in pixels of the oriented
    original, None for the whole frame.
    """

    key: str
    name: str
    label: str
    sha256: str
    box: Box | None = None


@dataclass(frozen=True, slots=True)
class Labelled:
    """``vectors`` float32 (n, d); row i is of ``items[i]``."""

    vectors: NDArray[np.float32]
    items: tuple[Item, ...]

    def __len__(self) -> int:
        return len(self.items)

    @property
    def labels(self) -> list[str]:
        return [item.label for item in self.items]

    @property
    def files(self) -> frozenset[str]:
        """sha256 of every file that a vector is of."""
        return frozenset(item.sha256 for item in self.items)

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Labelled:
        return Labelled(self.vectors[rows], tuple(self.items[row] for row in rows))


@dataclass(frozen=True, slots=True)
class Missed:
    """An image in which nothing was found. ``label`` is empty where labels are people: nobody knows who is on it."""

    name: str
    label: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file or region that was left out, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read from one place.

    ``what``: the place, in words. ``images``: how many were looked at. ``missed``: those in which nothing was found.
    ``left_out``: what was found and is in no figure, or could not be read. ``drawn_from``: how many there were to draw
    ``labelled`` from, 0 where all of them are in it. ``people``: keys by name, where labels are people.
    """

    what: str
    labels_are: LabelsAre
    images: int
    labelled: Labelled
    missed: tuple[Missed, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    drawn_from: int = 0
    people: Mapping[str, str] = field(default_factory=dict)

    @property
    def found(self) -> int:
        """Vectors with a label, drawn or not."""
        return self.drawn_from or len(self.labelled)


def rank_of(key: str) -> int:
    """Where a key comes in a draw; the same in every draw, so that two models' draws are of the same regions."""
    return int.from_bytes(hashlib.blake2b(f"{SEED} {key}".encode(), digest_size=8).digest(), "big")


def drawn_by_key(keys: Sequence[str], most: int) -> list[int]:
    """Ascending row numbers: all, or those of the ``most`` keys that come first by rank."""
    if len(keys) <= most:
        return list(range(len(keys)))
    return sorted(sorted(range(len(keys)), key=lambda row: rank_of(keys[row]))[:most])


def drawn(count: int, most: int) -> NDArray[np.int64]:
    """Ascending row numbers: all of ``count``, or ``most`` of them at random."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(SEED).choice(count, most, replace=False))


def check_not_empty(reading: Reading) -> None:
    """Raises NotMeasurable, saying what is missing."""
    if not len(reading.labelled):
        raise NotMeasurable(f"Nothing in {reading.what} can be evaluated: {_why_nothing(reading)}")


def check_measurable(reading: Reading) -> None:
    """Raises NotMeasurable, saying what is missing."""
    check_not_empty(reading)
    counts = Counter(reading.labelled.labels)
    if len(counts) == 1:
        one = (
            "shows one person"  # whose name no kept reason holds
            if reading.labels_are is LabelsAre.PEOPLE
            else f"carries one label, {next(iter(counts))!r}"
        )
        raise NotMeasurable(
            f"All that can be evaluated in {reading.what} {one}. "
            "Whether another one is told from it shows with two labels at least."
        )


def _why_nothing(reading: Reading) -> str:
    if not reading.images:
        return "it holds no images."
    reasons = Counter(each.reason for each in reading.left_out)
    reasons["nothing was found in it"] += len(reading.missed)
    said = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3) if count)
    return f"of {reading.images} images none is left ({said})."


def check_apart(queries: Labelled, catalogue: Labelled) -> None:
    """Raises QueriesInCatalogue, naming them, where a query's file is also in the catalogue."""
    stored = {item.sha256: item.name for item in catalogue.items}
    both = {item.name: stored[item.sha256] for item in queries.items if item.sha256 in stored}
    if both:
        pairs = [f"{query} (there {name})" if query != name else query for query, name in both.items()]
        raise QueriesInCatalogue(in_both(pairs))


def in_both(pairs: Sequence[str]) -> str:
    """What is wrong with queries whose files are in the catalogue, too."""
    return (
        f"{len(pairs)} of the queries are the very files of the catalogue and would find themselves: "
        f"{some_of(pairs)}. Take them out of one side."
    )


def some_of(names: Sequence[str]) -> str:
    """The first few of these names, and how many more there are."""
    shown = ", ".join(names[:NAMED_AT_ONCE])
    more = len(names) - NAMED_AT_ONCE
    return f"{shown} and {more} more" if more > 0 else shown
