"""The rows of a generation on disk: ids and collections in memory, vectors memory-mapped."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.engines.npyfile import NpyWriter
from search.engines.types import Scope
from search.engines.vectors import checked_rows

IDS, COLLECTIONS, VECTORS = "ids.npy", "collections.npy", "vectors.npy"


def load_array(path: Path, mapped: bool = False) -> NDArray[Any]:
    """A .npy file, in memory or memory-mapped (an empty one cannot be mapped). Never a pickle."""
    array: NDArray[Any]
    try:
        array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except ValueError:  # mmap refuses a length of 0
        array = np.load(path, allow_pickle=False)
    return np.asarray(array)


class StoredRows:
    """Rows in id order. ``ids`` int64 (n,) strictly increasing, ``vectors`` float32 (n, d) as they were added."""

    def __init__(self, folder: Path) -> None:
        self.ids: NDArray[np.int64] = load_array(folder / IDS)
        self.vectors: NDArray[np.float32] = load_array(folder / VECTORS, mapped=True)
        collections: NDArray[np.int64] = load_array(folder / COLLECTIONS)
        self._by_collection = np.argsort(collections, kind="stable")
        self._sorted_collections = collections[self._by_collection]

    def __len__(self) -> int:
        return len(self.ids)

    def rows_in(self, scope: Scope) -> NDArray[np.int64] | None:
        """The row numbers that the scope allows, unique; None for all of them."""
        rows: NDArray[np.int64] | None = None
        if scope.ids is not None:
            rows = self._rows_of_ids(scope.ids)
        if scope.collections is not None:
            inside = self._rows_of_collections(scope.collections)
            rows = inside if rows is None else np.intersect1d(rows, inside, assume_unique=True)
        return None if rows is not None and len(rows) == len(self) > 0 else rows

    def _rows_of_ids(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        wanted = np.unique(np.asarray(ids, dtype=np.int64))
        places = np.searchsorted(self.ids, wanted)
        places = places[places < len(self)]
        found: NDArray[np.int64] = places[self.ids[places] == wanted[: len(places)]]
        return found

    def _rows_of_collections(self, collections: NDArray[np.int64]) -> NDArray[np.int64]:
        wanted = np.unique(np.asarray(collections, dtype=np.int64))
        starts = np.searchsorted(self._sorted_collections, wanted, side="left")
        ends = np.searchsorted(self._sorted_collections, wanted, side="right")
        parts = [self._by_collection[start:end] for start, end in zip(starts, ends, strict=True)]
        return np.concatenate([np.empty(0, dtype=np.int64), *parts])


@dataclass(frozen=True, slots=True)
class RowCount:
    """What was written: how many rows and the highest id (0 when none)."""

    count: int
    highest_id: int


class RowWriter:
    """Streams rows into a folder; nothing but the chunk at hand is held in memory."""

    def __init__(self, folder: Path, dimension: int) -> None:
        self._dimension = dimension
        self._highest: int | None = None
        self._ids = NpyWriter(folder / IDS, np.dtype("<i8"))
        self._collections = NpyWriter(folder / COLLECTIONS, np.dtype("<i8"))
        self._vectors = NpyWriter(folder / VECTORS, np.dtype("<f4"), (dimension,))

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32], collections: NDArray[np.int64]) -> None:
        """One chunk, see IndexWriter.add. Raises ValueError for ids out of order or lengths that differ."""
        if not len(ids) == len(vectors) == len(collections):
            raise ValueError(f"{len(ids)} ids, {len(vectors)} vectors and {len(collections)} collections do not agree.")
        if len(ids) == 0:
            return
        self._check_order(np.asarray(ids))
        rows = checked_rows(vectors, self._dimension, ids)
        self._ids.append(np.asarray(ids))
        self._collections.append(np.asarray(collections))
        self._vectors.append(rows)
        self._highest = int(ids[-1])

    def close(self) -> RowCount:
        """Finish the files and put them on the disk."""
        for file in (self._ids, self._collections, self._vectors):
            file.close()
        return RowCount(self._ids.count, self._highest or 0)

    def abandon(self) -> None:
        """Let go of the files; a full disk may keep them from being finished, and nobody will read them."""
        for file in (self._ids, self._collections, self._vectors):
            with suppress(OSError):
                file.close()

    def _check_order(self, ids: NDArray[np.int64]) -> None:
        if ids.dtype.kind != "i":
            raise ValueError(f"Ids are int64, not {ids.dtype}.")
        if (ids[1:] <= ids[:-1]).any() or (self._highest is not None and ids[0] <= self._highest):
            raise ValueError("Ids must be strictly increasing over the whole build.")
