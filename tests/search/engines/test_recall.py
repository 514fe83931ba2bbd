"""What recall is asked with, and how it is counted."""

from __future__ import annotations

import numpy as np

from search.engines.recall import query_near, share_found
from search.engines.types import Metric
from search.engines.vectors import exact_distances


def beside(own: list[float], *others: list[float]) -> list[float]:
    row, rows = np.array(own, dtype=np.float32), np.array([own, *others], dtype=np.float32)
    query = query_near(row, rows, exact_distances(rows, row, Metric.L2))
    assert query.dtype == np.float32
    return [float(value) for value in query]


def test_a_query_is_on_the_other_side_of_the_nearest_neighbour() -> None:
    assert beside([1, 2], [4, 1]) == [-2.0, 3.0]
    assert beside([1, 2], [9, 9], [1, 2], [4, 1]) == [-2.0, 3.0]


def test_where_the_other_side_is_no_vector_the_row_itself_is_asked() -> None:
    assert beside([1, 2], [2, 4]) == [1.0, 2.0]
    assert beside([9e14, 0], [-9e14, 0]) == [float(np.float32(9e14)), 0.0]


def test_where_nothing_else_was_found_the_row_itself_is_asked() -> None:
    assert beside([1, 2]) == [1.0, 2.0]
    assert beside([1, 2], [1, 2]) == [1.0, 2.0]


def test_equally_near_ones_count_alike() -> None:
    truth = np.array([0.0, 1.0, 2.0, 2.0])
    assert share_found(np.array([0.0, 1.0, 2.0, 2.0, 2.0]), truth) == 1.0
    assert share_found(np.array([0.0, 2.0, 2.1]), truth) == 0.5
    assert share_found(np.array([]), truth) == 0.0
    assert share_found(np.array([]), np.array([])) == 1.0
