"""The only module that imports NMSLIB (2.1.2). Its import writes to stderr, so it is loaded by name on first use.

Here live the guards that its calls need: an optimised index checks no dimension, counts rows in int32, answers squared
distances, and keeps efSearch for the whole index.
"""

from __future__ import annotations

import logging
import struct
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import nmslib
import numpy as np
from numpy.typing import NDArray

from search.engines.errors import BuildFailed, IndexDamaged
from search.engines.graph_library import check_row, check_rows

# For cosine the rows are made unit length first: |a-b|^2 = 2 (1 - cos) keeps the order, and the digits that cosinesimil
# loses (up to 3e-7 for a vector and itself). With one space no file can be loaded as another's, which nothing checks.
SPACE = "l2"
MOST_ROWS = 2**31 - 1

T = TypeVar("T")

FILE = "index.hnsw"
WIDTH = "ef_search"

logging.getLogger("nmslib").setLevel(logging.WARNING)  # it tells of every load and every change of efSearch


def _empty_index() -> Any:
    return nmslib.init(method="hnsw", space=SPACE)


class GraphBuilder:
    """See search.engines.graph_library.GraphBuilder. Options: m, ef_construction, post."""

    def __init__(self, dimension: int, options: Mapping[str, Any]) -> None:
        self.count = 0
        self._dimension = dimension
        self._options = options
        self._index = _empty_index()

    def kept(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return rows

    def add(self, rows: NDArray[np.float32]) -> None:
        check_rows(rows, self._dimension)
        if self.count + len(rows) > MOST_ROWS:
            raise BuildFailed(f"NMSLIB numbers its rows in 32 bits: more than {MOST_ROWS} do not fit.")
        numbers = np.arange(self.count, self.count + len(rows), dtype=np.int32)
        self._index.addDataPointBatch(rows, numbers)
        self.count += len(rows)

    def save(self, path: Path) -> None:
        options = self._options
        self._index.createIndex(
            {"M": options["m"], "efConstruction": options["ef_construction"], "post": options["post"]}
        )
        self._index.saveIndex(str(path), save_data=False)


def _stored_count(path: Path) -> int:
    """How many rows a saved optimised graph holds: its second uint32 (Hnsw::SaveOptimizedIndex); len() says 0."""
    with path.open("rb") as file:
        _, count = struct.unpack("<II", file.read(8))
    return int(count)


class Graph:
    """See search.engines.graph_library.Graph."""

    def __init__(self, path: Path, count: int, dimension: int, width: int) -> None:
        stored = _stored_count(path)
        if stored != count:
            raise IndexDamaged(f"The graph {path.name} holds {stored} nodes instead of {count}.")
        self.width = width
        self._count = count
        self._dimension = dimension
        self._index = _empty_index()
        self._index.loadIndex(str(path), load_data=False)
        self._search_width = SearchWidth(self._index)

    def nearest(self, row: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        check_row(row, self._dimension)
        query = partial(self._index.knnQuery, row, k=min(k, self._count))
        numbers, _ = self._search_width.run(max(self.width, k), query)
        return numbers.astype(np.int64)  # type: ignore[no-any-return]

    def nearest_of_many(self, rows: NDArray[np.float32], k: int) -> list[NDArray[np.int64]]:
        check_rows(rows, self._dimension)
        query = partial(self._index.knnQueryBatch, rows, k=min(k, self._count))
        answers = self._search_width.run(max(self.width, k), query)
        return [numbers.astype(np.int64) for numbers, _ in answers]


class SearchWidth:
    """efSearch belongs to the whole index, is 20 after every load, and passes through 20 whenever it is set.

    So it is set only while no query runs. A query that needs no more than what is set joins those that run; one that
    needs more waits for them to end, and those that come later wait behind it.
    """

    def __init__(self, index: Any) -> None:
        self._index = index
        self._set = 0
        self._running = 0
        self._door = threading.Lock()
        self._counting = threading.Lock()
        self._none_runs = threading.Condition(self._counting)

    def run(self, needed: int, query: Callable[[], T]) -> T:
        """The query's answer with efSearch at least this. ``needed`` is never below k: fewer than k would be found."""
        with self._door:
            if self._set != needed:
                self._adjust(needed)
            with self._counting:
                self._running += 1
        try:
            return query()
        finally:
            with self._counting:
                self._running -= 1
                if self._running == 0:
                    self._none_runs.notify_all()

    def _adjust(self, needed: int) -> None:
        with self._counting:
            if self._set < needed:
                self._none_runs.wait_for(lambda: self._running == 0)
            if self._running == 0:
                self._index.setQueryTimeParams({"efSearch": needed})
                self._set = needed
