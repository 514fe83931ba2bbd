"""The steps of benchmarks.growth that need a site's database: rows are put in, the index is built, a process serves.

Each runs in a process of its own, after ``django.setup()``: ``main`` reads the step and a JSON object (benchmarks
.engine_runs.Case; for ``seed`` rows and dimension alone) from the arguments and writes a JSON object as the last line.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import psycopg
from django.db import connections
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.engine_runs import (
    CHUNK,
    FINGERPRINT,
    ROUNDS,
    Answer,
    Case,
    K,
    files_of,
    memory,
    queries_of,
    stored,
    timed,
    watched,
)
from benchmarks.scopes import Asked, figures
from benchmarks.switching import copy
from benchmarks.vision_sides import peak_memory
from catalog.models import Collection, EmbeddingModel
from search import serving
from search.engines.generations import Generations
from search.engines.manifest import read_manifest
from search.engines.registry import index_for
from search.engines.types import EVERYWHERE, Progress, Scope
from search.indexing import drift_limit, rebuild_index

PIPELINE = "face"  # its index compares by l2, as engine_runs does
EMBEDDER = "growth"
# Rows whose id leaves this rest are in a collection of their own: it has nothing to do with likeness.
SCOPES = {"0.01 %": (10_000, 7), "1 %": (100, 3)}
REST = "all others"
DELTAS = (1_000, 10_000)  # and what makes a rebuild due
OWN_VECTORS = 20  # of the newest rows, which must be found at once
FOLLOWERS = 2  # threads that search while a generation is published
LONGEST_SECONDS = 300.0  # until somebody must have answered by it
FOLLOWED_SECONDS = 1.0  # before it is published, and after the first answer from it

UUID_OF_N = "('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid"
NEW_IMAGES = f"""
INSERT INTO catalog_image (id, collection_id, sha256, format, width, height, byte_size, original_name, title, label,
    external_id, link, source_url, licence, is_published, status, reason, claimed_by, attempts, created_at)
SELECT {UUID_OF_N}, CASE WHEN n %% 10000 = 7 THEN %s WHEN n %% 100 = 3 THEN %s ELSE %s END,
    lpad(to_hex(n), 64, '0'), 'JPEG', 64, 48, 1, '', '', '', '', '', '', '', true, 'ready', '', '', 0, now()
FROM generate_series(%s::bigint, %s::bigint) n
"""
NEW_REGIONS = f"""
INSERT INTO catalog_region (id, image_id, pipeline, x, y, width, height, origin, detector, dismissed, created_at)
SELECT {UUID_OF_N}, {UUID_OF_N}, '{PIPELINE}', 0, 0, 64, 48, 'detector', 'none', false, now()
FROM generate_series(%s::bigint, %s::bigint) n
"""
EMBEDDINGS = "catalog_embedding (id, region_id, model_id, dimension, vector, created_at)"


def seed(rows: int, dimension: int, spread: float) -> Answer:
    """Ready images with a region and an embedding each, ids from 1 on; answers the case of the index they get."""
    EmbeddingModel.objects.all().delete()
    EmbeddingModel.objects.create(
        pipeline=PIPELINE, embedder=EMBEDDER, fingerprint=FINGERPRINT, dimension=dimension, state="serving"
    )
    for name in (*SCOPES, REST):
        Collection.objects.create(name=name, pipelines=[PIPELINE])
    engine, spec = index_for(PIPELINE, FINGERPRINT, dimension)
    path = f"{type(engine).__module__}.{type(engine).__qualname__}"
    case = Case(engine.name, path, rows, dimension, str(spec.root), dict(spec.options), spread=spread)
    with tqdm(total=rows, desc="rows", position=1, leave=False, disable=None) as bar:
        for start in range(0, rows, CHUNK):
            bar.update(len(store(case, start, min(CHUNK, rows - start))))
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    return asdict(case)


def store(case: Case, start: int, count: int) -> NDArray[np.float32]:
    """The rows from ``start`` on, row n under the id n + 1; their vectors."""
    model, vectors = _model(), stored(case, start, count)
    keys = [Collection.objects.get(name=name).pk for name in (*SCOPES, REST)]
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection, connection.cursor() as cursor:
        cursor.execute(NEW_IMAGES, [*keys, start + 1, start + count])
        cursor.execute(NEW_REGIONS, [start + 1, start + count])
        rows = (
            (n, f"00000000-0000-7000-8000-{n:012x}", model.pk, case.dimension, vector.astype("<f4").tobytes(), "now()")
            for n, vector in enumerate(vectors, start + 1)
        )
        copy(cursor, EMBEDDINGS, rows)
    return vectors


def _model() -> EmbeddingModel:
    return EmbeddingModel.objects.get(embedder=EMBEDDER)


# --- build ---------------------------------------------------------------------------------------------------------


def build(case: Case) -> Answer:
    """As a worker does. Seconds in all and by step, peak MB of this process and of its largest child, MB on disk."""
    with watched() as watch, tqdm(position=1, leave=False, disable=None) as bar:
        begun = time.perf_counter()
        row = rebuild_index(_model(), shown_in(bar))
        seconds = time.perf_counter() - begun
    return {
        "seconds": seconds,
        "rows_per_second": case.rows / seconds,
        "steps": row.parameters["step_seconds"],
        "builder_mb": peak_memory(),
        "child_mb": watch.most,
        "files": files_of(case, row.name),
        "measured": row.parameters["measured"],
        "libraries": row.parameters["libraries"],
    }


def shown_in(bar: tqdm[NoReturn]) -> Progress:
    known: tuple[str, int] | None = None

    def progress(step: str, done: int, total: int) -> None:
        nonlocal known
        if known != (step, total):
            known = step, total
            bar.reset(total)
            bar.set_description(step, refresh=False)
        bar.update(done - bar.n)

    return progress


# --- serve ---------------------------------------------------------------------------------------------------------


def serve(case: Case) -> Answer:
    """Searches of a process that serves: within scopes, while a generation is published, with more and more new rows.

    The new rows come last, as the generation that is published is the one that serves, once more: it has none of them.
    """
    model, queries = _model(), queries_of(case)
    return {
        "scopes": list(_scopes(model, case, queries)),
        "follow": follow(model, case, queries),
        "rebuild_due_at": drift_limit(case.rows),
        "delta": list(_deltas(model, case, queries)),
    }


def _scopes(model: EmbeddingModel, case: Case, queries: NDArray[np.float32]) -> Iterator[Answer]:
    """Asked for 20 within a collection."""
    reader = serving.snapshot(model).reader
    assert reader is not None
    vectors = np.load(Path(case.root) / reader.generation / "vectors.npy", mmap_mode="r")
    for name, (step, rest) in SCOPES.items():
        rows = np.arange(rest, case.rows + 1, step) - 1
        scope = Scope(collections=np.array([Collection.objects.get(name=name).index_key]))
        found = figures(reader, vectors, name, len(rows), (Asked(query, scope, rows) for query in queries))
        shown = ("kind", "size", "fewest", "recall", "p50", "p95", "strategies", "problems")
        yield {field: getattr(found, field) for field in shown}


def _deltas(model: EmbeddingModel, case: Case, queries: NDArray[np.float32]) -> Iterator[Answer]:
    here = 0
    for size in sorted({0, *DELTAS, drift_limit(case.rows)}):
        newest = store(case, case.rows + here, size - here) if size else queries[:0]
        here = size
        yield _delta(model, case, size, queries, newest[-OWN_VECTORS:])


def _delta(
    model: EmbeddingModel, case: Case, size: int, queries: NDArray[np.float32], newest: NDArray[np.float32]
) -> Answer:
    """ms of a query with ``size`` new rows: the first, which reads them, and those after it; these also by part."""
    before, begun = memory()["RssAnon"], time.perf_counter()
    snapshot = serving.snapshot(model)
    snapshot.search(queries[0], K, EVERYWHERE)
    first = 1_000 * (time.perf_counter() - begun)
    assert len(snapshot.delta) == size, f"{len(snapshot.delta)} of {size} new rows are seen"
    reader, delta, metric = snapshot.reader, snapshot.delta, snapshot.spec.metric
    assert reader is not None
    parts = {
        "query": lambda query: serving.snapshot(model).search(query, K, EVERYWHERE).ids,
        "generation": lambda query: reader.search(query, K).ids,
        "look": lambda query: np.array([len(serving.snapshot(model).delta)]),
        "scan": lambda query: delta.search(query, K, metric, EVERYWHERE).ids,
    }
    ids = np.arange(case.rows + size - len(newest), case.rows + size) + 1
    found = [int(snapshot.search(vector, 1, EVERYWHERE).ids[0]) for vector in newest]
    return {
        "new": size,
        "first_ms": first,
        "own_mb": memory()["RssAnon"] - before,
        "newest_asked": len(newest),
        "newest_found": int((np.array(found, dtype=np.int64) == ids).sum()),
        "ms": dict(zip(parts, timed(list(parts.values()), queries, ROUNDS), strict=True)),
    }


# --- follow --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answered:
    """A query of one of the threads. Seconds of time.perf_counter()."""

    thread: int
    began: float
    ended: float
    generation: str | None

    @property
    def ms(self) -> float:
        return 1_000 * (self.ended - self.began)


def follow(model: EmbeddingModel, case: Case, queries: NDArray[np.float32]) -> Answer:
    """Seconds from the pointer's move to the first answer by the new generation; the longest answers meanwhile, in ms.

    A small generation is opened within a query of one thread, a large one in a thread beside them (search.serving); the
    longest answer is that query, or the one that shared the processor with it most.
    """
    answers: list[Answered] = []
    over = threading.Event()
    threads = [
        threading.Thread(target=_ask_on, args=(number, model, queries, answers, over)) for number in range(FOLLOWERS)
    ]
    for thread in threads:
        thread.start()
    try:
        time.sleep(FOLLOWED_SECONDS)
        before = memory()["RssAnon"]
        name, moment = _publish_again(Path(case.root))
        most = _watch_until_followed(answers, name)
    finally:  # or they would search for ever
        over.set()
        for thread in threads:
            thread.join()
    return {**followed(answers, name, moment), "own_mb_before": before, "own_mb_most": most}


def _watch_until_followed(answers: Sequence[Answered], name: str) -> float:
    """The most MB of its own that this process holds until all threads had time to answer by generation ``name``."""
    most, until = 0.0, time.perf_counter() + LONGEST_SECONDS
    followed_by = False
    while time.perf_counter() < until:
        most = max(most, memory()["RssAnon"])
        if not followed_by and any(each.generation == name for each in answers[-100:]):
            followed_by, until = True, time.perf_counter() + FOLLOWED_SECONDS
        time.sleep(0.02)
    if not followed_by:
        raise RuntimeError(f"Nobody answered by the new generation within {LONGEST_SECONDS:.0f} s.")
    return most


def _ask_on(
    number: int, model: EmbeddingModel, queries: NDArray[np.float32], answers: list[Answered], over: threading.Event
) -> None:
    try:
        while not over.is_set():
            began = time.perf_counter()
            snapshot = serving.snapshot(model)
            snapshot.search(queries[len(answers) % len(queries)], K, EVERYWHERE)
            answers.append(Answered(number, began, time.perf_counter(), snapshot.generation))
    finally:
        connections.close_all()  # Django keeps one for each thread


def _publish_again(root: Path) -> tuple[str, float]:
    """The generation that serves, copied and published as the next: its name, and when the pointer was about to move.

    Nothing is built meanwhile: a builder is another process.
    """
    generations = Generations(root)
    published = generations.published()
    folder, draft = generations.folder(published.name), generations.begin()
    manifest = replace(read_manifest(folder, published.manifest_sha256), generation=draft.name)
    for name in manifest.files:
        shutil.copyfile(folder / name, draft.folder / name)
    sha256 = manifest.write(draft.folder)
    moment = time.perf_counter()
    generations.publish(draft, sha256)
    return draft.name, moment


def followed(answers: Sequence[Answered], name: str, moment: float) -> Answer:
    first = min((each for each in answers if each.generation == name), key=lambda each: each.ended)
    around = [each for each in answers if each.began < first.ended and each.ended > moment]
    opening = max(around, key=lambda each: each.ms)
    others = [each.ms for each in around if each.thread != opening.thread]
    return {
        "seconds": first.ended - moment,
        "opening_query_ms": opening.ms,
        "other_queries": len(others),
        "other_queries_longest_ms": max(others, default=0.0),
        "usual_p50_ms": float(np.median([each.ms for each in answers if each.ended < moment])),
        "answers": len(answers),
    }


def main() -> None:
    step, request = sys.argv[1], json.loads(sys.argv[2])
    answer: dict[str, Any] = (
        seed(**request) if step == "seed" else {"build": build, "serve": serve}[step](Case(**request))
    )
    print(json.dumps(answer))
