"""How a search inside a scope is answered, for scopes from 0.01 % to 100 % of an index: how right, how fast, by what.

    python -m benchmarks.scopes
    python -m benchmarks.scopes --keep /tmp/index      # built there the first time, opened afterwards

Two kinds of scope at each size. *Scattered*: collections that have nothing to do with likeness. *Far*: by id, the rows
that are farthest from the query in one direction, so that a graph meets none of them among its nearest.

Asked for 20, each search must give min(20, what is allowed), with a recall against exact search of at least 0.98 and,
where a scan answers, of 1. Prints SHORT for each figure that is not reached, and exits 1.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.clustered import clouds_of, clustered
from benchmarks.machine import describe
from search.engines.errors import IndexNotBuilt
from search.engines.protocols import IndexReader
from search.engines.scan import exact_search
from search.engines.types import EVERYWHERE, IndexSpec, Metric, Scope

ROWS, DIMENSION, K = 100_000, 128, 20
SIZES = (10, 100, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)  # 0.01 % to 100 %
RECALL = 0.98
METRIC = Metric.L2


@dataclass(frozen=True, slots=True)
class Asked:
    """A query, where to look, and the rows that are there."""

    query: NDArray[np.float32]
    scope: Scope
    rows: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Figures:
    """Of the searches in scopes of one kind and size. Milliseconds."""

    kind: str
    size: int
    fewest: int
    recall: float
    p50: float
    p95: float
    strategies: Counter[str]

    @property
    def problems(self) -> list[str]:
        wanted = min(K, self.size)
        problems = [f"got {self.fewest} of {wanted}"] if self.fewest < wanted else []
        least = 1.0 if set(self.strategies) == {"scan"} else RECALL
        return [*problems, f"recall {self.recall:.4f} below {least}"] if self.recall < least else problems

    def __str__(self) -> str:
        took = ", ".join(f"{name} {count}" for name, count in self.strategies.most_common())
        line = (
            f"{self.kind:<10} {self.size:>7} {100 * self.size / ROWS:>6.2f} % {self.fewest:>4} {self.recall:>7.4f} "
            f"{self.p50:>8.3f} {self.p95:>8.3f}  {took}"
        )
        return "\n".join([line, *(f"SHORT: {problem}" for problem in self.problems)])


class Index:
    """100,000 rows, beside the reader of an index of them. Row number and id differ by one."""

    def __init__(self, engine: Any, root: Path) -> None:
        self.vectors = clustered(ROWS, DIMENSION, clouds_of(ROWS))
        self.collections = _collections()
        spec = IndexSpec(root, "5c" * 32, DIMENSION, METRIC, engine.check_options({}))
        try:
            self.reader: IndexReader = engine.open(spec)
        except IndexNotBuilt:
            writer = engine.start(spec)
            writer.add(np.arange(1, ROWS + 1), self.vectors, self.collections)
            writer.publish()
            self.reader = engine.open(spec)

    def scattered(self, queries: NDArray[np.float32], size: int) -> Iterator[Asked]:
        """The first collections, which hold ``size`` rows together."""
        keys = np.arange(SIZES.index(size) + 1)
        rows = np.flatnonzero(np.isin(self.collections, keys))
        for query in queries:
            yield Asked(query, Scope(collections=keys) if size < ROWS else EVERYWHERE, rows)

    def far(self, queries: NDArray[np.float32], size: int) -> Iterator[Asked]:
        """The ids of the rows that lie least in the direction of the query."""
        for query in queries:
            rows = np.sort(np.argpartition(self.vectors @ query, size - 1)[:size])
            yield Asked(query, Scope(ids=rows + 1), rows)

    def figures(self, kind: str, size: int, searches: Iterator[Asked]) -> Figures:
        return figures(self.reader, self.vectors, kind, size, searches)


def figures(
    reader: IndexReader, vectors: NDArray[np.float32], kind: str, size: int, searches: Iterator[Asked]
) -> Figures:
    """Of a reader of ``vectors``, row n under the id n + 1; the searches are within ``size`` rows each."""
    ids = np.arange(1, len(vectors) + 1)
    fewest, found, wanted = K, 0, 0
    took: list[float] = []
    strategies = Counter[str]()
    for asked in searches:
        begun = time.perf_counter()
        hits = reader.search(asked.query, K, asked.scope)
        took.append(1000 * (time.perf_counter() - begun))
        truth = exact_search(ids, vectors, asked.query, K, METRIC, asked.rows)
        fewest = min(fewest, len(hits))
        found, wanted = found + len(np.intersect1d(hits.ids, truth.ids)), wanted + len(truth)
        strategies[str(hits.effort.strategy) if hits.effort else "untold"] += 1
    p50, p95 = np.percentile(took, [50, 95])
    return Figures(kind, size, fewest, found / wanted, float(p50), float(p95), strategies)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="search.engines.nmslib_hnsw.NmslibHnsw", help="by dotted path")
    parser.add_argument("--keep", type=Path, help="a folder for the index, used again where it holds one")
    parser.add_argument("--queries", type=int, default=100, help="searches for each scope (100)")
    arguments = parser.parse_args()
    module, _, name = arguments.engine.rpartition(".")
    engine = getattr(importlib.import_module(module), name)()
    print(describe("numpy"))
    with tempfile.TemporaryDirectory() as aside:
        index = Index(engine, arguments.keep or Path(aside))
        return measure(index, clustered(arguments.queries, DIMENSION, clouds_of(ROWS), seed=1))


def measure(index: Index, queries: NDArray[np.float32]) -> int:
    """Prints a line for each scope; 1 where a figure falls short, else 0."""
    manifest = index.reader.manifest
    print(f"{manifest.engine} {dict(manifest.options)} {dict(manifest.measured)}")
    print(f"{'scope':<10} {'rows':>7} {'share':>8} {'got':>4} {'recall':>7} {'p50 ms':>8} {'p95 ms':>8}  by")
    index.figures("warm", ROWS, index.scattered(queries[:5], ROWS))
    short = 0
    for size in SIZES:
        for kind, searches in (("scattered", index.scattered(queries, size)), ("far", index.far(queries, size))):
            figures = index.figures(kind, size, searches)
            print(figures, flush=True)
            short |= bool(figures.problems)
    return short


def _collections() -> NDArray[np.int64]:
    """Collection 0 of SIZES[0] rows, and so many in the others that the first n + 1 hold SIZES[n] together."""
    keys = np.repeat(np.arange(len(SIZES)), np.diff(SIZES, prepend=0))
    return np.random.default_rng(2).permutation(keys)


if __name__ == "__main__":
    raise SystemExit(main())
