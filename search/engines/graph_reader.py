"""The reader that every engine with a graph shares: the graph proposes candidates, exact distances decide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

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
from search.engines.vectors import graph_row

# Opens the graph of a verified folder, of so many nodes, at the width that the build measured.
OpenGraph = Callable[[Path, Manifest, int], Graph]


class Question(NamedTuple):
    """``query`` as it was asked, float32 (d,), and ``target``, the same as the graph knows it."""

    query: NDArray[np.float32]
    target: NDArray[np.float32]
    k: int
    allowed: Allowed


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
        question = Question(query, graph_row(query, self.manifest.metric), k, allowed)
        spent = 0
        rounds = self._plan(k, allowed).rounds
        for number, step in enumerate(rounds, start=1):
            spent += step.nodes
            near = self._near(question, step)
            if len(near) >= k:
                effort = Effort(Strategy.GRAPH, self.count, allowed.count, nodes=spent, rounds=number)
                return self._with_stragglers(question, near, effort)
        hits = self._scan(query, k, allowed)
        if not rounds or hits.effort is None:
            return hits
        effort = hits.effort._replace(strategy=Strategy.GRAPH_THEN_SCAN, nodes=spent, rounds=len(rounds))
        return replace(hits, effort=effort)

    def _plan(self, k: int, allowed: Allowed) -> Plan:
        return plan(nodes=self._nodes.count, rows=self.count, allowed=allowed.count, k=k, width=self._width)

    def _near(self, question: Question, step: Round) -> NDArray[np.int64]:
        """The allowed rows among the nodes that can be trusted, nearest first."""
        rows = self._nodes.rows(self._graph.nearest(question.target, step.nodes)[: step.rank + SPARE])
        return question.allowed.among(rows)

    def _with_stragglers(self, question: Question, near: NDArray[np.int64], effort: Effort) -> Hits:
        """The k nearest of the rows that the graph gave, at least k, and of those it does not lead to."""
        hits = self._rescored(question, near, effort)
        lost = self._stragglers.within(question.target, float(hits.distances[-1]))
        if len(lost) == 0:
            return hits
        return self._rescored(question, np.union1d(near, question.allowed.among(lost)), effort)

    def _rescored(self, question: Question, rows: NDArray[np.int64], effort: Effort) -> Hits:
        stored, metric = self._stored, self.manifest.metric
        return rescored(
            stored.ids, stored.vectors, question.query, k=question.k, metric=metric, rows=rows, effort=effort
        )
