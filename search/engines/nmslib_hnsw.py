"""The default engine: an HNSW graph by NMSLIB proposes candidates, exact distances decide.

Malkov and Yashunin, Efficient and robust approximate nearest neighbor search using HNSW graphs (arXiv 1603.09320).
NMSLIB itself is loaded only when a graph is opened (search.engines.nmslib_graph); building happens in child processes.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from search.engines.child import run_child
from search.engines.folder_engine import Built, FolderEngine, FolderReader
from search.engines.generations import Stamp
from search.engines.manifest import Manifest
from search.engines.nmslib_files import GRAPH, SPARE, STRAGGLERS, NodeRows
from search.engines.scan import rescored
from search.engines.stored import RowCount, load_array
from search.engines.types import Hits, IndexSpec
from search.engines.vectors import graph_rows

if TYPE_CHECKING:
    from search.engines.nmslib_graph import Graph

DEFAULTS: Mapping[str, Any] = {"m": 16, "ef_construction": 200, "post": 0, "target_recall": 0.98}

# Below about 10,000 rows reading them all is faster than the graph: a scope this small is always scanned.
SCAN_ROWS = 10_000
# A search for this many nodes visits so much of the graph that reading the rows is no slower, and always right.
MOST_NODES = 4_096
WIDEN = 1.5  # asked of the graph beyond what a scope's share of the rows makes likely to be needed


class NmslibHnsw(FolderEngine):
    """Its options, with what they may be:

    - ``m``, 2 to 100: links of a node. ``ef_construction``, 10 to 2000: candidates looked at when a node is linked.
    - ``post``, 0 to 2: at 2 a build takes twice as long and queries are 1.3 to 1.6 times faster at equal recall.
    - ``target_recall``, 0.5 to 0.999: the recall@10 against exact search that efSearch of every build is tuned to.
    """

    name: ClassVar[str] = "nmslib_hnsw"

    @staticmethod
    def check_options(options: Mapping[str, Any]) -> dict[str, Any]:
        unknown = sorted(set(options) - set(DEFAULTS))
        if unknown:
            raise ValueError(f"unknown option {', '.join(unknown)}; there are {', '.join(DEFAULTS)}")
        filled = {**DEFAULTS, **options}
        for name, low, high in (("m", 2, 100), ("ef_construction", 10, 2000), ("post", 0, 2)):
            value = filled[name]
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise ValueError(f"{name} is a whole number from {low} to {high}, not {value!r}")
        target = filled["target_recall"]
        if not isinstance(target, float) or not 0.5 <= target <= 0.999:
            raise ValueError(f"target_recall is a number from 0.5 to 0.999, not {target!r}")
        return filled

    def build(self, folder: Path, spec: IndexSpec, rows: RowCount) -> Built:
        options = self.check_options(spec.options)
        libraries = {"nmslib": version("nmslib")}
        if rows.count == 0:
            return Built({"recall": 1.0, "ef_search": 0, "nodes": 0}, libraries)
        request = {"metric": spec.metric.value, **options}
        built = run_child("search.engines.nmslib_build", folder, request)
        verified = run_child("search.engines.nmslib_verify", folder, request)
        return Built({**built, **verified}, libraries)

    def reader(self, folder: Path, manifest: Manifest, stamp: Stamp | None) -> NmslibReader:
        return NmslibReader(folder, manifest, stamp)


class NmslibReader(FolderReader):
    """Asks the graph for candidates and re-scores them exactly; scans where the graph would not fill k.

    The plan for a scope: up to SCAN_ROWS rows are scanned. Above, the graph is asked for as many nodes as the scope's
    share of all rows makes necessary, twice as many while fewer than k remain, and beyond MOST_NODES the rows of the
    scope are scanned. Without a scope the graph answers unless more than MOST_NODES are wanted.
    """

    def __init__(self, folder: Path, manifest: Manifest, stamp: Stamp | None) -> None:
        super().__init__(folder, manifest, stamp)
        self._graph: Graph | None = None
        if self.count == 0:
            return
        module = importlib.import_module("search.engines.nmslib_graph")
        self._nodes = NodeRows(folder)
        self._stragglers: NDArray[np.int64] = load_array(folder / STRAGGLERS)
        ef_search = int(manifest.measured["ef_search"])
        self._graph = module.Graph(folder / GRAPH, self._nodes.count, manifest.dimension, ef_search)

    def _nearest(self, query: NDArray[np.float32], k: int, rows: NDArray[np.int64] | None) -> Hits:
        if rows is not None and len(rows) <= SCAN_ROWS:
            return self._scan(query, k, rows)
        found = self._candidates(query, k, rows)
        if found is None:
            return self._scan(query, k, rows)
        return rescored(self._stored.ids, self._stored.vectors, query, k=k, metric=self.manifest.metric, rows=found)

    def _candidates(
        self, query: NDArray[np.float32], k: int, rows: NDArray[np.int64] | None
    ) -> NDArray[np.int64] | None:
        """At least k allowed rows, the nearest ones the graph finds, or None where it does not lead to that many."""
        target = graph_rows(query[None, :], self.manifest.metric)[0]
        allowed = self._mask(rows)
        asked = k + SPARE if rows is None else int(k * self.count / len(rows) * WIDEN) + SPARE
        while asked <= MOST_NODES and self._graph is not None:
            found = self._graph.nearest(target, asked)
            near = self._nodes.rows(np.union1d(found, self._stragglers))
            if allowed is not None:
                near = near[allowed[near]]
            if len(near) >= k:
                return near
            if asked >= self._nodes.count:
                return None
            asked *= 2
        return None

    def _mask(self, rows: NDArray[np.int64] | None) -> NDArray[np.bool_] | None:
        if rows is None:
            return None
        allowed = np.zeros(self.count, dtype=np.bool_)
        allowed[rows] = True
        return allowed
