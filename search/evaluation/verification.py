"""Telling the same from different by distance: ROC, its area, what thresholds let through, and what others would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.addresses import FIRST_RESULTS
from search.engines.types import Metric
from search.evaluation.labelled import Labelled
from search.evaluation.metrics import NotMeasurable, codes_of, distance_rows
from search.evaluation.thresholds import (
    MOST_ROWS,
    Choice,
    Pairs,
    Threshold,
    check_not_chosen_on,
    pairs_of,
    sampled,
)

ROC_POINTS = 200
CURVE_STEPS = 400
SHOWN = FIRST_RESULTS  # of a search, before anybody asks for more
DIGITS = 6  # of a distance in a curve


@dataclass(frozen=True, slots=True)
class Reported:
    """A threshold on pairs that it was not chosen on; both rates are None where the threshold is."""

    threshold: Threshold
    false_match_rate: float | None
    true_match_rate: float | None


@dataclass(frozen=True, slots=True)
class Curve:
    """How many lie within each of ``distances`` (ascending, from 0): pairs of one label, of two, and nearest.

    The last distance holds them all. ``shown`` counts the SHOWN nearest of each query among all that is stored: those
    of them that are near are what a search shows.
    """

    distances: list[float]
    same: list[int]
    different: list[int]
    shown: list[int]


@dataclass(frozen=True, slots=True)
class Verification:
    """Over pairs of a query and a stored vector: ``same_pairs`` of one label, ``different_pairs`` of two.

    ``auc``: the probability that a pair of one label is nearer than one of two (a tie counts half). ``roc``: false and
    true match rates from (0, 0) to (1, 1).
    """

    auc: float
    same_pairs: int
    different_pairs: int
    reported: tuple[Reported, ...]
    roc: list[tuple[float, float]]
    curve: Curve


def verify(
    choice: Choice, queries: Labelled, stored: Labelled, metric: Metric, *, among: Labelled | None = None
) -> Verification:
    """Report these thresholds on pairs of queries and stored vectors.

    ``among``: all that a query searches, where that is more than ``stored``; its own image is left out of its nearest.

    Raises ChosenOnQueries where a query was among what they were chosen on, NotMeasurable where no pair of one label,
    or none of two, is among them.
    """
    check_not_chosen_on(choice, queries)
    pairs = pairs_of(queries, stored, metric)
    if not len(pairs.same) or not len(pairs.different):
        kind = "one label" if not len(pairs.same) else "two labels"
        raise NotMeasurable(
            f"Among {len(queries)} queries and {len(stored)} stored vectors there is no pair of {kind}: nothing "
            f"says how well the same are told from others. Each label needs a few images, and there must be two labels."
        )
    distances = [each.distance for each in choice.thresholds if each.distance is not None]
    return Verification(
        auc=area(pairs),
        same_pairs=len(pairs.same),
        different_pairs=len(pairs.different),
        reported=tuple(_reported(threshold, pairs) for threshold in choice.thresholds),
        roc=roc(pairs),
        curve=_curve(pairs, _shown(queries, among or stored, metric), distances),
    )


def area(pairs: Pairs) -> float:
    """Area under the ROC curve, as Mann and Whitney's U over the number of pairs of pairs."""
    nearer = np.searchsorted(pairs.same, pairs.different, side="left").sum(dtype=np.float64)
    at_most = np.searchsorted(pairs.same, pairs.different, side="right").sum(dtype=np.float64)
    return float((nearer + at_most) / 2 / (len(pairs.same) * len(pairs.different)))


def roc(pairs: Pairs) -> list[tuple[float, float]]:
    """(false match rate, true match rate) at distances that show the curve, also where few false matches are."""
    different = len(pairs.different)
    steps = np.unique(np.geomspace(1, different, ROC_POINTS).round().astype(np.int64)) - 1
    at = np.unique(np.concatenate([pairs.different[steps], np.quantile(pairs.same, np.linspace(0, 1, ROC_POINTS))]))
    false = _within(pairs.different, at) / different
    true = _within(pairs.same, at) / len(pairs.same)
    points = dict.fromkeys([(0.0, 0.0), *zip(false.round(DIGITS).tolist(), true.round(DIGITS).tolist(), strict=True)])
    return [*points, (1.0, 1.0)] if (1.0, 1.0) not in points else list(points)


def _reported(threshold: Threshold, pairs: Pairs) -> Reported:
    if threshold.distance is None:
        return Reported(threshold, None, None)
    at = np.array([threshold.distance])
    return Reported(
        threshold,
        false_match_rate=float(_within(pairs.different, at)[0] / len(pairs.different)),
        true_match_rate=float(_within(pairs.same, at)[0] / len(pairs.same)),
    )


def _curve(pairs: Pairs, shown: NDArray[np.float64], thresholds: Sequence[float]) -> Curve:
    highest = max(float(pairs.same[-1]), float(pairs.different[-1]), float(shown[-1]))
    last = round(highest + 10**-DIGITS, DIGITS)  # holds the farthest, also after rounding
    steps = [*np.linspace(0, last, CURVE_STEPS + 1).tolist(), *(each for each in thresholds if each < last)]
    at = np.unique(np.round(steps, DIGITS))
    return Curve(
        distances=at.tolist(),
        same=_within(pairs.same, at).tolist(),
        different=_within(pairs.different, at).tolist(),
        shown=_within(shown, at).tolist(),
    )


def _shown(queries: Labelled, stored: Labelled, metric: Metric) -> NDArray[np.float64]:
    """Distances, ascending, of the SHOWN nearest of each query; of more than MOST_ROWS queries so many are drawn."""
    queries = sampled(queries, MOST_ROWS)
    images = codes_of([item.sha256 for item in (*queries.items, *stored.items)])
    nearest = []
    for row, every in distance_rows(queries.vectors, stored.vectors, metric):
        distances = every[images[len(queries) :] != images[row]]
        nearest.append(np.partition(distances, SHOWN - 1)[:SHOWN] if len(distances) > SHOWN else distances)
    return np.sort(np.concatenate(nearest))


def _within(ascending: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.searchsorted(ascending, at, side="right")
