"""The only module that imports FAISS (faiss-cpu). It is loaded by name on first use.

FAISS refuses damaged files by itself and takes the search width with every query, so queries of different k run side
by side. A query of one row starts no OpenMP threads; a build and nearest_of_many use as many as OMP_NUM_THREADS says,
else all cores that the process may use.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from search.engines.errors import BuildFailed, IndexDamaged
from search.engines.graph_library import check_row, check_rows

FILE = "index.faiss"
WIDTH = "ef_search"


class GraphBuilder:
    """See search.engines.graph_library.GraphBuilder. Options: m, ef_construction, storage ("flat" or "fp16").

    With "fp16" the graph keeps numbers of 16 bits, half the memory; exact distances are computed from float32 anyway.
    """

    def __init__(self, dimension: int, options: Mapping[str, Any]) -> None:
        self.count = 0
        self._dimension = dimension
        self._halves = options["storage"] == "fp16"
        self._index = (
            faiss.IndexHNSWSQ(dimension, faiss.ScalarQuantizer.QT_fp16, options["m"])
            if self._halves
            else faiss.IndexHNSWFlat(dimension, options["m"])
        )
        self._index.hnsw.efConstruction = options["ef_construction"]

    def kept(self, rows: NDArray[np.float32]) -> NDArray[Any]:
        if not self._halves:
            return rows
        with np.errstate(over="ignore"):  # becomes Inf, refused here
            halves = rows.astype(np.float16)
        if not np.isfinite(halves).all():
            largest = float(np.finfo(np.float16).max)
            raise BuildFailed(f"A component of a vector is beyond {largest:g}, the most of fp16: set storage to flat.")
        return halves

    def add(self, rows: NDArray[np.float32]) -> None:
        check_rows(rows, self._dimension)
        self._index.add(rows)
        self.count += len(rows)

    def save(self, path: Path) -> None:
        faiss.write_index(self._index, str(path))


class Graph:
    """See search.engines.graph_library.Graph."""

    def __init__(self, path: Path, count: int, dimension: int, width: int) -> None:
        self.width = width
        self._count = count
        self._dimension = dimension
        try:
            self._index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise IndexDamaged(f"FAISS cannot read {path.name}: {error}") from error
        if not isinstance(self._index, faiss.IndexHNSW) or (self._index.ntotal, self._index.d) != (count, dimension):
            held = f"{self._index.ntotal} rows of {self._index.d} numbers"
            raise IndexDamaged(f"{path.name} is no graph of {count} rows of {dimension} numbers, but holds {held}.")

    def nearest(self, row: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        check_row(row, self._dimension)
        return _found(self._search(row[None, :], k)[0])

    def nearest_of_many(self, rows: NDArray[np.float32], k: int) -> list[NDArray[np.int64]]:
        check_rows(rows, self._dimension)
        return [_found(numbers) for numbers in self._search(rows, k)]

    def _search(self, rows: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """Node numbers, int64 (n, min(k, count)); see ``_found``."""
        _, numbers = self._index.search(rows, min(k, self._count), params=_parameters(max(self.width, k)))
        return numbers  # type: ignore[no-any-return]


@lru_cache(maxsize=256)  # a search only reads them, and making them costs 8 us of its 100
def _parameters(width: int) -> Any:
    return faiss.SearchParametersHNSW(efSearch=width)


def _found(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Without the -1 that fill a row's end where the graph does not lead to so many."""
    return numbers if numbers[-1] >= 0 else numbers[numbers >= 0]
