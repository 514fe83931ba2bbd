"""What a library of approximate search gives: one small module each, the only one that imports it.

Such a module is loaded by name when it is first used: a web or worker process loads a library only to answer from it.
"Graph" stands for whatever the library builds over the nodes 0, 1, ...; in Annoy's case a forest of trees.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from search.engines.errors import InvalidVector


class GraphBuilder(Protocol):
    """Collects rows, numbered 0, 1, ... in the order they come, and makes the graph of them; ``count`` so far.

    May raise BuildFailed for rows it cannot hold.
    """

    count: int

    def kept(self, rows: NDArray[np.float32]) -> NDArray[Any]:
        """What the graph keeps of rows (n, d), contiguous, one each: rows that agree in it must be added only once."""
        ...

    def add(self, rows: NDArray[np.float32]) -> None:
        """Rows of search.engines.vectors.graph_rows, float32 (n, d)."""
        ...

    def save(self, path: Path) -> None:
        """Finish and write, straight to ``path``: the folder is a draft that nobody reads."""
        ...


class Graph(Protocol):
    """A loaded graph, compared by l2. Its file must have been verified: altered bytes crash some libraries.

    ``width`` says how much of the graph a search looks at, at least ``k``; it may be changed while nobody searches.
    Searching is safe from many threads.
    """

    width: int

    def nearest(self, row: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """Nodes, nearest first, at most k of them; fewer where the graph does not reach more. Raises InvalidVector."""
        ...

    def nearest_of_many(self, rows: NDArray[np.float32], k: int) -> list[NDArray[np.int64]]:
        """``nearest`` for each row, on all cores."""
        ...


# From the dimension and the engine's checked options.
NewBuilder = Callable[[int, Mapping[str, Any]], GraphBuilder]
# From the path, the number of nodes, the dimension and the width. Raises IndexDamaged where the file holds another
# number of nodes, which also an all-zero file that loads without complaint does.
OpenGraph = Callable[[Path, int, int, int], Graph]


class GraphLibrary(Protocol):
    """The module. FILE is the name of its file in a generation, WIDTH what the manifest calls the tuned width."""

    FILE: str
    WIDTH: str
    GraphBuilder: NewBuilder
    Graph: OpenGraph


def graph_library(module: str) -> GraphLibrary:
    """Raises ImportError where the library is not installed."""
    return cast(GraphLibrary, importlib.import_module(module))


def check_row(row: NDArray[np.float32], dimension: int) -> None:
    """Before every call: some libraries read beyond a row that is too short. Raises InvalidVector."""
    if row.shape != (dimension,) or row.dtype != np.float32:
        raise InvalidVector(f"The graph holds float32 ({dimension},), not {row.dtype} {row.shape}.")


def check_rows(rows: NDArray[np.float32], dimension: int) -> None:
    """``check_row`` for rows (n, dimension)."""
    if rows.ndim != 2 or rows.shape[1] != dimension or rows.dtype != np.float32:
        raise InvalidVector(f"The graph holds float32 (n, {dimension}), not {rows.dtype} {rows.shape}.")
