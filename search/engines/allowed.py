"""Which rows of a generation a scope allows, answered without looking at all rows for each query."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from search.engines.types import Scope


class Allowed(ABC):
    """Some rows of a generation. ``count`` is known at once; naming them all costs time in proportion to it."""

    count: int

    @abstractmethod
    def among(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of these rows that are allowed, in their order."""

    @abstractmethod
    def rows(self) -> NDArray[np.int64] | None:
        """The allowed row numbers, unique; None for all there are."""


class Everything(Allowed):
    def __init__(self, count: int) -> None:
        self.count = count

    def among(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return rows

    def rows(self) -> None:
        return None


class Listed(Allowed):
    """Rows by number, ascending."""

    def __init__(self, rows: NDArray[np.int64]) -> None:
        self.count = len(rows)
        self._rows = rows

    def among(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return rows[found_in(self._rows, rows)[1]]

    def rows(self) -> NDArray[np.int64]:
        return self._rows


class InCollections(Allowed):
    """The rows of some collections, which ``by_collection`` knows by their places among all collections."""

    def __init__(self, by_collection: ByCollection, places: NDArray[np.int64]) -> None:
        self._by_collection = by_collection
        self._places = places
        self.count = int(by_collection.sizes[places].sum())

    def among(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        wanted = np.zeros(len(self._by_collection.sizes), dtype=np.bool_)
        wanted[self._places] = True
        return rows[wanted[self._by_collection.place_of_row[rows]]]

    def rows(self) -> NDArray[np.int64]:
        return self._by_collection.rows(self._places)


class ByCollection:
    """The rows of each collection. ``keys`` int64 (c,) ascending, ``sizes`` int64 (c,), ``place_of_row`` int32 (n,)."""

    def __init__(self, collections: NDArray[np.int64]) -> None:
        self.keys, places = np.unique(collections, return_inverse=True)
        self.place_of_row: NDArray[np.int32] = places.astype(np.int32)
        self.sizes: NDArray[np.int64] = np.bincount(places, minlength=len(self.keys))
        self._order = np.argsort(self.place_of_row, kind="stable")
        self._ends = np.cumsum(self.sizes)

    def rows(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        ends = self._ends[places]
        parts = [self._order[end - size : end] for end, size in zip(ends, self.sizes[places], strict=True)]
        return np.concatenate([np.empty(0, dtype=np.int64), *parts])


class ScopedRows:
    """What any scope allows of rows in id order: ``ids`` int64 (n,) strictly increasing, ``collections`` int64 (n,)."""

    def __init__(self, ids: NDArray[np.int64], collections: NDArray[np.int64]) -> None:
        self._ids = ids
        self._all = Everything(len(ids))
        self._by_collection = ByCollection(collections)

    def allowed(self, scope: Scope) -> Allowed:
        """The rows that satisfy the scope; keys and ids that the generation does not hold allow nothing."""
        if scope.is_everything:
            return self._all
        inside = None if scope.collections is None else self._in_collections(scope.collections)
        found: Allowed = self._all if inside is None else inside
        if scope.ids is not None:
            found = Listed(found.among(self._rows_of_ids(scope.ids)))
        return self._all if found.count == self._all.count else found

    def _in_collections(self, collections: NDArray[np.int64]) -> InCollections:
        wanted = np.unique(np.asarray(collections, dtype=np.int64))
        places, known = found_in(self._by_collection.keys, wanted)
        return InCollections(self._by_collection, places[known])

    def _rows_of_ids(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        places, known = found_in(self._ids, _ascending(np.asarray(ids, dtype=np.int64)))
        rows: NDArray[np.int64] = places[known]
        return rows


def _ascending(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Unique and in order; as they are where that is so, since to see it costs a hundredth of sorting."""
    return numbers if (numbers[1:] > numbers[:-1]).all() else np.unique(numbers)


def found_in(ascending: NDArray[np.int64], wanted: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where each wanted number stands among the ascending ones, int64 (n,), and whether it is there at all."""
    places = np.searchsorted(ascending, wanted)
    inside = places < len(ascending)
    known = inside.copy()
    known[inside] = ascending[places[inside]] == wanted[inside]
    return places, known
