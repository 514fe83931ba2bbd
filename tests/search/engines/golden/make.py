"""Make a golden generation: ``python -m tests.search.engines.golden.make ENGINE FOLDER`` (exact, nmslib_hnsw).

Run once for each format, with the code that writes it; the result is committed and never made again. Beside the root of
the index lies answers.json: queries, and what exact arithmetic says their nearest are.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from search.engines.exact import Exact
from search.engines.nmslib_hnsw import NmslibHnsw
from search.engines.types import IndexSpec, Metric

ENGINES = {"exact": Exact, "nmslib_hnsw": NmslibHnsw}
COUNT, DIMENSION, NEIGHBOURS = 60, 8, 5


def main() -> None:
    name, target = sys.argv[1], Path(sys.argv[2])
    engine = ENGINES[name]()
    random = np.random.default_rng(2026)
    vectors = random.normal(size=(COUNT, DIMENSION)).astype(np.float32)
    vectors[40] = vectors[7]  # two equal rows
    ids, collections = np.arange(COUNT) * 3 + 2**40, np.arange(COUNT) % 4
    writer = engine.start(IndexSpec(target / "index", "ab" * 32, DIMENSION, Metric.L2, engine.check_options({})))
    writer.add(ids, vectors, collections)
    writer.publish()
    (target / "index" / "lock").unlink()
    answers = []
    for query in [vectors[7], *random.normal(size=(5, DIMENSION)).astype(np.float32)]:
        distances = np.linalg.norm(vectors.astype(np.float64) - query.astype(np.float64), axis=1)
        order = np.lexsort((ids, distances))[:NEIGHBOURS]
        answers.append({"query": query.tolist(), "ids": ids[order].tolist(), "distances": distances[order].tolist()})
    (target / "answers.json").write_text(json.dumps(answers, indent=1) + "\n")


if __name__ == "__main__":
    main()
