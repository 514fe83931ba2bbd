"""What is newer than an index generation, searched exactly: a matrix per process that grows by id."""

from __future__ import annotations

import logging
import threading
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from catalog.models import EmbeddingModel
from catalog.selectors import iter_vectors
from search.engines.scan import exact_search, squared_norms
from search.engines.types import Hits, Metric, Scope
from search.engines.vectors import usable_rows

logger = logging.getLogger(__name__)

Number = TypeVar("Number", bound=np.generic)
UNUSABLE = (
    "%d embeddings of %s cannot be searched (the first has id %d): their vectors are zero, not finite or too long. "
    "Run `manage.py doctor --deep --fix`."
)
GROWTH = 1.5  # how much room is made at a time, so that adding rows one by one costs no copy each


class Delta:
    """The embeddings of one model with an id above ``after_id``. Safe to use from many threads.

    Ids commit in order (catalog.models.Embedding), so reading on after the highest id seen misses nothing. Rows deleted
    meanwhile stay in the matrix; whoever shows hits drops them by asking the database. What no engine takes is left out
    and logged: beside it exact search would find less, or nothing.
    """

    def __init__(self, model: EmbeddingModel, after_id: int) -> None:
        self._model = model
        self._lock = threading.Lock()
        self._count = 0
        self._highest_id = after_id
        self._ids = np.empty(0, dtype=np.int64)
        self._vectors = np.empty((0, model.dimension), dtype=np.float32)
        self._squares = np.empty(0, dtype=np.float32)  # of their norms
        self._collections = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        return self._count

    def refresh(self) -> None:
        """Read what has been committed since; one short query when nothing has."""
        with self._lock:
            for ids, vectors, collections in iter_vectors(self._model, after_id=self._highest_id):
                self._append(ids, vectors, collections)

    def search(self, vector: NDArray[np.float32], k: int, metric: Metric, scope: Scope) -> Hits:
        """As IndexReader.search, over the rows read so far."""
        with self._lock:  # a consistent view; the arrays behind it are only ever appended to or replaced
            count = self._count
            ids, vectors, collections = self._ids[:count], self._vectors[:count], self._collections[:count]
            squares = self._squares[:count]
        rows = None if scope.is_everything else np.flatnonzero(_in_scope(ids, collections, scope))
        return exact_search(ids, vectors, vector, k, metric, rows, squares)

    def _append(self, ids: NDArray[np.int64], vectors: NDArray[np.float32], collections: NDArray[np.int64]) -> None:
        highest_id = int(ids[-1])
        usable = usable_rows(vectors)
        if not usable.all():
            logger.error(UNUSABLE, (~usable).sum(), self._model, ids[~usable][0])
            ids, vectors, collections = ids[usable], vectors[usable], collections[usable]
        end = self._count + len(ids)
        if end > len(self._ids):
            room = max(end, int(len(self._ids) * GROWTH))
            self._ids = _grown(self._ids, room)
            self._vectors = _grown(self._vectors, room)
            self._squares = _grown(self._squares, room)
            self._collections = _grown(self._collections, room)
        new = slice(self._count, end)
        self._ids[new], self._vectors[new], self._collections[new] = ids, vectors, collections
        self._squares[new] = squared_norms(vectors)
        self._count, self._highest_id = end, highest_id


def _in_scope(ids: NDArray[np.int64], collections: NDArray[np.int64], scope: Scope) -> NDArray[np.bool_]:
    inside = np.ones(len(ids), dtype=bool)
    if scope.collections is not None:
        inside &= np.isin(collections, scope.collections)
    if scope.ids is not None:
        inside &= np.isin(ids, scope.ids)
    return inside


def _grown(array: NDArray[Number], room: int) -> NDArray[Number]:
    larger = np.empty((room, *array.shape[1:]), dtype=array.dtype)
    larger[: len(array)] = array
    return larger
