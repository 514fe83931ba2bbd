"""The only module that imports Annoy (1.17.3). It is loaded by name on first use.

Annoy's index is a forest of random trees (https://github.com/spotify/annoy), here called a graph as the others. Its
file is memory-mapped: processes of one machine share it, and it stays readable after its folder was removed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import annoy
import numpy as np
from numpy.typing import NDArray

from search.engines.errors import BuildFailed, IndexDamaged
from search.engines.graph_library import check_row, check_rows

# For cosine the rows are of unit length, whose order is that of l2; Annoy's own "angular" is the same with more work.
METRIC = "euclidean"
MOST = 2**31 - 1  # rows, and the largest search_k: both are int32

FILE = "index.annoy"
# Nodes looked at, for each tree. search_k is this times the trees: a node is in a tree once, so that as many different
# ones are found at the least.
WIDTH = "nodes_per_tree"


class GraphBuilder:
    """See search.engines.graph_library.GraphBuilder. Option: n_trees."""

    def __init__(self, dimension: int, options: Mapping[str, Any]) -> None:
        self.count = 0
        self._dimension = dimension
        self._trees = options["n_trees"]
        self._index = annoy.AnnoyIndex(dimension, METRIC)

    def kept(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return rows

    def add(self, rows: NDArray[np.float32]) -> None:
        check_rows(rows, self._dimension)
        if self.count + len(rows) > MOST:
            raise BuildFailed(f"Annoy numbers its rows in 32 bits: more than {MOST} do not fit.")
        for number, row in enumerate(rows.tolist(), start=self.count):
            self._index.add_item(number, row)
        self.count += len(rows)

    def save(self, path: Path) -> None:
        self._index.build(self._trees)
        self._index.save(str(path))


class Graph:
    """See search.engines.graph_library.Graph."""

    def __init__(self, path: Path, count: int, dimension: int, width: int) -> None:
        self.width = width
        self._count = count
        self._dimension = dimension
        self._index = annoy.AnnoyIndex(dimension, METRIC)
        try:
            self._index.load(str(path))
        except OSError as error:
            raise IndexDamaged(f"Annoy cannot read {path.name}: {error}") from error
        held = self._index.get_n_items()
        if held != count:
            raise IndexDamaged(f"The graph {path.name} holds {held} nodes instead of {count}.")
        self._trees = self._index.get_n_trees()

    def nearest(self, row: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        check_row(row, self._dimension)
        search_k = min(max(self.width, k) * self._trees, MOST)
        found = self._index.get_nns_by_vector(row.tolist(), min(k, self._count), search_k)
        return np.array(found, dtype=np.int64)

    def nearest_of_many(self, rows: NDArray[np.float32], k: int) -> list[NDArray[np.int64]]:
        check_rows(rows, self._dimension)
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # Annoy lets go of the GIL while it searches
            return list(pool.map(lambda row: self.nearest(row, k), rows))
