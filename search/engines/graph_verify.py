"""Child process: read a built graph back and measure it (``python -m search.engines.graph_verify FOLDER JSON``).

1. The file holds as many nodes as the rows have.
2. The search width is tuned: the smallest step at which recall@10 of queries that are no stored vectors, against exact
   search, reaches the target.
3. Every node is looked for by its own vector; the few not found become stragglers, looked at in every search.
4. Recall and latency are kept for the steps up to the one beyond, so that somebody can see what another would give.

The width cannot be a constant: what gives recall 0.95 among 10,000 rows no longer does among 300,000.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.engines.child import Answer, Request, child_main
from search.engines.durable import flush
from search.engines.errors import BuildFailed
from search.engines.graph_files import SPARE, STRAGGLERS, NodeRows
from search.engines.graph_library import GraphLibrary, graph_library
from search.engines.planning import nodes_for
from search.engines.recall import NEIGHBOURS, query_near, share_found
from search.engines.scan import exact_search
from search.engines.stored import VECTORS, load_array
from search.engines.types import Metric, Progress
from search.engines.vectors import exact_distances, graph_row, graph_rows

SAMPLE = 200  # queries; with 10 neighbours each the standard error at 0.98 is about 0.004
LADDER = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096)
LEAST_POINTS = 5  # of the curve
STEP = 1_000  # nodes looked for at a time
LOOKS = LADDER[2::4]  # 32, 128, 512, 2048: how widely a node is looked for before the width itself
# So many stragglers are borne, whichever is more: to look at 500 rows costs less than to climb a step. On clustered
# vectors 0.15 % were seen with m 16 at efSearch 32.
FEW, FEW_SHARE = 500, 0.01


@dataclass(frozen=True, slots=True)
class Truth:
    """A query, float32 (d,), and how far its nearest nodes are, float64 (n,)."""

    query: NDArray[np.float32]
    distances: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Point:
    """One width, on the sample: recall@10, its standard error, and the ms that single queries took, one after another.

    A query is what a reader does without a scope: ask the graph, compute the exact distances of the nearest it answers.
    """

    width: int
    recall: float
    error: float
    p50_ms: float
    p95_ms: float

    def as_json(self) -> dict[str, Any]:
        """A point of the manifest's ``curve``."""
        return {
            "width": self.width,
            "recall": round(self.recall, 4),
            "p50_ms": round(self.p50_ms, 4),
            "p95_ms": round(self.p95_ms, 4),
        }


class BuiltGraph:
    """A reopened graph beside the rows it was made of. ``count`` is its number of nodes."""

    def __init__(self, folder: Path, library: GraphLibrary, metric: Metric) -> None:
        self._vectors: NDArray[np.float32] = load_array(folder / VECTORS, mapped=True)
        self._rows = NodeRows(folder).first_rows()
        self._metric = metric
        self.count = len(self._rows)
        self._graph = library.Graph(folder / library.FILE, self.count, self._vectors.shape[1], LADDER[0])

    def truth(self, node: int) -> Truth:
        """Of a query near this node, by exact search."""
        own = self._vectors[self._rows[node]]
        query = query_near(own, *self._nearest(own, 2))
        row_numbers = np.arange(len(self._vectors))
        hits = exact_search(row_numbers, self._vectors, query, NEIGHBOURS, self._metric, rows=self._rows)
        return Truth(query, hits.distances)

    def measured(self, truths: Sequence[Truth], width: int) -> Point:
        self._graph.width = width
        shares, seconds = [], []
        for truth in truths:
            started = time.perf_counter()
            _, distances = self._nearest(truth.query, NEIGHBOURS)
            seconds.append(time.perf_counter() - started)
            shares.append(share_found(distances, truth.distances))
        p50, p95 = 1000 * np.percentile(seconds, [50, 95])
        return Point(width, float(np.mean(shares)), float(np.std(shares)) / len(shares) ** 0.5, float(p50), float(p95))

    def _nearest(self, query: NDArray[np.float32], rank: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """The vectors of the nodes that the graph answers, a few more than ``rank``, and their exact distances."""
        target = graph_row(query, self._metric)
        answer = self._graph.nearest(target, nodes_for(rank, self._graph.width))[: rank + SPARE]
        rows = self._vectors[self._rows[answer]]
        return rows, exact_distances(rows, query, self._metric)

    def stragglers(self, nodes: NDArray[np.int64], width: int, progress: Progress) -> NDArray[np.int64]:
        """Those of ``nodes`` that a search of this width for their own vector does not return.

        Nearly all are found by a narrow search, and whatever a narrow one meets a wider one meets, too. So each step
        asks only for those that the one before has lost: a million nodes cost minutes and not an hour.
        """
        for step in (*(look for look in LOOKS if look < width), width):
            nodes = self._lost(nodes, step, progress)
        return nodes

    def _lost(self, nodes: NDArray[np.int64], width: int, progress: Progress) -> NDArray[np.int64]:
        """Of these, as `stragglers`."""
        self._graph.width = width
        lost = [np.empty(0, dtype=np.int64)]
        for start in range(0, len(nodes), STEP):
            progress("checking", start + self.count - len(nodes), self.count)
            asked = nodes[start : start + STEP]
            rows = graph_rows(self._vectors[self._rows[asked]], self._metric)
            answers = self._graph.nearest_of_many(rows, nodes_for(1, width))
            lost.append(asked[[node not in near[: 1 + SPARE] for node, near in zip(asked, answers, strict=True)]])
        return np.concatenate(lost)


def verify(folder: Path, request: Request, progress: Progress) -> Answer:
    """Request: library, metric, options with target_recall, advice (what to change where no width is enough).

    Writes stragglers.npy; answers recall, the width, sample, stragglers, curve. Raises BuildFailed.
    """
    library = graph_library(request["library"])
    built = BuiltGraph(folder, library, Metric(request["metric"]))
    truths = [built.truth(int(node)) for node in _sample(built.count)]
    try:
        points, lost = _tuned(built, truths, request["options"]["target_recall"], progress)
    except NotReached as error:
        raise BuildFailed(
            f"Even with {library.WIDTH} {LADDER[-1]} {error}. {request['advice']} for this engine in VISEARCH_ENGINES."
        ) from error
    np.save(folder / STRAGGLERS, lost)
    flush(folder / STRAGGLERS)
    beyond = LADDER[len(points) : max(len(points) + 1, LEAST_POINTS)]
    curve = [*points, *(built.measured(truths, width) for width in beyond)]
    return {
        "recall": points[-1].recall,
        library.WIDTH: points[-1].width,
        "sample": len(truths),
        "stragglers": len(lost),
        "curve": [{**point.as_json(), "serves": point is points[-1]} for point in curve],
    }


class NotReached(Exception):
    """No step of the ladder is enough; says what is lacking at the last."""


def _tuned(
    built: BuiltGraph, truths: Sequence[Truth], target: float, progress: Progress
) -> tuple[list[Point], NDArray[np.int64]]:
    """The points up to the step that is taken, and the stragglers there. Raises NotReached.

    It is taken when the recall less two standard errors reaches the target, so that other queries reach it too, and
    when all but a few vectors lead to themselves.
    """
    points: list[Point] = []
    lost, lacking = np.arange(built.count), ""
    for step, width in enumerate(LADDER):
        progress("tuning", step, len(LADDER))
        points.append(built.measured(truths, width))
        if points[-1].recall - 2 * points[-1].error < target:
            lacking = f"recall@{NEIGHBOURS} is only {points[-1].recall:.4f} (target {target})"
            continue
        lost = built.stragglers(lost, width, progress)
        if len(lost) <= max(FEW, FEW_SHARE * built.count):
            return points, lost
        lacking = f"{len(lost)} of {built.count} vectors are not found by themselves"
    raise NotReached(lacking)


def _sample(count: int) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(count).permutation(count)[:SAMPLE])


if __name__ == "__main__":
    child_main(verify)
