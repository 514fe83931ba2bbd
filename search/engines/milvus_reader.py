"""The reader of a generation in Milvus: the server proposes candidates, exact distances computed here decide.

The plan, for k of the rows that a scope allows:

- No more of them than are asked of the index, or so few that they fit into one message: all are read, which is exact.
- Otherwise the index is asked for k and some to spare, inside the scope's collections; for twice as many while fewer
  than k come back, or while equally near ones may be missing at the end (up to MOST, which servers do not exceed).
- A scope of ids is read row by row up to MOST; above that the index is asked without it, for as many more as its share
  of all rows makes necessary, and only then row by row.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from search.engines.errors import EngineError
from search.engines.graph_files import SPARE
from search.engines.manifest import Manifest
from search.engines.milvus_generations import MilvusGenerations
from search.engines.milvus_verify import FEW
from search.engines.scan import NO_HITS, nearest_of, rescored
from search.engines.types import EVERYWHERE, Effort, Hits, Scope, Strategy
from search.engines.vectors import checked_query

if TYPE_CHECKING:
    from search.engines.milvus_client import Found

MOST = 16_384  # what a server answers at most (milvus.io, Milvus Limits: topk)
MESSAGE = 8 << 20  # bytes of vectors in one answer; pymilvus makes Python floats of them
LOOK_AGAIN_SECONDS = 1.0  # between two looks at the alias
EQUAL = 1e-9  # distances that count as equal: float64 sums of the same numbers in another order
WIDEN = 1.5  # asked beyond what the share of a scope of ids makes likely to be needed


@dataclass(frozen=True, slots=True)
class _Inside:
    """A scope as the server is told it: an expression (empty: everything), and how many rows satisfy it."""

    where: str
    count: int


class MilvusReader:
    """An IndexReader. Holds no rows: as much memory as a query's candidates."""

    def __init__(self, generations: MilvusGenerations, manifest: Manifest) -> None:
        self.manifest = manifest
        self.generation = manifest.generation
        self.count = manifest.count
        self.highest_id = manifest.highest_id
        self._server = generations.server
        self._collection = generations.collection(manifest.generation)
        self._width = int(manifest.measured["width"])
        self._at_once = max(1, min(MOST, self._server.connection.batch, MESSAGE // (4 * manifest.dimension)))
        self._watch = _Watch(generations, manifest.generation)
        self._inside = lru_cache(maxsize=1_000)(self._counted)  # what is published does not change

    def stale(self) -> bool:
        """See IndexReader.stale. Asks once a second; a server that does not answer has published nothing."""
        return self._watch.is_over()

    def search(self, vector: ArrayLike, k: int, scope: Scope = EVERYWHERE) -> Hits:
        """See IndexReader.search. Raises IndexUnreachable, and IndexDamaged once the generation was dropped."""
        query = checked_query(vector, self.manifest.dimension)
        if k < 1:
            raise ValueError(f"k is {k}, but at least one neighbour must be asked for.")
        if scope.ids is not None:
            return self._among(query, k, np.unique(np.asarray(scope.ids, dtype=np.int64)), scope.collections)
        inside = self._scope(scope.collections)
        if inside.count == 0:
            return self._with(NO_HITS, Strategy.NOTHING, allowed=0)
        wanted = min(k, inside.count)
        return self._from_index(query, wanted, inside) or self._scan(query, wanted, inside)

    # --- scopes ---

    def _scope(self, collections: NDArray[np.int64] | None) -> _Inside:
        if collections is None or self.count == 0:
            return _Inside("", self.count)
        keys = np.unique(np.asarray(collections, dtype=np.int64))
        return self._inside(tuple(keys.tolist()))

    def _counted(self, collections: tuple[int, ...]) -> _Inside:
        if not collections:
            return _Inside("", 0)
        where = f"collection in [{', '.join(map(str, collections))}]"
        count = self._server.count(self._collection, where)
        return _Inside("", count) if count == self.count else _Inside(where, count)

    def _among(
        self, query: NDArray[np.float32], k: int, ids: NDArray[np.int64], collections: NDArray[np.int64] | None
    ) -> Hits:
        """The nearest of these ids, wherever they are or in these collections."""
        if len(ids) > MOST:
            hits = self._from_index_among(query, k, ids, collections)
            if hits is not None:
                return hits
        pages = (ids[start : start + self._at_once].tolist() for start in range(0, len(ids), self._at_once))
        found = (self._server.fetch(self._collection, page, self.manifest.dimension) for page in pages if self.count)
        return self._nearest(query, k, (_kept(each, None, collections) for each in found))

    # --- the index ---

    def _from_index(self, query: NDArray[np.float32], k: int, inside: _Inside) -> Hits | None:
        """None where reading all that is allowed costs no more, or where the index does not lead to k."""
        asked, spent, rounds = k + SPARE, 0, 0
        best: Hits | None = None
        while asked <= MOST and max(asked, min(self._at_once, FEW)) < inside.count:
            found = self._ask(query, asked, inside)
            spent, rounds = spent + asked, rounds + 1
            if len(found.ids) >= k:
                every = self._rescored(query, len(found.ids), found)
                effort = Effort(Strategy.REMOTE, self.count, inside.count, nodes=spent, rounds=rounds)
                best = Hits(every.ids[:k], every.distances[:k], effort)
                if len(found.ids) < asked or not _ends_equal(every.distances, k):
                    return best
            asked *= 2
        return best if inside.count > MOST else None

    def _from_index_among(
        self, query: NDArray[np.float32], k: int, ids: NDArray[np.int64], collections: NDArray[np.int64] | None
    ) -> Hits | None:
        asked, spent, rounds = int(k * self.count / len(ids) * WIDEN) + SPARE, 0, 0
        everything = _Inside("", self.count)
        while asked <= min(MOST, self.count):
            found = _kept(self._ask(query, asked, everything), ids, collections)
            spent, rounds = spent + asked, rounds + 1
            if len(found.ids) >= k:
                effort = Effort(Strategy.REMOTE, self.count, len(ids), nodes=spent, rounds=rounds)
                return replace(self._rescored(query, k, found), effort=effort)
            asked *= 2
        return None

    def _ask(self, query: NDArray[np.float32], limit: int, inside: _Inside) -> Found:
        """The smaller the share of allowed rows, the more of a graph has to be looked at for as many of them."""
        metric, width = self.manifest.metric, min(MOST, self._width * self.count // inside.count)
        (found,) = self._server.search(
            self._collection, query[None, :], limit=limit, metric=metric, width=width, where=inside.where
        )
        return found

    # --- reading rows ---

    def _scan(self, query: NDArray[np.float32], k: int, inside: _Inside) -> Hits:
        pages = self._server.walk(self._collection, inside.where, self._at_once, self.manifest.dimension)
        return self._nearest(query, k, pages)

    def _nearest(self, query: NDArray[np.float32], k: int, pages: Iterable[Found]) -> Hits:
        best, read = NO_HITS, 0
        for found in pages:
            best = nearest_of([best, self._rescored(query, k, found)], k)
            read += len(found.ids)
        return self._with(best, Strategy.SCAN if read else Strategy.NOTHING, allowed=read, scanned=read)

    def _rescored(self, query: NDArray[np.float32], k: int, found: Found) -> Hits:
        rows = np.arange(len(found.ids))
        return rescored(found.ids, found.vectors, query, k=k, metric=self.manifest.metric, rows=rows)

    def _with(self, hits: Hits, strategy: Strategy, allowed: int, scanned: int = 0) -> Hits:
        return replace(hits, effort=Effort(strategy, self.count, allowed, scanned=scanned))


def _kept(found: Found, ids: NDArray[np.int64] | None, collections: NDArray[np.int64] | None) -> Found:
    """Those of these ids and in these collections, where they are given."""
    kept = np.ones(len(found.ids), dtype=np.bool_)
    if ids is not None:
        kept &= np.isin(found.ids, ids)
    if collections is not None:
        kept &= np.isin(found.collections, collections)
    return replace(found, ids=found.ids[kept], vectors=found.vectors[kept], collections=found.collections[kept])


def _ends_equal(distances: NDArray[np.float64], k: int) -> bool:
    """Whether all from the k-th on are equally near: then there may be more such, whose ids come first."""
    return bool(distances[-1] - distances[k - 1] <= EQUAL * max(1.0, float(distances[-1])))


class _Watch:
    """Whether another generation serves by now. One thread asks, at most once a second; the others know its answer."""

    def __init__(self, generations: MilvusGenerations, generation: str) -> None:
        self._generations = generations
        self._generation = generation
        self._asking = threading.Lock()
        self._look_at = time.monotonic() + LOOK_AGAIN_SECONDS
        self._is_over = False

    def is_over(self) -> bool:
        if not self._is_over and time.monotonic() >= self._look_at and self._asking.acquire(blocking=False):
            try:
                self._is_over = self._generations.published() != self._generation
            except EngineError:  # no alias, or no answer: what is open answers on, and says by itself if it cannot
                pass
            finally:
                self._look_at = time.monotonic() + LOOK_AGAIN_SECONDS
                self._asking.release()
        return self._is_over
