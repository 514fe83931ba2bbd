"""What each process answers with: per model the published generation, opened once, and the delta beside it.

Without a generation (none built yet, or one that cannot be trusted) the delta is everything, and search is exact.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, replace
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

UNUSABLE = "the index of %s cannot be used, answering exactly from the database: %s"


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


@dataclass(frozen=True, slots=True)
class _Held:
    pipeline: str
    snapshot: Snapshot
    look_again_at: float  # monotonic seconds; matters only where there is no reader that could say it is stale

    def is_stale(self, spec: IndexSpec) -> bool:
        if self.snapshot.spec != spec:
            return True
        reader = self.snapshot.reader
        return reader.stale() if reader else time.monotonic() >= self.look_again_at


class _Serving:
    """The snapshots of this process, one per model: of a pipeline's, the one asked for last and, for a while, those
    asked for before it.

    One thread replaces a stale snapshot; the others go on with the old one. Only the very first is waited for.
    """

    def __init__(self) -> None:
        self._held: dict[UUID, _Held] = {}
        self._used: dict[UUID, float] = {}  # monotonic seconds of the last query
        self._opening: dict[UUID, threading.Lock] = defaultdict(threading.Lock)

    def snapshot(self, model: EmbeddingModel) -> Snapshot:
        engine, spec = index_for(model.pipeline, model.fingerprint, model.dimension)
        held = self._held.get(model.pk)
        if held is None or held.is_stale(spec):
            held = self._replace(model, engine, spec, held)
        self._used[model.pk] = time.monotonic()
        self._drop_unused(model)
        held.snapshot.delta.refresh()
        return held.snapshot

    def _replace(self, model: EmbeddingModel, engine: IndexEngine, spec: IndexSpec, stale: _Held | None) -> _Held:
        lock = self._opening[model.pk]
        if not lock.acquire(blocking=stale is None):
            assert stale is not None
            return stale
        try:
            held = self._held.get(model.pk)
            if held is None or held.is_stale(spec):  # nobody did it while we waited
                held = self._held[model.pk] = _open(engine, spec, model, held)
            return held
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


def _open(engine: IndexEngine, spec: IndexSpec, model: EmbeddingModel, held: _Held | None) -> _Held:
    reader, pause = None, LOOK_AGAIN_SECONDS
    try:
        reader = engine.open(spec)
    except IndexNotBuilt:
        pass  # as for every new model: the delta is everything
    except (IndexDamaged, IndexUnreachable) as error:
        logger.error(UNUSABLE, model, error)
        pause = LOOK_AGAIN_AFTER_DAMAGE_SECONDS
    if reader is None and held is not None and held.snapshot.reader is None and held.snapshot.spec == spec:
        snapshot = held.snapshot  # still no generation: its delta is everything already
    else:
        snapshot = Snapshot(model, spec, reader, Delta(model, after_id=reader.highest_id if reader else 0))
    return _Held(model.pipeline, snapshot, time.monotonic() + pause)


def _exactly(model: EmbeddingModel, spec: IndexSpec, error: EngineError) -> _Held:
    """The database alone. A generation that was dropped has a newer one, so that the next query looks at once."""
    logger.error(UNUSABLE, model, error)
    pause = LOOK_AGAIN_AFTER_DAMAGE_SECONDS if isinstance(error, IndexUnreachable) else 0.0
    return _Held(model.pipeline, Snapshot(model, spec, None, Delta(model, after_id=0)), time.monotonic() + pause)


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
