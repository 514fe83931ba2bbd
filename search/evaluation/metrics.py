"""Retrieval measured with labels: of the nearest stored vectors of a query, how many carry its label."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.engines.types import Metric
from search.engines.vectors import distance_table

AT = (1, 10, 100)  # the k of P@k; the article shows a query's nearest hundred
TABLE_VALUES = 1 << 22  # distances held at a time: 32 MB as float64


class NotMeasurable(ValueError):
    """These vectors and labels measure nothing; the message says why."""


@dataclass(frozen=True, slots=True)
class LabelFigures:
    """Means over the ``n`` queries of one label. ``stored``: vectors of this label among the stored ones."""

    n: int
    stored: int
    precision_at: dict[int, float]
    mean_average_precision: float


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Means over ``n`` queries, each weighing the same.

    ``left_out``: queries that no stored vector could answer (none carries their label), which are in no figure.
    ``per_label`` has the labels of the ``n`` queries, sorted.
    """

    n: int
    left_out: int
    precision_at: dict[int, float]
    mean_average_precision: float
    per_label: dict[str, LabelFigures]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the query in this row found. ``precision_at`` has the k of AT."""

    row: int
    label: str
    precision_at: dict[int, float]
    average_precision: float


def retrieval(
    queries: NDArray[np.float32],
    query_labels: Sequence[str],
    stored: NDArray[np.float32],
    stored_labels: Sequence[str],
    metric: Metric,
    *,
    leave_one_out: bool = False,
) -> Retrieval:
    """P@1, P@10, P@100 and mean average precision of ``queries`` (q, d) among ``stored`` (n, d), by true distances.

    P@k is the share of a query's nearest min(k, R) that carry its label, R being the stored vectors of that label: a
    label with fewer than k others can reach 1, too (at k > R this is R-precision; Manning, Raghavan, Schütze,
    Introduction to Information Retrieval, section 8.4). Average precision is the mean, over those R, of the precision
    at the rank of each. Of equally near vectors those of other labels count as nearer, so no figure depends on an order
    of rows. ``leave_one_out``: row i of ``queries`` is row i of ``stored``, which it is not compared with; there may be
    more stored rows than queries.

    Needs about 40 MB beside the vectors. Raises NotMeasurable where no query has a stored vector of its label,
    ValueError where shapes and labels do not fit together.
    """
    own = range(len(stored)) if leave_one_out else None
    found = outcomes(queries, query_labels, stored, stored_labels, metric, leave_out=own)
    return summary(found, len(queries), stored_labels)


def outcomes(
    queries: NDArray[np.float32],
    query_labels: Sequence[str],
    stored: NDArray[np.float32],
    stored_labels: Sequence[str],
    metric: Metric,
    *,
    leave_out: Sequence[object] | None = None,
) -> list[Outcome]:
    """Each query of which something could be found, in their order; figures and errors are `retrieval`'s.

    ``leave_out`` names for each stored row what it is part of (an image); given, row i of ``queries`` is row i of
    ``stored``, and is not compared with what is part of the same.
    """
    _check(queries, query_labels, stored, stored_labels, leave_out)
    codes = codes_of([*stored_labels, *query_labels])
    of_stored, of_queries = codes[: len(stored)], codes[len(stored) :]
    wholes = None if leave_out is None else codes_of(leave_out)
    found = []
    for row, distances in distance_rows(queries, stored, metric):
        alike = of_stored == of_queries[row]
        others = ~alike
        if wholes is not None:
            own = wholes == wholes[row]
            alike[own] = others[own] = False
        if alike.any():
            found.append(_outcome(row, query_labels[row], _ranks(distances[alike], distances[others])))
    if not found:
        raise NotMeasurable("No query has a stored vector of its own label, so there is nothing that could be found.")
    return found


def summary(found: Sequence[Outcome], queries: int, stored_labels: Sequence[str]) -> Retrieval:
    """The means of these outcomes of so many ``queries``."""
    by_label: dict[str, list[Outcome]] = {}
    for outcome in found:
        by_label.setdefault(outcome.label, []).append(outcome)
    stored = dict.fromkeys(by_label, 0)
    for label in stored_labels:
        if label in stored:
            stored[label] += 1
    return Retrieval(
        n=len(found),
        left_out=queries - len(found),
        precision_at=_precisions(found),
        mean_average_precision=_mean_ap(found),
        per_label={
            label: LabelFigures(len(some), stored[label], _precisions(some), _mean_ap(some))
            for label, some in sorted(by_label.items())
        },
    )


def codes_of(names: Sequence[object]) -> NDArray[np.int64]:
    """A number for each name, equal for equal ones, from 0 on in the order in which they come."""
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)


def distance_rows(
    queries: NDArray[np.float32], stored: NDArray[np.float32], metric: Metric
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Each query's row number with its distances (n,) to all stored vectors, computed a block at a time."""
    step = max(1, TABLE_VALUES // max(1, len(stored)))
    for start in range(0, len(queries), step):
        table = distance_table(queries[start : start + step], stored, metric)
        yield from enumerate(table, start)


def _check(
    queries: NDArray[np.float32],
    query_labels: Sequence[str],
    stored: NDArray[np.float32],
    stored_labels: Sequence[str],
    leave_out: Sequence[object] | None,
) -> None:
    if queries.ndim != 2 or stored.ndim != 2 or queries.shape[1] != stored.shape[1]:
        raise ValueError(f"Queries of shape {queries.shape} are not compared with vectors of shape {stored.shape}.")
    if len(queries) != len(query_labels) or len(stored) != len(stored_labels):
        raise ValueError("There must be one label for each vector.")
    if leave_out is not None and not len(queries) <= len(stored) == len(leave_out):
        raise ValueError("To leave one out each query must be the stored vector of its own row.")


def _ranks(alike: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.int64]:
    """Where those ``alike`` stand, 1-based, in the list of both by distance, after all ``others`` that are as near."""
    nearer = np.searchsorted(np.sort(others), np.sort(alike), side="right")
    return np.asarray(nearer + np.arange(1, len(alike) + 1), dtype=np.int64)


def _outcome(row: int, label: str, ranks: NDArray[np.int64]) -> Outcome:
    places = np.arange(1, len(ranks) + 1)
    looked_at = {k: min(k, len(ranks)) for k in AT}
    return Outcome(
        row=row,
        label=label,
        precision_at={k: float(np.count_nonzero(ranks <= n) / n) for k, n in looked_at.items()},
        average_precision=float(np.mean(places / ranks)),
    )


def _precisions(some: Sequence[Outcome]) -> dict[int, float]:
    return {k: float(np.mean([outcome.precision_at[k] for outcome in some])) for k in AT}


def _mean_ap(some: Sequence[Outcome]) -> float:
    return float(np.mean([outcome.average_precision for outcome in some]))
