"""The one door for vectors, and the one definition of a distance."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from search.engines.errors import InvalidVector
from search.engines.types import Metric

# A zero row becomes a hub of the graph (self-recall 0.79 among 10,000 unit rows) and has no cosine at all. Embeddings
# have norms of about 1 to 100; above the upper bound squared distances would overflow float32 inside the graph.
MIN_NORM = 1e-6
MAX_NORM = 1e15

BLOCK_VALUES = 1 << 18  # numbers handled at a time: 2 MB as float64, which stays in the cache

# A sum of d products in float64 is wrong by at most d * 2^-53 of the norms (Higham, Accuracy and Stability of Numerical
# Algorithms, section 3.1): 1e-12 at 4,096 dimensions, so a square this much smaller than they are has 8 digits left.
CANCELLED = 1e-4


def checked_query(vector: ArrayLike, dimension: int) -> NDArray[np.float32]:
    """A float32 contiguous copy of shape (dimension,). Raises InvalidVector; see ``checked_rows``."""
    array = np.asarray(vector)
    if array.shape != (dimension,):
        raise InvalidVector(
            f"The vector has shape {array.shape}, but this index holds vectors of shape ({dimension},)."
        )
    if array.dtype.kind in "fiu":
        row = _as_float32(array)
        wide = row.astype(np.float64)
        if MIN_NORM <= math.sqrt(wide.dot(wide)) <= MAX_NORM:
            return row
    refused: NDArray[np.float32] = checked_rows(array[None, :], dimension)[0]  # says what is wrong with it
    return refused


def checked_rows(vectors: ArrayLike, dimension: int, ids: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
    """A float32 contiguous copy of shape (n, dimension).

    Raises InvalidVector for a wrong shape, for what is not a real number, for NaN and Inf (also where a float64 does
    not fit into float32), and for a norm outside MIN_NORM to MAX_NORM; names the id where ``ids`` are given.
    """
    array = np.asarray(vectors)
    if array.dtype.kind not in "fiu":
        raise InvalidVector(f"A vector is made of floating point numbers, not of {array.dtype}.")
    if array.ndim != 2 or array.shape[1] != dimension:
        raise InvalidVector(f"The vectors have shape {array.shape}, but this index holds shape (n, {dimension}).")
    rows = _as_float32(array)
    _refuse(~np.isfinite(rows).all(axis=1), ids, "has a component that is NaN or infinite")
    _refuse(~usable_rows(rows), ids, f"has a norm outside {MIN_NORM:g} to {MAX_NORM:g}")
    return rows


def usable_rows(rows: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which of the rows, float32 (n, d), `checked_rows` takes: bool (n,). What is not finite has no norm within."""
    norms = row_norms(rows)
    return (norms >= MIN_NORM) & (norms <= MAX_NORM)


def _as_float32(array: NDArray[Any]) -> NDArray[np.float32]:
    """A contiguous copy; what does not fit becomes Inf, which no norm allows."""
    if array.dtype == np.float32:
        return array.copy(order="C")
    with np.errstate(over="ignore"):
        return np.array(array, dtype=np.float32, order="C", copy=True)


def _refuse(bad: ArrayLike, ids: NDArray[np.int64] | None, what: str) -> None:
    places = np.flatnonzero(bad)
    if len(places):
        name = "The vector" if ids is None else f"The vector with id {ids[places[0]]}"
        raise InvalidVector(f"{name} {what}: no index can answer for it.")


def row_norms(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Euclidean norms, float64 of shape (n,), of rows of shape (n, d)."""
    norms = np.empty(len(rows))
    for block in blocks(rows.shape):
        values = rows[block].astype(np.float64)
        norms[block] = np.sqrt(np.vecdot(values, values))
    return norms


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1 as float32, divided in float64."""
    return (rows / row_norms(rows)[:, None]).astype(np.float32)


def graph_rows(rows: NDArray[np.float32], metric: Metric) -> NDArray[np.float32]:
    """What an l2 graph stores so that its order is the metric's: for cosine unit rows, as |a-b|^2 = 2 (1 - cos)."""
    return unit_rows(rows) if metric is Metric.COSINE else np.ascontiguousarray(rows)


def graph_row(row: NDArray[np.float32], metric: Metric) -> NDArray[np.float32]:
    """``graph_rows`` of one that ``checked_query`` has given."""
    return unit_rows(row[None, :])[0] if metric is Metric.COSINE else row


def exact_distances(vectors: NDArray[np.float32], query: NDArray[np.float32], metric: Metric) -> NDArray[np.float64]:
    """True distances, float64 of shape (n,), of ``vectors`` (n, d) to ``query`` (d,), from float64 differences.

    Differences first: the expanded formula |a|^2 - 2ab + |b|^2 gives 1e-3 for a float32 vector and itself. Cosine is
    half the squared difference of the unit vectors, which equals 1 - cos and is 0 for a vector and itself. A row's
    distance does not depend on the rows beside it.
    """
    target = _rows64(query[None, :], metric)[0]
    if vectors.size <= BLOCK_VALUES:
        squares = _squares_to(vectors, target, metric)
    else:
        squares = np.concatenate([_squares_to(vectors[block], target, metric) for block in blocks(vectors.shape)])
    return 0.5 * squares if metric is Metric.COSINE else np.sqrt(squares)


def _squares_to(vectors: NDArray[np.float32], target: NDArray[np.float64], metric: Metric) -> NDArray[np.float64]:
    rows = _rows64(vectors, metric) if metric is Metric.COSINE else vectors
    differences = rows - target  # float64, as the target is
    squares: NDArray[np.float64] = np.vecdot(differences, differences)
    return squares


def distance_table(queries: NDArray[np.float32], vectors: NDArray[np.float32], metric: Metric) -> NDArray[np.float64]:
    """``exact_distances`` of many: float64 of shape (q, n), of ``queries`` (q, d) to ``vectors`` (n, d).

    By |a|^2 - 2ab + |b|^2 with float64 products, which BLAS computes a hundred times as fast as differences and which
    loses digits only where the square is small beside |a|^2 + |b|^2: those pairs get their differences. So each value
    is within 1e-8 (relative) of ``exact_distances``, and 0 for a vector and itself. How large the table gets is the
    caller's to choose.
    """
    left = _rows64(queries, metric)
    table = np.empty((len(queries), len(vectors)))
    for block in blocks(vectors.shape):
        table[:, block] = _squares(left, _rows64(vectors[block], metric))
    return 0.5 * table if metric is Metric.COSINE else np.sqrt(table)


def _rows64(rows: NDArray[np.float32], metric: Metric) -> NDArray[np.float64]:
    values = rows.astype(np.float64)
    if metric is Metric.COSINE:
        values /= np.sqrt(np.vecdot(values, values))[:, None]
    return values


def _squares(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    sizes = np.vecdot(left, left)[:, None] + np.vecdot(right, right)[None, :]
    squares: NDArray[np.float64] = sizes - 2.0 * (left @ right.T)
    rows, columns = np.nonzero(squares <= CANCELLED * sizes)
    for block in blocks((len(rows), left.shape[1])):
        differences = left[rows[block]] - right[columns[block]]
        squares[rows[block], columns[block]] = np.vecdot(differences, differences)
    return squares


def blocks(shape: tuple[int, ...]) -> list[slice]:
    """Slices over the rows of a (n, d) array, each of at most about BLOCK_VALUES numbers."""
    count, dimension = shape
    step = max(1, BLOCK_VALUES // max(dimension, 1))
    return [slice(start, start + step) for start in range(0, count, step)]
