"""Make a golden generation: ``python -m tests.search.engines.golden.make KIND FOLDER`` (a key of KINDS).

Run once for each format, with the code that writes it; the result is committed and never made again. Beside the root of
the index lies answers.json: queries, and what exact arithmetic says their nearest are. A graph that misses one of those
is not committed, but made once more.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.engines.exact import Exact
from search.engines.nmslib_hnsw import NmslibHnsw
from search.engines.protocols import IndexEngine
from search.engines.types import IndexSpec, Metric

DIMENSION, NEIGHBOURS = 8, 5


@dataclass(frozen=True)
class Kind:
    engine: IndexEngine
    count: int = 60
    options: Mapping[str, Any] = field(default_factory=dict)


KINDS = {
    "exact": Kind(Exact()),
    "nmslib_hnsw": Kind(NmslibHnsw()),
    # So many rows that the graph is asked, and so few links that it does not lead to all of them.
    "nmslib_hnsw_graph": Kind(NmslibHnsw(), 2_000, {"m": 5, "ef_construction": 20}),
}


def main() -> None:
    kind, target = KINDS[sys.argv[1]], Path(sys.argv[2])
    random = np.random.default_rng(2026)
    vectors = random.normal(size=(kind.count, DIMENSION)).astype(np.float32)
    vectors[40] = vectors[7]  # two equal rows
    ids, collections = np.arange(kind.count) * 3 + 2**40, np.arange(kind.count) % 4
    options = kind.engine.check_options(kind.options)
    writer = kind.engine.start(IndexSpec(target / "index", "ab" * 32, DIMENSION, Metric.L2, options))
    writer.add(ids, vectors, collections)
    writer.publish()
    (target / "index" / "lock").unlink()
    lost = _lost(target / "index" / writer.generation)[:3]
    answers = []
    for query in [vectors[7], *vectors[lost], *random.normal(size=(5, DIMENSION)).astype(np.float32)]:
        distances = np.linalg.norm(vectors.astype(np.float64) - query.astype(np.float64), axis=1)
        order = np.lexsort((ids, distances))[:NEIGHBOURS]
        answers.append({"query": query.tolist(), "ids": ids[order].tolist(), "distances": distances[order].tolist()})
    (target / "answers.json").write_text(json.dumps(answers, indent=1) + "\n")


def _lost(generation: Path) -> NDArray[np.int64]:
    """The rows that a graph does not lead to."""
    if not (generation / "stragglers.npy").exists():
        return np.empty(0, dtype=np.int64)
    return np.flatnonzero(np.isin(np.load(generation / "nodes.npy"), np.load(generation / "stragglers.npy")))


if __name__ == "__main__":
    main()
