"""The files that engines with a graph keep beside the rows of a generation, and how nodes become rows again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from search.engines.stored import load_array

NODES = "nodes.npy"  # int64 (n,): the graph node of each row; equal rows share one
STRAGGLERS = "stragglers.npy"  # int64: nodes that the graph does not lead to; they are looked at in every search

SPARE = 4  # nodes asked of the graph beyond k: its float32 order may differ from the exact one at the edge


class NodeRows:
    """Which rows each node of the graph stands for."""

    def __init__(self, folder: Path) -> None:
        nodes: NDArray[np.int64] = load_array(folder / NODES)
        self.count = int(nodes.max()) + 1 if len(nodes) else 0
        self._rows = np.argsort(nodes, kind="stable")
        self._starts = np.searchsorted(nodes[self._rows], np.arange(self.count + 1))

    def first_rows(self) -> NDArray[np.int64]:
        """The lowest row of each node, int64 (count,)."""
        return self._rows[self._starts[:-1]]

    def rows(self, nodes: NDArray[np.int64]) -> NDArray[np.int64]:
        """All rows of these nodes."""
        if self.count == len(self._rows):
            return self._rows.take(nodes)
        parts = [self._rows[self._starts[node] : self._starts[node + 1]] for node in nodes]
        return np.concatenate([np.empty(0, dtype=np.int64), *parts])
