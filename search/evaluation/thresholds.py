"""Distances below which two are taken for the same, chosen at false match rates, with how sure one can be of them.

Pairs of one image share its vector, so they are not independent and an exact binomial interval over pairs would be far
too narrow. Intervals are the 2.5th and 97.5th percentile of a bootstrap that draws whole labels with replacement
(the subsets bootstrap: Bolle, Ratha, Pankanti, Error analysis of pattern recognition systems, CVIU 93, 2004) where
there are labels enough to stand for others, and else whole images (the vertex bootstrap: Snijders, Borgatti,
Non-parametric standard errors and tests for network statistics, Connections 22, 1999), which says nothing about labels
not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.engines.types import Metric
from search.engines.vectors import distance_table
from search.evaluation.labelled import SEED, Labelled, drawn
from search.evaluation.metrics import codes_of

SAME_RATE, NEAR_RATE = 0.01, 0.1  # what *same* and *near* of a model are chosen at, unless somebody says otherwise
RATES = (0.001, SAME_RATE, NEAR_RATE)
MOST_ROWS = 2_000  # vectors of a side that pairs are made of: 2 million pairs, 32 MB
REPLICATES = 200
LABELS_ENOUGH = 20
FEW_PAIRS = 10  # a threshold that so few pairs are within is near what any one of them happens to be
MOST_WITHOUT = 0.05  # of the replicates; where more have too few pairs, those left would make it look sure


class ChosenOnQueries(ValueError):
    """A threshold is to be reported on files that it was chosen on."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """The largest distance at which at most ``rate`` of the pairs of two labels are within it.

    ``low`` and ``high``: its 95 % interval, None where many replicates have too few pairs. All three are None where
    there are fewer than 1 / ``rate`` pairs, or where more than that share of them are the nearest alike. ``rests_on``:
    how many pairs may be within it.
    """

    rate: float
    distance: float | None
    low: float | None
    high: float | None
    rests_on: int = 0


@dataclass(frozen=True, slots=True)
class Choice:
    """Thresholds and what they were chosen on: ``pairs`` of two labels among ``images`` of ``labels`` labels.

    ``resampled`` is "labels" or "images", what the intervals were drawn over. ``files``: sha256 of those images.
    """

    thresholds: tuple[Threshold, ...]
    pairs: int
    images: int
    labels: int
    resampled: str
    files: frozenset[str]

    def at(self, rate: float) -> float | None:
        return next((each.distance for each in self.thresholds if each.rate == rate), None)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Distances of pairs of one label and of pairs of two, each float64 and ascending."""

    same: NDArray[np.float64]
    different: NDArray[np.float64]


def choose(labelled: Labelled, metric: Metric, rates: Sequence[float] = RATES) -> Choice:
    """Thresholds over all pairs of these vectors; of more than MOST_ROWS so many are drawn."""
    some = sampled(labelled, MOST_ROWS)
    codes = codes_of(some.labels)
    apart = _pairs_of_two_labels(some, codes, metric)
    labels = int(codes.max()) + 1 if len(codes) else 0
    over_labels = labels >= LABELS_ENOUGH
    units = codes if over_labels else codes_of([item.sha256 for item in some.items])
    replicates = _drawn_thresholds(apart, units, rates)
    return Choice(
        thresholds=tuple(
            _with_interval(rate, apart.distances, replicates[:, number]) for number, rate in enumerate(rates)
        ),
        pairs=len(apart.distances),
        images=len(some.files),
        labels=labels,
        resampled="labels" if over_labels else "images",
        files=some.files,
    )


def check_not_chosen_on(choice: Choice, queries: Labelled) -> None:
    """Raises ChosenOnQueries: a threshold looks better than it is on what it was chosen on."""
    shared = [item.name for item in queries.items if item.sha256 in choice.files]
    if shared:
        raise ChosenOnQueries(
            f"The thresholds were chosen on {len(shared)} of the images that they are to be reported on ({shared[0]})."
        )


def pairs_of(queries: Labelled, stored: Labelled, metric: Metric) -> Pairs:
    """Every query with every stored vector; of more than MOST_ROWS on a side so many are drawn.

    Pairs of one label are few beside all others, so a query has those with every stored vector of its label, up to
    MOST_ROWS of them.
    """
    queries = sampled(queries, MOST_ROWS)
    some = sampled(stored, MOST_ROWS)
    codes = codes_of([*queries.labels, *some.labels])
    apart = codes[: len(queries), None] != codes[None, len(queries) :]
    different = distance_table(queries.vectors, some.vectors, metric)[apart]
    return Pairs(np.sort(_alike(queries, stored, metric)), np.sort(different))


def _alike(queries: Labelled, stored: Labelled, metric: Metric) -> NDArray[np.float64]:
    """Distances of all pairs of one label, by label."""
    codes = codes_of([*queries.labels, *stored.labels])
    of_queries, of_stored = codes[: len(queries)], codes[len(queries) :]
    order = np.argsort(of_stored, kind="stable")
    starts = np.searchsorted(of_stored[order], np.arange(int(codes.max(initial=-1)) + 2))
    found = [np.empty(0)]
    for code in np.unique(of_queries):
        rows = order[starts[code] : starts[code + 1]]
        rows = rows[drawn(len(rows), MOST_ROWS)]
        asking = queries.vectors[of_queries == code]
        found.append(distance_table(asking, stored.vectors[rows], metric).ravel())
    return np.concatenate(found)


def halves(labelled: Labelled) -> tuple[Labelled, Labelled]:
    """Of every label's images about half each, in the order of their sha256, which is nobody's choice.

    All vectors of an image are in one half. Images of a label with a single one are in the first.
    """
    half: dict[str, int] = {}
    turn: dict[str, int] = {}
    for item in sorted(labelled.items, key=lambda item: (item.label, item.sha256)):
        if item.sha256 not in half:
            half[item.sha256] = turn.get(item.label, 0)
            turn[item.label] = 1 - half[item.sha256]
    sides = np.array([half[item.sha256] for item in labelled.items], dtype=np.int64)
    return labelled.take(np.flatnonzero(sides == 0)), labelled.take(np.flatnonzero(sides == 1))


def sampled(labelled: Labelled, most: int) -> Labelled:
    """All of them, or ``most`` drawn at random, in their order."""
    return labelled if len(labelled) <= most else labelled.take(drawn(len(labelled), most))


def threshold_at(distances: NDArray[np.float64], allowed: float) -> float | None:
    """The middle between the last of the ascending ``distances`` that may be within it and the first that may not.

    ``allowed``: how many may be. None where it is less than one, or where they are equally far, so that none may be.
    """
    within = int(np.floor(allowed + 1e-9))  # 0.01 * 100 is a bit less than 1
    if within < 1 or within >= len(distances):
        return None
    first_beyond = distances[within]
    last_within = int(np.searchsorted(distances, first_beyond, side="left"))  # fewer where several are equally far
    return float((distances[last_within - 1] + first_beyond) / 2) if last_within else None


@dataclass(frozen=True, slots=True)
class _Apart:
    """Pairs of two labels by ascending distance: the rows ``left`` and ``right`` of each."""

    distances: NDArray[np.float64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]


def _pairs_of_two_labels(labelled: Labelled, codes: NDArray[np.int64], metric: Metric) -> _Apart:
    left, right = np.triu_indices(len(labelled), k=1)
    differ = codes[left] != codes[right]
    left, right = left[differ], right[differ]
    distances = distance_table(labelled.vectors, labelled.vectors, metric)[left, right]
    order = np.argsort(distances)
    return _Apart(distances[order], left[order], right[order])


def _drawn_thresholds(apart: _Apart, units: NDArray[np.int64], rates: Sequence[float]) -> NDArray[np.float64]:
    """Thresholds (REPLICATES, len(rates)) of as many draws of the rows' ``units``; NaN where one has too few pairs.

    Drawing a unit w times gives each of its rows the weight w, and a pair the product of its rows' weights.
    """
    found = np.full((REPLICATES, len(rates)), np.nan)
    if not len(apart.distances):
        return found
    random = np.random.default_rng(SEED)
    count = int(units.max()) + 1
    for replicate in range(REPLICATES):
        weights = np.bincount(random.integers(0, count, count), minlength=count)[units]
        within = np.cumsum(weights[apart.left] * weights[apart.right])
        for number, rate in enumerate(rates):
            allowed = rate * within[-1]
            if allowed >= 1:
                place = min(int(np.searchsorted(within, allowed, side="right")), len(within) - 1)
                found[replicate, number] = apart.distances[place]
    return found


def _with_interval(rate: float, distances: NDArray[np.float64], replicates: NDArray[np.float64]) -> Threshold:
    allowed = rate * len(distances)
    distance = threshold_at(distances, allowed)
    if distance is None:
        return Threshold(rate, None, None, None)
    rests_on = int(np.floor(allowed + 1e-9))
    known = replicates[~np.isnan(replicates)]
    if len(known) < (1 - MOST_WITHOUT) * len(replicates):
        return Threshold(rate, distance, None, None, rests_on)
    low, high = (float(value) for value in np.quantile(known, (0.025, 0.975)))
    return Threshold(rate, distance, low, high, rests_on)
