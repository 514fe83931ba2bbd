"""What benchmarks of engines share: a generation built in a process of its own, and a reader measured in another.

    python -m benchmarks.engine_runs build REQUEST      python -m benchmarks.engine_runs ask REQUEST

REQUEST is one JSON object (Case); the answer is one JSON object on the last line of stdout. Own processes, so that
memory is theirs alone and no library's threads are another's.
"""

from __future__ import annotations

import gc
import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from benchmarks.clustered import SPREAD, clouds_of, clustered
from catalog.repeating import repeating
from search.engines.protocols import IndexEngine, IndexReader
from search.engines.scan import exact_search
from search.engines.types import IndexSpec, Metric

ROOT = Path(__file__).resolve().parents[1]
METRIC = Metric.L2
FINGERPRINT = "5c" * 32  # of an embedding model that is none
K = 10
QUERIES = 200
ROUNDS = 5
CHUNK = 10_000
WIDTHS = (10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512, 640, 768, 1024, 1536, 2048)

Answer = dict[str, Any]
Search = Callable[[NDArray[np.float32]], NDArray[np.int64]]  # row numbers of the K nearest


@dataclass(frozen=True, slots=True)
class Case:
    """An engine by dotted path with its options, and the index to build: ``rows`` x ``dimension`` clustered vectors."""

    name: str
    engine: str
    rows: int
    dimension: int
    root: str
    options: dict[str, Any] = field(default_factory=dict)
    bare: str = ""  # module and class of benchmarks.bare_libraries; "" where only our reader is measured
    server: str = ""  # its address, of an engine that has one
    spread: float = SPREAD  # of clouds

    @property
    def spec(self) -> IndexSpec:
        options = self.made().check_options(self.options)
        spec = IndexSpec(Path(self.root), FINGERPRINT, self.dimension, METRIC, options)
        if not self.server:
            return spec
        options_module = importlib.import_module("search.engines.milvus_options")
        return replace(
            spec,
            connection=options_module.check_connection({"uri": self.server, "prefix": "benchmark", "timeout": 600.0}),
        )

    def made(self) -> IndexEngine:
        module, _, name = self.engine.rpartition(".")
        return cast(IndexEngine, getattr(importlib.import_module(module), name)())


def run(step: str, case: Case) -> Answer:
    """One step in a process of its own. Exits with its words where it fails."""
    command = [sys.executable, "-m", "benchmarks.engine_runs", step, json.dumps(asdict(case))]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(f"{case.name}, {step}: {ended.stderr.strip()[-600:]}")
    answer: Answer = json.loads(ended.stdout.strip().splitlines()[-1])
    return answer


# --- build ---------------------------------------------------------------------------------------------------------


def build(case: Case) -> Answer:
    """Seconds of the whole build with its verification, MB on disk, and the most MB that a child of it held."""
    with watched() as watch:
        begun = time.perf_counter()
        writer = case.made().start(case.spec)
        for start in range(0, case.rows, CHUNK):
            rows = np.arange(start, min(start + CHUNK, case.rows))
            writer.add(rows + 1, stored(case, start, len(rows)), np.zeros(len(rows), dtype=np.int64))
        manifest = writer.publish()
        seconds = time.perf_counter() - begun
    return {
        "seconds": seconds,
        "files": files_of(case, manifest.generation),
        "most_mb": watch.most,
        "measured": {name: value for name, value in manifest.measured.items() if name != "curve"},
    }


def files_of(case: Case, generation: str) -> dict[str, float]:
    """MB of each file of a generation."""
    folder = Path(case.root) / generation
    return {path.name: path.stat().st_size / 1e6 for path in folder.iterdir()} if folder.is_dir() else {}


def stored(case: Case, start: int, count: int) -> NDArray[np.float32]:
    """The same rows whenever they are asked for: each chunk has a seed of its own."""
    return clustered(count, case.dimension, clouds_of(case.rows), 1_000 + start, case.spread)


def queries_of(case: Case) -> NDArray[np.float32]:
    """QUERIES of the same clouds that are not among the stored rows."""
    return clustered(QUERIES, case.dimension, clouds_of(case.rows), 1, case.spread)


class Watch:
    """The most resident memory, in MB, of any one descendant of this process, as often as it was looked for."""

    def __init__(self) -> None:
        self.most = 0.0

    def look(self) -> None:
        for process in _descendants("self"):
            self.most = max(self.most, memory(process)["VmRSS"])


@contextmanager
def watched() -> Iterator[Watch]:
    """Ten times a second."""
    watch = Watch()
    with repeating(watch.look, 0.1, "watch"):
        yield watch


def _descendants(process: str) -> list[str]:
    found = []
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:  # ended meanwhile
            continue
        found += children + [each for child in children for each in _descendants(child)]
    return found


def memory(process: str = "self") -> Mapping[str, float]:
    """MB as /proc/PID/status calls them: VmRSS in all, RssAnon its own, RssFile mapped from files; 0 when gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        lines = []
    fields = {line.partition(":")[0]: line.split()[1] for line in lines if line.endswith("kB")}
    return {name: int(fields.get(name, 0)) / 1024 for name in ("VmRSS", "RssAnon", "RssFile")}


# --- ask -----------------------------------------------------------------------------------------------------------


def ask(case: Case) -> Answer:
    """Memory of an opened reader; its latency at the tuned width, and at recall 0.95 and 0.99 the bare library's."""
    engine, spec = case.made(), case.spec
    queries = queries_of(case)
    gc.collect()
    before, begun = memory(), time.perf_counter()
    reader = engine.open(spec)
    opened = time.perf_counter() - begun
    timed([_of(reader)], queries, rounds=1)
    after = memory()
    answer: Answer = {
        "open_seconds": opened,
        "own_mb": after["RssAnon"] - before["RssAnon"],
        "mapped_mb": after["RssFile"] - before["RssFile"],
        "generation": reader.generation,
    }
    vectors = np.concatenate(
        [stored(case, start, min(CHUNK, case.rows - start)) for start in range(0, case.rows, CHUNK)]
    )
    truth = [exact_search(np.arange(case.rows), vectors, query, K, METRIC).ids for query in queries]
    ours = _of(reader)
    answer["tuned"] = {"recall": recall(ours, queries, truth), **timed([ours], queries)[0]}
    if case.bare:
        answer["at"] = _compared(case, reader, queries, truth)
    return answer


def _compared(
    case: Case, reader: IndexReader, queries: NDArray[np.float32], truth: Sequence[NDArray[np.int64]]
) -> dict[str, Any]:
    """By recall: the least width at which each side reaches it, and both sides' ms, measured in turns."""
    module, _, name = case.bare.rpartition(".")
    bare = getattr(importlib.import_module(module), name)(Path(case.root) / reader.generation, case)
    ours = _of(reader)
    found: dict[str, Any] = {}
    for wanted in (0.95, 0.99):
        widths = []
        for search, widen in ((bare.search, bare.widen), (ours, _widening(reader))):
            widths.append(_least_width(search, widen, queries, truth, wanted))
        bare_ms, our_ms = timed([bare.search, ours], queries)
        found[str(wanted)] = {"widths": widths, "bare": bare_ms, "ours": our_ms}
    return found


def _least_width(
    search: Search,
    widen: Callable[[int], None] | None,
    queries: NDArray[np.float32],
    truth: Sequence[NDArray[np.int64]],
    wanted: float,
) -> tuple[int, float]:
    """It, and the recall there; 0 for what has no width. The widest where none reaches what is wanted."""
    if widen is None:
        return 0, recall(search, queries, truth)
    reached = 0.0
    for width in WIDTHS:
        widen(width)
        reached = recall(search, queries, truth)
        if reached >= wanted:
            return width, reached
    return WIDTHS[-1], reached


def recall(search: Search, queries: NDArray[np.float32], truth: Sequence[NDArray[np.int64]]) -> float:
    shares = [
        len(np.intersect1d(search(query), right)) / len(right) for query, right in zip(queries, truth, strict=True)
    ]
    return float(np.mean(shares))


def timed(searches: Sequence[Search], queries: NDArray[np.float32], rounds: int = ROUNDS) -> list[dict[str, float]]:
    """p50 and p99 in ms of single queries, one after the other; the sides take turns, medians over the rounds."""
    took: list[list[list[float]]] = [[] for _ in searches]
    for number in range(rounds):
        first = number % len(searches)
        for side in (*range(first, len(searches)), *range(first)):
            ms = []
            for query in queries:
                begun = time.perf_counter()
                searches[side](query)
                ms.append(1_000 * (time.perf_counter() - begun))
            took[side].append(ms)
    return [
        {f"p{share}": float(np.median([np.percentile(ms, share) for ms in of_side])) for share in (50, 95, 99)}
        for of_side in took
    ]


def _of(reader: IndexReader) -> Search:
    return lambda query: reader.search(query, K).ids - 1  # ids are row numbers and one


def _widening(reader: Any) -> Callable[[int], None] | None:
    """A reader takes its width from the manifest; here it is turned while nobody else asks."""
    if not hasattr(reader, "_width"):
        return None

    def widen(width: int) -> None:
        reader._width = width
        if hasattr(reader, "_graph"):
            reader._graph.width = width

    return widen


if __name__ == "__main__":
    print(json.dumps({"build": build, "ask": ask}[sys.argv[1]](Case(**json.loads(sys.argv[2])))))
