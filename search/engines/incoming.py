"""What a writer accepts: the one check of rows on their way into a generation, whatever engine keeps them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.engines.vectors import checked_rows


@dataclass(frozen=True, slots=True)
class RowCount:
    """What was written: how many rows and the highest id (0 when none)."""

    count: int
    highest_id: int


class Incoming:
    """Counts and checks rows chunk by chunk."""

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._count = 0
        self._highest: int | None = None

    def checked(
        self, ids: NDArray[np.int64], vectors: NDArray[np.float32], collections: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """The vectors of one chunk as ``checked_rows`` gives them, see IndexWriter.add.

        Raises InvalidVector, and ValueError for ids out of order or lengths that differ; then nothing is counted.
        """
        if not len(ids) == len(vectors) == len(collections):
            raise ValueError(f"{len(ids)} ids, {len(vectors)} vectors and {len(collections)} collections do not agree.")
        if len(ids) == 0:
            return np.empty((0, self._dimension), dtype=np.float32)
        self._check_order(np.asarray(ids))
        rows = checked_rows(vectors, self._dimension, ids)
        self._count += len(ids)
        self._highest = int(ids[-1])
        return rows

    def total(self) -> RowCount:
        return RowCount(self._count, self._highest or 0)

    def _check_order(self, ids: NDArray[np.int64]) -> None:
        if ids.dtype.kind != "i":
            raise ValueError(f"Ids are int64, not {ids.dtype}.")
        if (ids[1:] <= ids[:-1]).any() or (self._highest is not None and ids[0] <= self._highest):
            raise ValueError("Ids must be strictly increasing over the whole build.")
