"""Exact search by reading every row: no index, no approximation."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from search.engines.types import Effort, Hits, Metric
from search.engines.vectors import BLOCK_VALUES, blocks, checked_query, exact_distances

FLOAT32_ROUNDING = 2.0**-24

NO_HITS = Hits(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float64))


def exact_search(  # noqa: PLR0917 - what and where, in the order of the sentence below
    ids: NDArray[np.int64],
    vectors: NDArray[np.float32],
    query: ArrayLike,
    k: int,
    metric: Metric,
    rows: NDArray[np.int64] | None = None,
) -> Hits:
    """The min(k, n) nearest of ``vectors`` float32 (n, d), whose keys are ``ids`` (n,); ties by id.

    ``rows`` limits the search to those row numbers (unique). ``vectors`` may be memory-mapped: it is read in blocks.
    A first pass in float32 with BLAS leaves only the rows that its rounding error allows to be among the k nearest;
    those get their exact distances. Raises InvalidVector for a query that ``checked_query`` refuses.
    """
    target = checked_query(query, vectors.shape[1])
    total = len(ids) if rows is None else len(rows)
    if total == 0:
        return NO_HITS
    lower, upper = _distance_bounds(vectors, target, metric, rows)
    wanted = min(k, total)
    threshold = np.partition(upper, wanted - 1)[wanted - 1]
    close = np.flatnonzero(lower <= threshold)
    return rescored(ids, vectors, target, k=wanted, metric=metric, rows=close if rows is None else rows[close])


def rescored(
    ids: NDArray[np.int64],
    vectors: NDArray[np.float32],
    query: NDArray[np.float32],
    *,
    k: int,
    metric: Metric,
    rows: NDArray[np.int64],
    effort: Effort | None = None,
) -> Hits:
    """The k nearest among these rows by exact distance, ties by id. ``query`` has passed ``checked_query``."""
    if len(rows) * len(query) <= BLOCK_VALUES:
        distances = exact_distances(vectors.take(rows, axis=0), query, metric)
    else:
        parts = [rows[block] for block in blocks((len(rows), len(query)))]
        distances = np.concatenate([exact_distances(vectors[part], query, metric) for part in parts])
    found = ids.take(rows)
    order = np.lexsort((found, distances))[:k]
    return Hits(found.take(order), distances.take(order), effort)


def nearest_of(hits: list[Hits], k: int) -> Hits:
    """One list out of several of disjoint sets: nearest first, ties by id."""
    ids = np.concatenate([NO_HITS.ids, *(part.ids for part in hits)])
    distances = np.concatenate([NO_HITS.distances, *(part.distances for part in hits)])
    order = np.lexsort((ids, distances))[:k]
    return Hits(ids[order], distances[order])


def _distance_bounds(
    vectors: NDArray[np.float32], query: NDArray[np.float32], metric: Metric, rows: NDArray[np.int64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bounds, float64 (n,), between which each row's squared l2 or cosine distance surely lies.

    A float32 dot product of d terms, summed in any order, is wrong by at most about d * 2^-24 * |a||b| (Higham,
    Accuracy and Stability of Numerical Algorithms, section 3.1); twice that covers the other operations.
    """
    total, dimension = len(vectors) if rows is None else len(rows), len(query)
    dots, squares = np.empty(total), np.empty(total)
    for block in blocks((total, dimension)):
        part = vectors[block] if rows is None else vectors[rows[block]]
        dots[block] = part @ query
        squares[block] = np.einsum("ij,ij->i", part, part)
    target = float(query.astype(np.float64) @ query.astype(np.float64))
    error = 2 * (dimension + 8) * FLOAT32_ROUNDING
    if metric is Metric.COSINE:
        rough, slack = 1.0 - dots / np.sqrt(squares * target), np.full(total, 2 * error)
    else:
        rough, slack = squares - 2.0 * dots + target, error * (np.sqrt(squares) + np.sqrt(target)) ** 2
    return rough - slack, rough + slack
