"""The reader that every engine with a graph shares: the graph proposes candidates, exact distances decide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from search.engines.allowed import Allowed
from search.engines.folder_engine import FolderReader
from search.engines.generations import Stamp
from search.engines.graph_files import SPARE, STRAGGLERS, NodeRows
from search.engines.graph_library import Graph
from search.engines.manifest import Manifest
from search.engines.planning import Plan, Round, plan
from search.engines.scan import rescored
from search.engines.stored import load_array
from search.engines.stragglers import Stragglers
from search.engines.types import Effort, Hits, Strategy
from search.engines.vectors import graph_rows

# Opens the graph of a verified folder, of so many nodes, at the width that the build measured.
OpenGraph = Callable[[Path, Manifest, int], Graph]


class GraphReader(FolderReader):
    """Asks the graph for candidates as search.engines.planning says, and re-scores them exactly; else it scans."""

    def __init__(self, folder: Path, manifest: Manifest, stamp: Stamp | None, open_graph: OpenGraph) -> None:
        super().__init__(folder, manifest, stamp)
        if self.count == 0:
            return
        self._nodes = NodeRows(folder)
        lost = self._nodes.rows(load_array(folder / STRAGGLERS))
        self._stragglers = Stragglers(lost, self._stored.vectors[lost], manifest.metric)
        self._graph = open_graph(folder, manifest, self._nodes.count)
        self._width = self._graph.width

    def _nearest(self, query: NDArray[np.float32], k: int, allowed: Allowed) -> Hits:
        target = graph_rows(query[None, :], self.manifest.metric)[0]
        asked: list[int] = []
        for step in self._plan(k, allowed).rounds:
            asked.append(step.nodes)
            near = self._near(target, step, allowed)
            if len(near) >= k:
                hits = self._with_stragglers(query, target, k, near, allowed)
                effort = Effort(Strategy.GRAPH, self.count, allowed.count, nodes=sum(asked), rounds=len(asked))
                return replace(hits, effort=effort)
        hits = self._scan(query, k, allowed)
        if not asked or hits.effort is None:
            return hits
        effort = replace(hits.effort, strategy=Strategy.GRAPH_THEN_SCAN, nodes=sum(asked), rounds=len(asked))
        return replace(hits, effort=effort)

    def _plan(self, k: int, allowed: Allowed) -> Plan:
        return plan(nodes=self._nodes.count, rows=self.count, allowed=allowed.count, k=k, width=self._width)

    def _near(self, target: NDArray[np.float32], step: Round, allowed: Allowed) -> NDArray[np.int64]:
        """The allowed rows among the nodes that can be trusted, nearest first."""
        rows = self._nodes.rows(self._graph.nearest(target, step.nodes)[: step.rank + SPARE])
        return rows[allowed.keeps(rows)]

    def _with_stragglers(
        self,
        query: NDArray[np.float32],
        target: NDArray[np.float32],
        k: int,
        near: NDArray[np.int64],
        allowed: Allowed,
    ) -> Hits:
        """The k nearest of the rows that the graph gave, at least k, and of those it does not lead to."""
        hits = self._rescored(query, k, near)
        lost = self._stragglers.within(target, float(hits.distances[-1]))
        if len(lost) == 0:
            return hits
        return self._rescored(query, k, np.union1d(near, lost[allowed.keeps(lost)]))

    def _rescored(self, query: NDArray[np.float32], k: int, rows: NDArray[np.int64]) -> Hits:
        return rescored(self._stored.ids, self._stored.vectors, query, k=k, metric=self.manifest.metric, rows=rows)
