"""Child process: read a built graph back and measure it (``python -m search.engines.nmslib_verify FOLDER JSON``).

1. The file holds as many nodes as the rows have.
2. efSearch is tuned: the smallest step at which recall@10 against exact search reaches the target.
3. Every node is looked for by its own vector; the few not found become stragglers, looked at in every search.

efSearch cannot be a constant: what gives recall 0.95 among 10,000 rows no longer does among 300,000.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from search.engines.child import Answer, Request, child_main
from search.engines.durable import flush
from search.engines.errors import BuildFailed
from search.engines.nmslib_files import GRAPH, SPARE, STRAGGLERS, NodeRows
from search.engines.nmslib_graph import Graph, stored_count
from search.engines.scan import exact_search
from search.engines.stored import VECTORS, load_array
from search.engines.types import Metric
from search.engines.vectors import exact_distances, graph_rows

NEIGHBOURS = 10  # recall@10
SAMPLE = 200  # nodes; with 10 neighbours each the standard error at 0.98 is about 0.004
LADDER = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096)
STEP = 1_000  # nodes looked for at a time
# So many stragglers are borne, whichever is more: to look at 500 rows costs less than to climb a step. On clustered
# vectors 0.15 % were seen with m 16 at efSearch 32.
FEW, FEW_SHARE = 500, 0.01


@dataclass(frozen=True, slots=True)
class Truth:
    """How far the ``wanted`` nearest other nodes of ``node`` are: whatever lies within ``radius`` is one of them."""

    node: int
    wanted: int
    radius: float


class BuiltGraph:
    """A reopened graph beside the rows it was made of. ``count`` is its number of nodes."""

    def __init__(self, folder: Path, metric: Metric) -> None:
        self._vectors: NDArray[np.float32] = load_array(folder / VECTORS, mapped=True)
        self._rows = NodeRows(folder).first_rows()
        self._metric = metric
        self.count = len(self._rows)
        stored = stored_count(folder / GRAPH)
        if stored != self.count:
            raise BuildFailed(f"The graph holds {stored} nodes instead of {self.count}.")
        self._graph = Graph(folder / GRAPH, self.count, self._vectors.shape[1], LADDER[0])

    def nearest(self, nodes: NDArray[np.int64], k: int, ef_search: int) -> list[NDArray[np.int64]]:
        """What the graph answers for the vectors of these nodes."""
        rows = graph_rows(self._vectors[self._rows[nodes]], self._metric)
        return self._graph.nearest_of_many(rows, k, ef_search)

    def truth(self, node: int) -> Truth:
        """By exact search."""
        query = self._vectors[self._rows[node]]
        row_numbers = np.arange(len(self._vectors))
        hits = exact_search(row_numbers, self._vectors, query, NEIGHBOURS + 1, self._metric, rows=self._rows)
        distances = hits.distances[hits.ids != self._rows[node]][:NEIGHBOURS]
        return Truth(node, len(distances), float(distances.max(initial=0.0)) * (1 + 1e-9))

    def share_found(self, truth: Truth, answer: NDArray[np.int64]) -> float:
        """The share of the true neighbours in an answer, 0 to 1; by distance, so equally near ones count alike."""
        if truth.wanted == 0:
            return 1.0
        others = self._rows[answer[answer != truth.node]]
        distances = exact_distances(self._vectors[others], self._vectors[self._rows[truth.node]], self._metric)
        return min(1.0, int((distances <= truth.radius).sum()) / truth.wanted)


def verify(folder: Path, request: Request) -> Answer:
    """Request: metric, target_recall. Writes stragglers.npy; answers recall, ef_search, sample, stragglers.

    A step of the ladder is taken when the recall less two standard errors reaches the target, so that other queries
    reach it too, and when all but a few vectors lead to themselves. Raises BuildFailed where no step is enough.
    """
    built = BuiltGraph(folder, Metric(request["metric"]))
    truths = [built.truth(int(node)) for node in _sample(built.count)]
    problem = ""
    for ef_search in LADDER:
        recall, error = _recall(built, truths, ef_search)
        if recall - 2 * error < request["target_recall"]:
            problem = f"recall@{NEIGHBOURS} is only {recall:.4f} (target {request['target_recall']})"
            continue
        lost = _stragglers(built, ef_search)
        if len(lost) <= max(FEW, FEW_SHARE * built.count):
            np.save(folder / STRAGGLERS, lost)
            flush(folder / STRAGGLERS)
            return {"recall": recall, "ef_search": ef_search, "sample": len(truths), "stragglers": len(lost)}
        problem = f"{len(lost)} of {built.count} vectors are not found by themselves"
    raise BuildFailed(
        f"Even with efSearch {LADDER[-1]} {problem}. Raise m or ef_construction, or set post to 2, for this engine in "
        f"VISEARCH_ENGINES."
    )


def _sample(count: int) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(count).permutation(count)[:SAMPLE])


def _recall(built: BuiltGraph, truths: list[Truth], ef_search: int) -> tuple[float, float]:
    """Mean share of the true neighbours found, and its standard error."""
    nodes = np.array([truth.node for truth in truths])
    answers = built.nearest(nodes, NEIGHBOURS + 1, ef_search)
    shares = np.array([built.share_found(*pair) for pair in zip(truths, answers, strict=True)])
    return float(shares.mean()), float(shares.std()) / len(shares) ** 0.5


def _stragglers(built: BuiltGraph, ef_search: int) -> NDArray[np.int64]:
    """The nodes that a search for their own vector does not return."""
    lost = [np.empty(0, dtype=np.int64)]
    for start in range(0, built.count, STEP):
        nodes = np.arange(start, min(start + STEP, built.count))
        answers = built.nearest(nodes, 1 + SPARE, ef_search)
        lost.append(nodes[[node not in answer for node, answer in zip(nodes, answers, strict=True)]])
    return np.concatenate(lost)


if __name__ == "__main__":
    child_main(verify)
