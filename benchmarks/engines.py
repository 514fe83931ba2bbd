"""Every engine through our reader beside the bare library: build, file, memory, latency at recall@10 0.95 and 0.99.

    python -m benchmarks.engines                                   100,000 x 128 and x 512: about half an hour
    python -m benchmarks.engines --dimension 128 --engine nmslib_hnsw --engine faiss_hnsw
    python -m benchmarks.engines --dimension 128 --spread 0.8    harder: clouds that nearly touch

Clustered vectors by a seed (benchmarks/clustered.py). Each engine is built in a process of its own and asked in
another, one query at a time. Both sides open the same file and take turns; each is as wide as its recall needs. Prints
SHORT and exits 1 where our reader adds more to the p50 at 128 dimensions than is allowed. An engine that is not
installed is left out by name. Milvus is asked only where it is named (``--engine milvus``): the server of
VISEARCH_TEST_MILVUS_URI, or Milvus Lite, which takes many minutes for 20,000 vectors and whose times say nothing of a
server.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.clustered import SPREAD
from benchmarks.engine_runs import Answer, Case, run
from benchmarks.machine import describe

ROWS = 100_000
MOST_MS, MOST_SHARE = 0.15, 0.25  # what our reader may add to the p50, whichever is more
JUDGED = 128


@dataclass(frozen=True, slots=True)
class Engine:
    path: str
    package: str
    bare: str
    options: dict[str, Any] = field(default_factory=dict)


MILVUS = "milvus"

ENGINES = {
    "exact": Engine("search.engines.exact.Exact", "numpy", "Numpy"),
    "nmslib_hnsw": Engine("search.engines.nmslib_hnsw.NmslibHnsw", "nmslib", "Nmslib"),
    "nmslib_hnsw post=2": Engine("search.engines.nmslib_hnsw.NmslibHnsw", "nmslib", "Nmslib", {"post": 2}),
    "faiss_hnsw flat": Engine("search.engines.faiss_hnsw.FaissHnsw", "faiss", "Faiss", {"storage": "flat"}),
    "faiss_hnsw fp16": Engine("search.engines.faiss_hnsw.FaissHnsw", "faiss", "Faiss", {"storage": "fp16"}),
    MILVUS: Engine("search.engines.milvus.Milvus", "pymilvus", "Milvus"),
    "annoy": Engine("search.engines.annoy_trees.AnnoyTrees", "annoy", "Annoy"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dimension", type=int, action="append", help="128 and 512 without it")
    parser.add_argument("--engine", action="append", help=f"the beginning of a name: {', '.join(ENGINES)}")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--spread", type=float, default=SPREAD, help="of a cloud, beside centres of about length 1")
    arguments = parser.parse_args()
    chosen = {
        name: engine
        for name, engine in ENGINES.items()
        if any(name.startswith(each) for each in arguments.engine or ENGINES) and (arguments.engine or name != MILVUS)
    }
    for name in [name for name, engine in chosen.items() if importlib.util.find_spec(engine.package) is None]:
        print(f"{name} is left out: {chosen.pop(name).package} is not installed")
    print(describe("numpy", "nmslib"), f"load before: {os.getloadavg()[0]:.2f}")
    short = False
    for dimension in arguments.dimension or (JUDGED, 512):
        short |= _dimension(chosen, arguments.rows, dimension, arguments.spread)
    sys.exit(1 if short else 0)


def _dimension(engines: dict[str, Engine], rows: int, dimension: int, spread: float) -> bool:
    """Measures and prints; whether a figure falls short."""
    print(f"\n{rows:,} x {dimension}, clouds of spread {spread}, k = 10, ms\n{_head()}")
    problems = []
    for name, engine in tqdm(engines.items(), desc=f"{dimension}-d", leave=False, disable=None):
        with tempfile.TemporaryDirectory() as root, _server(name, Path(root)) as address:
            bare = f"benchmarks.bare_libraries.{engine.bare}"
            case = Case(
                name, engine.path, rows, dimension, str(Path(root) / "index"), engine.options, bare, address, spread
            )
            built, asked = run("build", case), run("ask", case)
        tqdm.write(_line(name, built, asked))
        if dimension == JUDGED:
            problems += [f"{name} at {recall}: {problem}" for recall, problem in _problems(asked).items()]
    for problem in problems:
        print(f"SHORT {problem}")
    return bool(problems)


@contextmanager
def _server(name: str, root: Path) -> Iterator[str]:
    """The address of the server that an engine needs; "" for one that needs none."""
    if name != MILVUS:
        yield ""
        return
    lite = importlib.import_module("tests.search.engines.milvus_lite")  # which imports pymilvus
    if lite.ADDRESS:
        yield lite.ADDRESS
        return
    with lite.milvus_lite(root / "milvus") as server:
        yield server.uri


def _problems(asked: Answer) -> dict[str, str]:
    """By recall, where our reader adds too much."""
    found = {}
    for recall, sides in asked["at"].items():
        added = sides["ours"]["p50"] - sides["bare"]["p50"]
        allowed = max(MOST_MS, MOST_SHARE * sides["bare"]["p50"])
        if added > allowed:
            found[recall] = f"our reader adds {added:.3f} ms, allowed {allowed:.3f}"
    return found


def _head() -> str:
    columns = "".join(f"{f'R {recall}: bare p50 p99':>24}{'ours p50 p99  added':>23}" for recall in (0.95, 0.99))
    return f"{'engine':<20}{'build s':>9}{'peak MB':>9}{'file MB':>9}{'own MB':>8}{'mapped':>8}{columns}"


def _line(name: str, built: Answer, asked: Answer) -> str:
    graph = sum(size for file, size in built["files"].items() if file.startswith("index."))
    line = (
        f"{name:<20}{built['seconds']:>9.1f}{built['most_mb']:>9.0f}{graph:>9.1f}"
        f"{asked['own_mb']:>8.0f}{asked['mapped_mb']:>8.0f}"
    )
    for sides in asked["at"].values():
        bare, ours = sides["bare"], sides["ours"]
        widths = "/".join(str(width) for width, _ in sides["widths"])
        line += f"{f'({widths})':>11}{bare['p50']:>7.3f}{bare['p99']:>6.2f}{ours['p50']:>8.3f}{ours['p99']:>6.2f}"
        line += f"{ours['p50'] - bare['p50']:>+9.3f}"
    return line


if __name__ == "__main__":
    main()
