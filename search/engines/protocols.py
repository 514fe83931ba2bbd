"""The contract of an index engine. tests/search/engines/contract.py is the suite that every engine passes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from search.engines.manifest import Manifest
from search.engines.types import EVERYWHERE, Hits, IndexSpec, Progress, Scope


class IndexReader(Protocol):
    """One published generation, opened and verified. Safe to use from many threads."""

    generation: str  # name of the published generation this reader answers from
    count: int
    highest_id: int  # 0 when empty
    manifest: Manifest  # what it was built from, and what was measured

    def search(self, vector: NDArray[np.floating], k: int, scope: Scope = EVERYWHERE) -> Hits:
        """The min(k, what the scope allows) nearest vectors; distances re-scored exactly as float64 differences.

        The hits say what they took (Effort).

        ``vector``: any float dtype, any strides, shape (dimension,); never changed. ``k`` >= 1.
        Raises InvalidVector for a wrong dimension, NaN, Inf, or (the contract's one answer for both metrics) a vector
        whose norm is near zero.
        """
        ...

    def stale(self) -> bool:
        """True when another generation has been published since (which costs reading one line)."""
        ...


class IndexWriter(Protocol):
    """A new generation, invisible to readers until ``publish``. Exactly one of publish and discard ends it."""

    @property
    def generation(self) -> str:
        """Its name from the start, the one its reader will have."""
        ...

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32], collections: NDArray[np.int64]) -> None:
        """Append rows, in chunks, ids strictly increasing over the whole build. The caller's arrays are not changed.

        Raises InvalidVector for what ``search`` would refuse, naming the id; ValueError for ids out of order.
        """
        ...

    def publish(self, progress: Progress | None = None) -> Manifest:
        """Build, verify in a fresh process, and move the pointer in one atomic rename; the manifest of the result.

        Nothing of it is loaded here: who builds need not search. ``measured`` of the manifest has the ``recall``.
        ``progress`` is told the step ("adding", "building", "tuning", "checking", ...) and how far it is.

        Raises BuildFailed (with the reason, the previous generation still serving) when a check does not hold.
        """
        ...

    def discard(self) -> None:
        """Remove all trace of this build. Safe to call twice and after a failed publish."""
        ...


class IndexEngine(Protocol):
    """Starts new generations and opens the published one."""

    name: ClassVar[str]

    @staticmethod
    def check_options(options: Mapping[str, Any]) -> dict[str, Any]:
        """The options with defaults filled in. Raises ValueError, with the reason, for an unknown or bad one."""
        ...

    def start(self, spec: IndexSpec) -> IndexWriter: ...

    def open(self, spec: IndexSpec) -> IndexReader:
        """The published generation. Raises IndexNotBuilt if there is none, IndexDamaged if it cannot be trusted.

        An engine whose index lies on a server raises IndexUnreachable where that does not answer, here and in every
        other method, and so do its readers; their ``search`` also raises IndexDamaged once their generation is dropped.
        """
        ...

    def published(self, spec: IndexSpec) -> str:
        """The name of the published generation, nothing of it read. Raises what ``open`` raises."""
        ...

    def inspect(self, spec: IndexSpec, trusted_seconds: float = 0.0) -> Manifest:
        """What ``open`` would open, its files verified, without loading the index. Raises what ``open`` raises.

        Files that this process read and found whole, not longer ago than this, and that look unchanged, may be trusted.
        """
        ...

    def remove(self, spec: IndexSpec) -> None:
        """Remove all that is kept of this index, here and where other hosts fetch it from; nothing where nothing is.

        For whoever knows that nobody builds it. What was opened answers on for as long as it can without it. Removes
        as much as can be removed and then raises OSError, IndexUnreachable, or what the storage raises: safe to repeat.
        """
        ...


class Fetched(NamedTuple):
    """``ids`` int64 (n,) in any order; ``vectors`` float32 (n, d)."""

    ids: NDArray[np.int64]
    vectors: NDArray[np.float32]


@runtime_checkable
class ServerEngine(Protocol):
    """What an IndexEngine whose indexes lie on a server can be asked besides. Both raise IndexUnreachable."""

    def indexes(self, spec: IndexSpec) -> list[str]:
        """All that the server of ``spec`` keeps, of this site: what ``IndexSpec.root`` is called of each.

        A server may know fewer characters: everything but letters and digits has become an underscore.
        """
        ...

    def fetch(self, spec: IndexSpec, manifest: Manifest, ids: NDArray[np.int64]) -> Fetched:
        """Those of these ids that a published generation holds, and their vectors as stored.

        Raises IndexDamaged where that generation is gone.
        """
        ...
