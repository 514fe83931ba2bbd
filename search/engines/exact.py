"""The exact engine: reads every vector, finds the true neighbours. The reference, and the judge of the others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from search.engines.allowed import Allowed
from search.engines.folder_engine import Built, FolderEngine, FolderReader
from search.engines.generations import Stamp
from search.engines.incoming import RowCount
from search.engines.manifest import Manifest
from search.engines.scan import squared_norms
from search.engines.types import Hits, IndexSpec, Progress


class Exact(FolderEngine):
    """Takes no options. 100,000 vectors of 128 dimensions take a few ms a query on one core."""

    name: ClassVar[str] = "exact"

    @staticmethod
    def check_options(options: Mapping[str, Any]) -> dict[str, Any]:
        if options:
            raise ValueError(f"the exact engine takes no options, but got {', '.join(sorted(options))}")
        return {}

    def build(self, folder: Path, spec: IndexSpec, rows: RowCount, progress: Progress | None = None) -> Built:
        return Built(measured={"recall": 1.0})

    def reader(self, folder: Path, manifest: Manifest, stamp: Stamp | None) -> ExactReader:
        return ExactReader(folder, manifest, stamp)


class ExactReader(FolderReader):
    """Scans the memory-mapped vectors of one generation. Holds four bytes a vector."""

    def __init__(self, folder: Path, manifest: Manifest, stamp: Stamp | None) -> None:
        super().__init__(folder, manifest, stamp)
        self._squares = squared_norms(self._stored.vectors)

    def _nearest(self, query: NDArray[np.float32], k: int, allowed: Allowed) -> Hits:
        return self._scan(query, k, allowed, self._squares)
