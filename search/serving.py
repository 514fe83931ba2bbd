"""What each process answers with: per model the published generation, opened once, and the delta beside it.

Without a generation (none built yet, or one that cannot be trusted) the delta is everything, and search is exact. Where
a newer one cannot be opened, the one that is open goes on: its delta makes it complete.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from catalog.models import EmbeddingModel
from search.delta import Delta
from search.engines.errors import EngineError, IndexDamaged, IndexNotBuilt, IndexUnreachable
from search.engines.protocols import IndexEngine, IndexReader
from search.engines.registry import index_for
from search.engines.scan import nearest_of
from search.engines.types import Hits, IndexSpec, Scope

logger = logging.getLogger(__name__)

LOOK_AGAIN_SECONDS = 1.0  # between two looks for a generation where there is none: one stat
KEEP_OPEN_SECONDS = 600.0  # the index of a model that another one replaced, so that the way back opens nothing
LOOK_AGAIN_AFTER_DAMAGE_SECONDS = 30.0  # a look reads and hashes all of a damaged generation, and logs an error
SMALL = 1_000_000  # bytes of an index that are read, hashed and loaded within one query, unseen

UNUSABLE = "the index of %s cannot be used, answering exactly from the database: %s"
KEPT = "the newest generation of %s cannot be used, answering from %s and what is newer: %s"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One generation (None: none can answer) and the delta above it."""

    model: EmbeddingModel
    spec: IndexSpec
    reader: IndexReader | None
    delta: Delta

    @property
    def generation(self) -> str | None:
        return self.reader.generation if self.reader else None

    def search(self, vector: NDArray[np.float32], k: int, scope: Scope) -> Hits:
        """The nearest k of both, exact distances, ties by id; with what it took the reader. Raises InvalidVector."""
        newer = self.delta.search(vector, k, self.spec.metric, scope)
        if self.reader is None:
            return newer
        try:
            older = self.reader.search(vector, k, scope)
        except (IndexDamaged, IndexUnreachable) as error:  # only a reader that asks a server can say so now
            return _serving.instead_of(self, error).search(vector, k, scope)
        return replace(nearest_of([newer, older], k), effort=older.effort)

    @property
    def size(self) -> int:
        """Bytes of an index of all that it answers from, about."""
        return index_size(self.model, len(self.delta) + (self.reader.count if self.reader else 0))


@dataclass(frozen=True, slots=True)
class _Held:
    pipeline: str
    snapshot: Snapshot
    look_again_at: float  # monotonic seconds; until then it is not stale, whatever was published

    @property
    def is_stale(self) -> bool:
        reader = self.snapshot.reader
        return time.monotonic() >= self.look_again_at and (reader is None or reader.stale())


class _Serving:
    """The snapshots of this process, one per model: of a pipeline's, the one asked for last and, for a while, those
    asked for before it.

    The very first of a model is waited for. A stale one is replaced by one thread, beside the queries if the index is
    not a small one, and meanwhile it goes on answering.
    """

    def __init__(self) -> None:
        self._held: dict[UUID, _Held] = {}
        self._used: dict[UUID, float] = {}  # monotonic seconds of the last query
        self._opening: dict[UUID, threading.Lock] = defaultdict(threading.Lock)

    def snapshot(self, model: EmbeddingModel) -> Snapshot:
        engine, spec = index_for(model.pipeline, model.fingerprint, model.dimension)
        held = self._held.get(model.pk)
        if held is None or held.snapshot.spec != spec:
            held = self._first(model, engine, spec)
        elif held.is_stale:
            held = self._follow(engine, held)
        self._used[model.pk] = time.monotonic()
        self._drop_unused(model)
        held.snapshot.delta.refresh()
        return held.snapshot

    def _first(self, model: EmbeddingModel, engine: IndexEngine, spec: IndexSpec) -> _Held:
        with self._opening[model.pk]:
            held = self._held.get(model.pk)
            if held is None or held.snapshot.spec != spec:  # nobody did it while we waited
                held = self._held[model.pk] = _open(engine, spec, model, None)
            return held

    def _follow(self, engine: IndexEngine, stale: _Held) -> _Held:
        """What answers this query: what replaces it, or itself while another thread opens that."""
        key = stale.snapshot.model.pk
        lock = self._opening[key]
        if not lock.acquire(blocking=False):
            return stale
        replace_it = partial(self._replace, engine, stale, lock)
        if stale.snapshot.size <= SMALL:
            replace_it()
        else:
            _in_a_thread(replace_it, lock)
        return self._held.get(key, stale)

    def _replace(self, engine: IndexEngine, stale: _Held, lock: threading.Lock) -> None:
        """Unless that was done, or it was dropped, since it was found stale. Whoever calls has taken the lock."""
        model, spec = stale.snapshot.model, stale.snapshot.spec
        try:
            if self._held.get(model.pk) is stale:
                self._held[model.pk] = _open(engine, spec, model, stale)
        finally:
            lock.release()

    def instead_of(self, lost: Snapshot, error: EngineError) -> Snapshot:
        """What answers in place of a snapshot whose server is away or has dropped its generation.

        That is what another thread has opened meanwhile, else the database, until it is time to look again.
        """
        with self._opening[lost.model.pk]:
            held = self._held.get(lost.model.pk)
            if held is None or held.snapshot is lost:
                held = self._held[lost.model.pk] = _exactly(lost.model, lost.spec, error)
        held.snapshot.delta.refresh()
        return held.snapshot

    def _drop_unused(self, model: EmbeddingModel) -> None:
        """Another model serves the pipeline now: an index is large. Queries under way hold what they began with."""
        too_old = time.monotonic() - KEEP_OPEN_SECONDS
        for key, held in list(self._held.items()):
            if key != model.pk and held.pipeline == model.pipeline and self._used.get(key, 0.0) < too_old:
                self._held.pop(key, None)

    def is_open(self, model: EmbeddingModel) -> bool:
        return model.pk in self._held

    def forget(self) -> None:
        self._held.clear()


def _in_a_thread(replace_it: Callable[[], None], lock: threading.Lock) -> None:
    try:
        threading.Thread(target=replace_it, name="open-newer", daemon=True).start()
    except RuntimeError as error:  # no more threads; the next query tries again
        lock.release()
        logger.error("a newer generation cannot be opened beside the queries: %s", error)


def _open(engine: IndexEngine, spec: IndexSpec, model: EmbeddingModel, held: _Held | None) -> _Held:
    """``held``: what answers until then, of this spec; it goes on where nothing better can be opened."""
    try:
        reader = engine.open(spec)
    except IndexNotBuilt:  # as for every new model: the delta is everything
        return _without_generation(model, spec, held, LOOK_AGAIN_SECONDS)
    except Exception as error:  # noqa: BLE001 - libraries and storages have errors of their own; it is logged
        return _after_failure(model, spec, held, error)
    return _Held(model.pipeline, Snapshot(model, spec, reader, Delta(model, after_id=reader.highest_id)), 0.0)


def _after_failure(model: EmbeddingModel, spec: IndexSpec, held: _Held | None, error: Exception) -> _Held:
    """Damaged, too large for the memory that is left, too many open files: no reason to fail a query."""
    unforeseen = None if isinstance(error, EngineError) else error
    pause = LOOK_AGAIN_AFTER_DAMAGE_SECONDS
    if held is None or held.snapshot.reader is None:
        logger.error(UNUSABLE, model, error, exc_info=unforeseen)
        return _without_generation(model, spec, held, pause)
    logger.error(KEPT, model, held.snapshot.generation, error, exc_info=unforeseen)
    return replace(held, look_again_at=time.monotonic() + pause)


def _without_generation(model: EmbeddingModel, spec: IndexSpec, held: _Held | None, pause: float) -> _Held:
    if held is not None and held.snapshot.reader is None:
        snapshot = held.snapshot  # its delta is everything already
    else:
        snapshot = Snapshot(model, spec, None, Delta(model, after_id=0))
    return _Held(model.pipeline, snapshot, time.monotonic() + pause)


def _exactly(model: EmbeddingModel, spec: IndexSpec, error: EngineError) -> _Held:
    """The database alone. A generation that was dropped has a newer one, so that the next query looks at once."""
    logger.error(UNUSABLE, model, error)
    pause = LOOK_AGAIN_AFTER_DAMAGE_SECONDS if isinstance(error, IndexUnreachable) else 0.0
    return _without_generation(model, spec, None, pause)


def index_size(model: EmbeddingModel, count: int) -> int:
    """Bytes of an index of so many vectors: they, and about as much of a graph."""
    return count * model.dimension * 4 * 2


_serving = _Serving()


def snapshot(model: EmbeddingModel) -> Snapshot:
    """What this process answers with for this model now: the published generation and all that is newer."""
    return _serving.snapshot(model)


def is_open(model: EmbeddingModel) -> bool:
    """Whether this process holds a snapshot of it, stale or not."""
    return _serving.is_open(model)


def forget() -> None:
    """Drop everything held; the next query opens it anew."""
    _serving.forget()
