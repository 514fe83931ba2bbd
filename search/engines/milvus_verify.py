"""What a draft in Milvus must show before it is published, asked of the server itself.

1. It holds as many rows as were sent.
2. Indexed as FLAT, which reads every vector, each of a sample of rows finds itself first; and it says the true
   neighbours of points as far beyond each of them as its tenth neighbour is before it. Rows that an index holds are
   easier to search with than new ones: among 20,000 clustered rows, m 16 and ef 18 find 0.996 of the neighbours of
   points halfway to the tenth, 0.966 of those beyond, and 0.965 of those of new vectors.
3. Indexed as it will serve, the smallest search width is found at which recall@10 of those points reaches the target,
   and at which each row of the sample finds itself first.

So the truth is exact search over all rows, and no row has to come back here for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from search.engines.errors import BuildFailed
from search.engines.graph_files import SPARE
from search.engines.recall import NEIGHBOURS, SAME, query_near, share_found
from search.engines.types import IndexSpec, Metric, Progress
from search.engines.vectors import exact_distances

if TYPE_CHECKING:
    from search.engines.milvus_client import Found, Server

SAMPLE = 100  # vectors; with ten neighbours each the standard error of a recall of 0.98 is about 0.006
FEW = 1_000  # rows that are read rather than searched: no graph is built for so few
AT_ONCE = 25  # queries in one message
LADDER = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096)


class Sample:
    """SAMPLE of all rows that come by, each as likely as any other (Vitter's algorithm R), seeded."""

    def __init__(self, dimension: int) -> None:
        self._random = np.random.default_rng(0)
        self._seen = 0
        self.ids: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self.vectors: NDArray[np.float32] = np.empty((0, dimension), dtype=np.float32)

    def offer(self, ids: NDArray[np.int64], rows: NDArray[np.float32]) -> None:
        first = min(len(ids), SAMPLE - len(self.ids))
        self.ids = np.concatenate([self.ids, ids[:first]])
        self.vectors = np.concatenate([self.vectors, rows[:first]])
        places = self._random.integers(0, self._seen + np.arange(first, len(ids)) + 1)
        for row, place in zip(range(first, len(ids)), places, strict=True):
            if place < SAMPLE:
                self.ids[place], self.vectors[place] = ids[row], rows[row]
        self._seen += len(ids)


@dataclass(frozen=True, slots=True)
class Draft:
    """A collection that is being verified."""

    server: Server
    collection: str
    metric: Metric
    sample: Sample

    def check_self(self, width: int) -> NDArray[np.float32]:
        """Raises BuildFailed where a row of the sample does not find itself, or its equal, first.

        Queries near them, float32 (n, d), see search.engines.recall.
        """
        points = np.empty_like(self.sample.vectors)
        for row, answer in enumerate(self._search(self.sample.vectors, width)):
            own = self.sample.vectors[row]
            distances = exact_distances(answer.vectors, own, self.metric)
            if distances.min(initial=np.inf) > SAME:
                raise BuildFailed(f"The stored vector of id {self.sample.ids[row]} does not find itself first.")
            points[row] = query_near(own, answer.vectors, distances)
        return points

    def near(self, points: NDArray[np.float32], width: int) -> list[NDArray[np.float64]]:
        """How far the nearest NEIGHBOURS rows are from each point, of those that a search of this width finds."""
        found = zip(points, self._search(points, width), strict=True)
        return [np.sort(exact_distances(each.vectors, point, self.metric))[:NEIGHBOURS] for point, each in found]

    def _search(self, queries: NDArray[np.float32], width: int) -> list[Found]:
        """As readers do."""
        found: list[Found] = []
        for start in range(0, len(queries), AT_ONCE):
            part, limit = queries[start : start + AT_ONCE], NEIGHBOURS + SPARE
            found += self.server.search(self.collection, part, limit=limit, metric=self.metric, width=width)
        return found


def verify(
    server: Server, collection: str, spec: IndexSpec, *, count: int, sample: Sample, progress: Progress
) -> dict[str, Any]:
    """What was measured: recall, width (0: the index has none), sample. Leaves it indexed and loaded.

    Raises BuildFailed with what does not hold.
    """
    server.index(collection, "FLAT", spec.metric, {})
    held = server.count(collection)
    if held != count:
        raise BuildFailed(f"Milvus holds {held} vectors of {collection}, but {count} were sent.")
    draft = Draft(server, collection, spec.metric, sample)
    progress("checking", 0, len(sample.ids))
    points = draft.check_self(width=0)
    progress("checking", len(sample.ids), len(sample.ids))
    if spec.options["index"] == "FLAT" or count <= FEW:
        return {"recall": 1.0, "width": 0, "sample": len(points)}
    truth = draft.near(points, width=0)
    progress("building", 0, count)
    params = {"M": spec.options["m"], "efConstruction": spec.options["ef_construction"]}
    server.index(collection, spec.options["index"], spec.metric, params)
    progress("building", count, count)
    return _tuned(draft, points, truth, spec.options["target_recall"], progress)


def _tuned(
    draft: Draft, points: NDArray[np.float32], truth: list[NDArray[np.float64]], target: float, progress: Progress
) -> dict[str, Any]:
    """A step of the ladder is taken when the recall less two standard errors reaches the target."""
    problem = ""
    for step, width in enumerate(LADDER):
        progress("tuning", step, len(LADDER))
        shares = np.array([share_found(*pair) for pair in zip(draft.near(points, width), truth, strict=True)])
        recall, error = float(shares.mean()), float(shares.std()) / len(shares) ** 0.5
        if recall - 2 * error < target:
            problem = f"recall@{NEIGHBOURS} is only {recall:.4f} (target {target})."
            continue
        try:
            draft.check_self(width)
        except BuildFailed as failed:
            problem = str(failed)
            continue
        progress("tuning", len(LADDER), len(LADDER))
        return {"recall": recall, "width": width, "sample": len(shares)}
    raise BuildFailed(
        f"Even with ef {LADDER[-1]}: {problem} Raise m or ef_construction for this engine in VISEARCH_ENGINES."
    )
