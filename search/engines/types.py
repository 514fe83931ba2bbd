"""What goes in and out of an index engine: ids and vectors, nothing else. No Django, no settings, no models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
    ``options`` are the engine's own (m, ef_construction, ...), already checked by the registry.
    """

    root: Path
    fingerprint: str
    dimension: int
    metric: Metric
    options: Mapping[str, Any] = field(default_factory=dict)


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


@dataclass(frozen=True, slots=True)
class Hits:
    """Nearest first, ties by id: ``ids`` int64 of shape (n,), ``distances`` float64 of shape (n,), n <= k."""

    ids: NDArray[np.int64]
    distances: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.ids)
