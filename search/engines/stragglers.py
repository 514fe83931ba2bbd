"""The rows that a graph does not lead to: looked at in every search, at next to no cost where none of them is near."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from search.engines.scan import FLOAT32_ROUNDING
from search.engines.types import Metric
from search.engines.vectors import graph_rows, row_norms


class Stragglers:
    """``rows`` int64 (s,) and their vectors float32 (s, d), which are held in memory as the graph would hold them."""

    def __init__(self, rows: NDArray[np.int64], vectors: NDArray[np.float32], metric: Metric) -> None:
        self._rows = rows
        self._metric = metric
        held = graph_rows(vectors, metric)
        norms = row_norms(held)
        self._doubled = 2 * held  # exact, a power of two
        self._squares = (norms * norms).astype(np.float32)
        self._most = float(norms.max(initial=0))

    def within(self, target: NDArray[np.float32], distance: float) -> NDArray[np.int64]:
        """All rows at most this far from a target of ``graph_rows``, and perhaps some a little farther.

        By |a|^2 - 2ab + |b|^2 in float32, less what its rounding may amount to (search.engines.scan) for the longest.
        """
        if len(self._rows) == 0:
            return self._rows
        square = float(target.dot(target))
        slack = 2 * (len(target) + 8) * FLOAT32_ROUNDING * (self._most + math.sqrt(square)) ** 2
        limit = 2.0 * distance if self._metric is Metric.COSINE else distance * distance
        nearness = self._doubled.dot(target)
        nearness -= self._squares
        least = square - limit - slack
        return self._rows[nearness >= least] if nearness.max() >= least else self._rows[:0]
