"""What each process answers with: per model the published generation, opened once, and the delta beside it.

Without a generation (none built yet, or one that cannot be trusted) the delta is everything, and search is exact.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from catalog.models import EmbeddingModel
from search.delta import Delta
from search.engines.errors import IndexDamaged, IndexNotBuilt
from search.engines.protocols import IndexEngine, IndexReader
from search.engines.registry import index_for
from search.engines.scan import nearest_of
from search.engines.types import Hits, IndexSpec, Scope

logger = logging.getLogger(__name__)

LOOK_AGAIN_SECONDS = 1.0  # between two looks for a generation where there is none: one stat
LOOK_AGAIN_AFTER_DAMAGE_SECONDS = 30.0  # a look reads and hashes all of a damaged generation, and logs an error


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One generation (None: none can answer) and the delta above it."""

    spec: IndexSpec
    reader: IndexReader | None
    delta: Delta

    @property
    def generation(self) -> str | None:
        return self.reader.generation if self.reader else None

    def search(self, vector: NDArray[np.float32], k: int, scope: Scope) -> Hits:
        """The nearest k of both, exact distances, ties by id. Raises InvalidVector."""
        parts = [self.delta.search(vector, k, self.spec.metric, scope)]
        if self.reader is not None:
            parts.append(self.reader.search(vector, k, scope))
        return nearest_of(parts, k)


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
    """The snapshots of this process, one per model: of a pipeline's, the one asked for last.

    One thread replaces a stale snapshot; the others go on with the old one. Only the very first is waited for.
    """

    def __init__(self) -> None:
        self._held: dict[UUID, _Held] = {}
        self._opening: dict[UUID, threading.Lock] = defaultdict(threading.Lock)

    def snapshot(self, model: EmbeddingModel) -> Snapshot:
        engine, spec = index_for(model.pipeline, model.fingerprint, model.dimension)
        held = self._held.get(model.pk)
        if held is None or held.is_stale(spec):
            held = self._replace(model, engine, spec, held)
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
            if stale is None:
                self._drop_others(model)
            return held
        finally:
            lock.release()

    def _drop_others(self, model: EmbeddingModel) -> None:
        """Another model serves the pipeline now: an index is large. Queries under way hold what they began with."""
        for key, held in list(self._held.items()):
            if key != model.pk and held.pipeline == model.pipeline:
                self._held.pop(key, None)

    def forget(self) -> None:
        self._held.clear()


def _open(engine: IndexEngine, spec: IndexSpec, model: EmbeddingModel, held: _Held | None) -> _Held:
    reader, pause = None, LOOK_AGAIN_SECONDS
    try:
        reader = engine.open(spec)
    except IndexNotBuilt:
        pass  # as for every new model: the delta is everything
    except IndexDamaged as error:
        logger.error("the index of %s cannot be used, answering exactly from the database: %s", model, error)
        pause = LOOK_AGAIN_AFTER_DAMAGE_SECONDS
    if reader is None and held is not None and held.snapshot.reader is None and held.snapshot.spec == spec:
        snapshot = held.snapshot  # still no generation: its delta is everything already
    else:
        snapshot = Snapshot(spec, reader, Delta(model, after_id=reader.highest_id if reader else 0))
    return _Held(model.pipeline, snapshot, time.monotonic() + pause)


_serving = _Serving()


def snapshot(model: EmbeddingModel) -> Snapshot:
    """What this process answers with for this model now: the published generation and all that is newer."""
    return _serving.snapshot(model)


def forget() -> None:
    """Drop everything held; the next query opens it anew."""
    _serving.forget()
