"""What goes in and out of an index engine: ids and vectors, nothing else. No Django, no settings, no models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from search.engines.depot import Depot

# Called while a generation is built, with the step, how much of it is done, and of how much. The steps in their order:
# "reading", "adding", "building", "tuning" (of engines with a graph), "checking", "publishing".
Progress = Callable[[str, int, int], None]


def unwatched(step: str, done: int, total: int) -> None:
    """The Progress of a build that nobody watches."""


class Metric(StrEnum):
    """The two distances, both smaller is nearer and 0 for a vector and itself.

    L2 is the true Euclidean distance (not squared), 0 to infinity. COSINE is 1 - cos(a, b), 0 to 2.
    """

    L2 = "l2"
    COSINE = "cosine"


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """Which index: everything that must agree between the one who builds and the one who asks.

    ``root`` is the folder that holds the generations of this model; ``fingerprint`` is the embedding model's.
    ``options`` are the engine's own (m, ef_construction, ...), already checked by the registry. ``depot`` is where
    hosts without a disk in common hand generations on; None where there is only this one. ``connection`` is how an
    engine reaches its server, where it has one; it may hold a secret, and is neither recorded nor logged.
    """

    root: Path
    fingerprint: str
    dimension: int
    metric: Metric
    options: Mapping[str, Any] = field(default_factory=dict)
    depot: Depot | None = None
    connection: Any = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Scope:
    """Where to look. None means everywhere; with both given a vector must satisfy both.

    ``collections``: int64 collection keys as given to ``add``. ``ids``: sorted unique int64 vector ids.
    """

    collections: NDArray[np.int64] | None = None
    ids: NDArray[np.int64] | None = None

    @property
    def is_everything(self) -> bool:
        return self.collections is None and self.ids is None


EVERYWHERE = Scope()


class Strategy(StrEnum):
    """How a reader came to its hits. A scan reads every row that the scope allows, and is exact."""

    NOTHING = "nothing to search"
    SCAN = "scan"
    GRAPH = "graph"
    GRAPH_THEN_SCAN = "graph, then scan"
    REMOTE = "remote"  # a server of vectors decides


class Effort(NamedTuple):
    """What a reader did for its hits: of ``rows`` in the generation the scope allowed ``allowed``.

    ``nodes`` were asked of the graph, in all ``rounds`` together, and ``scanned`` rows were read one by one.
    """

    strategy: Strategy
    rows: int
    allowed: int
    nodes: int = 0
    rounds: int = 0
    scanned: int = 0


@dataclass(frozen=True, slots=True)
class Hits:
    """Nearest first, ties by id: ``ids`` int64 of shape (n,), ``distances`` float64 of shape (n,), n <= k.

    ``effort``: what it took, of the readers that say it.
    """

    ids: NDArray[np.int64]
    distances: NDArray[np.float64]
    effort: Effort | None = None

    def __len__(self) -> int:
        return len(self.ids)
