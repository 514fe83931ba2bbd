"""The rows of a generation on disk: ids and collections in memory, vectors memory-mapped."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.engines.allowed import ScopedRows
from search.engines.incoming import Incoming, RowCount
from search.engines.npyfile import NpyWriter

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
        self.scopes = ScopedRows(self.ids, load_array(folder / COLLECTIONS))

    def __len__(self) -> int:
        return len(self.ids)


class RowWriter:
    """Streams rows into a folder; nothing but the chunk at hand is held in memory."""

    def __init__(self, folder: Path, dimension: int) -> None:
        self._incoming = Incoming(dimension)
        self._ids = NpyWriter(folder / IDS, np.dtype("<i8"))
        self._collections = NpyWriter(folder / COLLECTIONS, np.dtype("<i8"))
        self._vectors = NpyWriter(folder / VECTORS, np.dtype("<f4"), (dimension,))

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32], collections: NDArray[np.int64]) -> None:
        """One chunk, see IndexWriter.add. Raises ValueError for ids out of order or lengths that differ."""
        rows = self._incoming.checked(ids, vectors, collections)
        if len(rows) == 0:
            return
        self._ids.append(np.asarray(ids))
        self._collections.append(np.asarray(collections))
        self._vectors.append(rows)

    def close(self) -> RowCount:
        """Finish the files and put them on the disk."""
        for file in (self._ids, self._collections, self._vectors):
            file.close()
        return self._incoming.total()

    def abandon(self) -> None:
        """Let go of the files; a full disk may keep them from being finished, and nobody will read them."""
        for file in (self._ids, self._collections, self._vectors):
            with suppress(OSError):
                file.close()
