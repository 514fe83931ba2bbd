"""A switch between two models and the way back under queries in two web processes: how soon both follow.

    python -m benchmarks.switching [--rows 20000] [--threads 2] [--rounds 3]

Starts servers and a site of its own in a temporary folder, with two small networks (tests/two_models.py), ``--rows``
images whose embeddings of both models are drawn at random, and an index of each model. ``--threads`` for each web
process ask all the time for what is like a stored image; the switch is `manage.py model serve`, the way back
`manage.py model back`, each as often as ``--rounds`` says. Printed: how long after the moment that the row says the
last query began that was answered by the other model, and the first answer came by the new one (all on this machine's
clock), the longest answer around the switch, and of all answers how many failed, were empty, or did not fit the vectors
of exactly one model.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
import psycopg
from uuid_utils import uuid7

from benchmarks.machine import describe
from tests.stack import Stack, new_stack
from tests.two_models import (
    ONE,
    TWO,
    Loop,
    late_by,
    looping,
    models_file,
    models_that_fit,
    second_web,
    switched_at,
    vectors_of,
)
from visearch_site.local.servers import local_servers

MAKE_COLLECTION = """
from catalog.models import Collection
Collection.objects.create(name="drawn", pipelines=["image"], is_public=True)
"""
WATCHED = 5.0  # seconds after a switch in which it is looked for answers of the model before
CHECKED = 2_000  # answers of which every distance is computed again, drawn over the whole run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(describe())
    with tempfile.TemporaryDirectory() as name, site(Path(name)) as stack:
        images = seed(stack, options.rows)
        for model in (ONE, TWO):
            print(stack.manage("rebuild_index", "--model", model).stdout.strip())
        stack.start_web()
        other = second_web(stack, Path(name) / "second")
        try:
            with looping([stack, other], images, options.threads) as loop:
                loop.wait_for(ONE, 0)
                for _ in range(options.rounds):
                    switch(stack, loop, ["serve", TWO], TWO, ONE)
                    switch(stack, loop, ["back", "--pipeline", "image"], ONE, TWO)
        finally:
            other.stop()
        report(stack, loop)


@contextmanager
def site(folder: Path) -> Iterator[Stack]:
    servers = folder / "servers"
    servers.mkdir()
    with local_servers(servers, fsync=False) as running:
        settings = {
            "DJANGO_SETTINGS_MODULE": "visearch_site.settings",
            "SECRET_KEY": "only for a benchmark, and long enough for all that look at its length: 0123456789",
            "VISEARCH_HTTPS": "0",
            "VISEARCH_MODELS_FILE": str(models_file(folder / "nets")),
            "VISEARCH_MODELS": str(folder / "built"),
            "VISEARCH_THROTTLE_ANON": "1000000/min",
            "VISEARCH_THROTTLE_SEARCH": "1000000/min",
        }
        with new_stack(running, folder, "switching", **settings) as stack:
            stack.manage("migrate")
            stack.manage("models", "build")
            yield stack


def seed(stack: Stack, rows: int) -> list[str]:
    """Ready images of one public collection, each with a region and an embedding of both models; 1,000 to ask with."""
    stack.manage("shell", "-c", MAKE_COLLECTION)
    [(collection,)] = stack.sql("SELECT id FROM catalog_collection")
    models = stack.sql(
        "SELECT id, dimension FROM catalog_embeddingmodel WHERE pipeline = 'image' AND embedder = ANY(%s)", [ONE, TWO]
    )
    keys = [(str(uuid7()), str(uuid7())) for _ in range(rows)]
    random = np.random.default_rng(5)
    with psycopg.connect(stack.database_url) as connection, connection.cursor() as cursor:
        copy(
            cursor,
            "catalog_image (id, collection_id, sha256, format, width, height, byte_size, original_name, title, label,"
            " external_id, link, source_url, licence, is_published, status, reason, claimed_by, attempts, created_at)",
            (
                (image, collection, f"{n:064x}", "JPEG", 64, 48, 1, *[""] * 7, True, "ready", "", "", 0, "now()")
                for n, (image, _) in enumerate(keys)
            ),
        )
        copy(
            cursor,
            "catalog_region (id, image_id, pipeline, x, y, width, height, origin, detector, dismissed, created_at)",
            ((key, image, "image", 0, 0, 64, 48, "detector", "frame", False, "now()") for image, key in keys),
        )
        for model, dimension in models:
            vectors = random.normal(size=(rows, dimension)).astype("<f4")
            copy(
                cursor,
                "catalog_embedding (region_id, model_id, dimension, vector, created_at)",
                (
                    (key, model, dimension, vector.tobytes(), "now()")
                    for (_, key), vector in zip(keys, vectors, strict=True)
                ),
            )
    stack.execute("ANALYZE")
    return [image for image, _ in keys[:1_000]]


def copy(cursor: psycopg.Cursor[tuple[object, ...]], table: str, rows: Iterator[Sequence[object]]) -> None:
    with cursor.copy(f"COPY {table} FROM STDIN") as stream:
        for row in rows:
            stream.write_row(row)


def switch(stack: Stack, loop: Loop, command: Sequence[str], to: str, before: str) -> None:
    began = time.time()
    stack.manage("model", *command)
    moment = switched_at(stack, before)
    time.sleep(WATCHED)
    late = late_by(loop, moment, to, moment + WATCHED)
    first = [
        min(each.ended - moment for each in loop.of(web) if each.began > moment - 1 and each.model.startswith(to))
        for web in range(2)
    ]
    around = [each.ended - each.began for each in loop.asked if moment - 1 < each.began < moment + 1]
    usual = [each.ended - each.began for each in loop.asked]
    print(
        f"model {' '.join(command)}: {moment - began:.1f} s until the row changed; "
        f"last query answered by {before} began {_ms(late)} after it, first answer by {to} came {_ms(first)} after it; "
        f"longest answer around it {max(around) * 1000:.0f} ms (median of all {median(usual) * 1000:.0f} ms)"
    )


def _ms(seconds: Sequence[float]) -> str:
    """Of both processes."""
    return " and ".join(f"{1000 * each:.0f}" for each in seconds) + " ms"


def report(stack: Stack, loop: Loop) -> None:
    vectors = {name: vectors_of(stack, name) for name in (ONE, TWO)}
    drawn = np.random.default_rng(1).choice(len(loop.asked), min(CHECKED, len(loop.asked)), replace=False)
    mixed = sum(models_that_fit(loop.asked[n], vectors) != [loop.asked[n].model.split()[0]] for n in drawn)
    exact = sum(each.generation is None for each in loop.asked)
    wrong = sum(each.status != 200 for each in loop.asked) + len(loop.failed)
    empty = sum(len(each.results) < loop.k for each in loop.asked)
    print(
        f"{len(loop.asked)} answers: {wrong} failed, {empty} not full, {exact} without an index, "
        f"of {len(drawn)} computed again {mixed} not of exactly the model they name"
    )


if __name__ == "__main__":
    main()
