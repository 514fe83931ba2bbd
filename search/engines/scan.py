"""Exact search by reading every row: no index, no approximation."""

from __future__ import annotations

import math
from dataclasses import dataclass

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
    squares: NDArray[np.float32] | None = None,
) -> Hits:
    """The min(k, n) nearest of ``vectors`` float32 (n, d), whose keys are ``ids`` (n,); ties by id.

    ``rows`` limits the search to those row numbers (unique). ``vectors`` may be memory-mapped. ``squares`` (n,) are
    what ``squared_norms`` gives, from a caller that keeps them, and save more than half of the time.
    A first pass in float32 with BLAS leaves only the rows that its rounding error allows to be among the k nearest;
    those get their exact distances. Raises InvalidVector for a query that ``checked_query`` refuses.
    """
    target = checked_query(query, vectors.shape[1])
    total = len(ids) if rows is None else len(rows)
    if total == 0:
        return NO_HITS
    wanted = min(k, total)
    close = _Rough.of(vectors, target, metric, rows, squares).possible(wanted)
    return rescored(ids, vectors, target, k=wanted, metric=metric, rows=close if rows is None else rows[close])


def squared_norms(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of rows (n, d), float32 (n,), read in blocks."""
    squares = np.empty(len(vectors), dtype=np.float32)
    for block in blocks(vectors.shape):
        squares[block] = np.vecdot(vectors[block], vectors[block])
    return squares


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


@dataclass(frozen=True, slots=True)
class _Rough:
    """Squared l2 or cosine distances of n rows, and how wrong they may be.

    A float32 dot product of d terms, summed in any order, is wrong by at most about d * 2^-24 * |a||b| (Higham,
    Accuracy and Stability of Numerical Algorithms, section 3.1); twice that covers the other operations.
    """

    values: NDArray[np.float32]
    squares: NDArray[np.float32]
    norm: float  # of the query
    error: float
    metric: Metric

    @classmethod
    def of(
        cls,
        vectors: NDArray[np.float32],
        query: NDArray[np.float32],
        metric: Metric,
        rows: NDArray[np.int64] | None,
        squares: NDArray[np.float32] | None,
    ) -> _Rough:
        if rows is None:
            dots = vectors @ query
            squares = squared_norms(vectors) if squares is None else squares
        else:
            dots, squares = _gathered(vectors, query, rows, squares)
        norm, error = math.sqrt(query.dot(query)), 2 * (len(query) + 8) * FLOAT32_ROUNDING
        if metric is Metric.COSINE:
            dots /= np.sqrt(squares)
            dots *= np.float32(-1 / norm)
        else:
            dots *= np.float32(-2)
            dots += squares  # |a - b|^2 less |b|^2, which is the same for all
        return cls(dots, squares, norm, error, metric)

    def possible(self, k: int) -> NDArray[np.int64]:
        """Which of the rows, ascending, may be among the k nearest."""
        first = np.argpartition(self.values, k - 1)[:k]
        limit = float((self.values[first] + self._slack(self.squares[first])).max())
        most = float(self._slack(self.squares.max()))
        near = np.flatnonzero(self.values <= np.nextafter(np.float32(limit + most), np.float32(np.inf)))
        return near[self.values[near] - self._slack(self.squares[near]) <= limit]

    def _slack(self, squares: NDArray[np.float32] | np.float32) -> NDArray[np.float64]:
        if self.metric is Metric.COSINE:
            return np.full(np.shape(squares), 2 * self.error)
        sums: NDArray[np.float64] = np.sqrt(squares).astype(np.float64) + self.norm
        return self.error * sums * sums


def _gathered(
    vectors: NDArray[np.float32],
    query: NDArray[np.float32],
    rows: NDArray[np.int64],
    squares: NDArray[np.float32] | None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Dot products and squared norms of these rows, of which only a block at a time is copied."""
    dots, gathered = np.empty(len(rows), dtype=np.float32), np.empty(len(rows), dtype=np.float32)
    for block in blocks((len(rows), len(query))):
        part = vectors[rows[block]]
        dots[block] = part @ query
        gathered[block] = np.vecdot(part, part) if squares is None else squares[rows[block]]
    return dots, gathered
