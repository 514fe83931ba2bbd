"""The rows that a graph does not lead to: looked at in every search, at next to no cost where none of them is near."""

from __future__ import annotations

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
        self._vectors = graph_rows(vectors, metric)
        self._norms = row_norms(self._vectors)
        self._squares = self._norms * self._norms

    def within(self, target: NDArray[np.float32], distance: float) -> NDArray[np.int64]:
        """All rows at most this far from a target of ``graph_rows``, and perhaps some a little farther.

        By |a|^2 - 2ab + |b|^2 in float32, less what its rounding may amount to (search.engines.scan).
        """
        if len(self._rows) == 0:
            return self._rows
        norm = float(np.sqrt(target.astype(np.float64) @ target.astype(np.float64)))
        squares = self._squares - 2.0 * (self._vectors @ target) + norm * norm
        slack = 2 * (len(target) + 8) * FLOAT32_ROUNDING * (self._norms + norm) ** 2
        limit = 2.0 * distance if self._metric is Metric.COSINE else distance * distance
        near: NDArray[np.int64] = self._rows[squares - slack <= limit]
        return near
