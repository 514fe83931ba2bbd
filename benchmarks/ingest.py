"""Images a second from upload to ready, with one worker process and with two, beside extract() alone in the same run.

    python -m benchmarks.ingest ../shared/data [--rounds 3]

Everything is real and its own: servers, worker and web server in a temporary folder. Faces run the pipeline face,
clothes the pipeline image, the same for both sides. extract() alone reads, decodes and extracts the same files in one
process with all cores; from upload to ready counts from the first row written to the last image ready. Images enter by
the code of import_folder, which stores each file as an upload does but without HTTP; its time is included. Then the
time of a search over HTTP with a 640 px photo. Medians over rounds. Says SHORT and exits 1 where a worker does less
than 0.6 of extract() alone.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import requests

from benchmarks.machine import describe
from benchmarks.own_site import own_folder
from benchmarks.photos import small_photo
from tests.stack import ROOT, Stack, wait_for
from visearch_site.local.servers import Servers, local_servers

SETS = (("faces", "face"), ("clothing", "image"))
SEARCHES = 60
SHARE_OF_ALONE = 0.6

EXTRACT_ALONE = """
import sys, time
from pathlib import Path
import django
django.setup()
from catalog.intake.folders import files_in
from catalog.vision import registry
from catalog.vision.decode import read_image
from catalog.vision.extract import extract_many

def images(folder, pipeline):
    for path in files_in(folder):
        with path.open("rb") as file:
            yield read_image(file, path.name, registry.limits()), [pipeline]

def run(sets):
    return sum(len(extract_many(images(Path(folder), pipeline))) for folder, pipeline in sets)

sets = list(zip(sys.argv[1::2], sys.argv[2::2]))
warm = next(Path(sets[0][0]).rglob("*.jpg"))
for _, pipeline in sets:
    with warm.open("rb") as file:
        extract_many([(read_image(file, warm.name, registry.limits()), [pipeline])])
start = time.perf_counter()
count = run(sets)
print(count / (time.perf_counter() - start))
"""


IMPORT_ALL = """
from django.core.management import call_command
for folder, name, pipeline in {sets}:
    call_command("import_folder", folder, collection=name, pipelines=pipeline, public=True, face_search="everyone",
                 no_wait=True, skip_checks=False)  # as on the command line, where they load the site's addresses first
"""


@contextmanager
def stack_in(folder: Path, servers: Servers, name: str, processes: int, root: Path = ROOT) -> Iterator[Stack]:
    """A fresh database, folders and a worker with so many processes; the models are shared between stacks.

    ``root``: the checkout that runs.
    """
    logs = folder / name
    logs.mkdir()
    url = servers.database_url.replace("/visearch?", f"/{name}?")
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "visearch_site.settings",
        "SECRET_KEY": "benchmark",
        "DATABASE_URL": url,
        "REDIS_URL": servers.redis_url,
        "VISEARCH_VAR": str(logs / "var"),
        "VISEARCH_MODELS": str(folder / "models"),
        "VISEARCH_HTTPS": "0",
        "VISEARCH_THROTTLE_ANON": "1000000/min",
        "VISEARCH_THROTTLE_SEARCH": "1000000/min",
    }
    stack = Stack(env=env, database_url=url, logs=logs, worker_processes=processes, root=root)
    admin = Stack(env=env, database_url=servers.database_url, logs=logs)
    admin.execute(f"CREATE DATABASE {name}")
    stack.manage("migrate")
    stack.manage("models", "build")
    try:
        yield stack
    finally:
        stack.stop()


def extract_alone(stack: Stack, data: Path, threads: int) -> float:
    """Images a second, in one process with so many threads (0: all cores)."""
    arguments = [word for name, pipeline in SETS for word in (str(data / name), pipeline)]
    command = [sys.executable, "-c", EXTRACT_ALONE, *arguments]
    env = {**stack.env, "VISEARCH_THREADS": str(threads)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def import_all(stack: Stack, data: Path) -> None:
    """The SETS of DATA in public collections of their names, every image ready or failed; a worker must be running."""
    sets = [[str(data / name), name, pipeline] for name, pipeline in SETS]
    stack.manage("shell", "-c", IMPORT_ALL.format(sets=sets))
    unfinished = "SELECT count(*) FROM catalog_image WHERE status NOT IN ('ready', 'failed')"
    wait_for("all images", lambda: stack.sql(unfinished)[0][0] == 0, seconds=600)


def upload_to_ready(stack: Stack, data: Path) -> float:
    """Images a second, from the first line written to the last image ready."""
    stack.start("worker")
    wait_for("the worker", lambda: stack.log("worker").count("networks loaded") == stack.worker_processes)
    import_all(stack, data)
    [(count, seconds)] = stack.sql(
        "SELECT count(DISTINCT i.id), extract(epoch FROM max(i.processed_at) - min(l.created_at))"
        " FROM catalog_image i JOIN catalog_intakeline l ON l.image_id = i.id WHERE i.status = 'ready'"
    )
    return int(count) / float(seconds)


def search_times(stack: Stack, data: Path) -> dict[str, tuple[float, float]]:
    """p50 and p95 in milliseconds of a search over HTTP with a 640 px photo, by pipeline."""
    stack.start_web()
    times = {}
    for name, pipeline in SETS:
        content = small_photo(min((data / name).rglob("*.jpg")))
        taken = [_search_ms(stack, content, pipeline) for _ in range(SEARCHES + 3)][3:]
        times[pipeline] = (float(np.percentile(taken, 50)), float(np.percentile(taken, 95)))
    return times


def _search_ms(stack: Stack, content: bytes, pipeline: str) -> float:
    start = time.perf_counter()
    answer = requests.post(
        f"{stack.url}/api/v1/search/", files={"image": ("q.jpg", content)}, data={"pipeline": pipeline}, timeout=60
    )
    answer.raise_for_status()
    return (time.perf_counter() - start) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    data = arguments.data.resolve()
    print(describe("django", "celery", "onnxruntime", "numpy", "pillow"))
    rates: dict[str, list[float]] = {"extract() alone": [], "... on one thread": [], "1 worker process": []}
    rates["2 worker processes"] = []
    with own_folder() as folder, local_servers(folder, fsync=True) as servers:
        for number in range(arguments.rounds):
            for processes in (1, 2):
                with stack_in(folder, servers, f"round_{number}_{processes}", processes) as stack:
                    if processes == 1:
                        rates["extract() alone"].append(extract_alone(stack, data, threads=0))
                        rates["... on one thread"].append(extract_alone(stack, data, threads=1))
                    word = "worker process" + ("es" if processes > 1 else "")
                    rates[f"{processes} {word}"].append(upload_to_ready(stack, data))
                    if number == arguments.rounds - 1 and processes == 2:
                        searches = search_times(stack, data)
    good = report(rates)
    for pipeline, (p50, p95) in searches.items():
        print(f"search over HTTP, 640 px photo, {pipeline}: p50 {p50:.0f} ms, p95 {p95:.0f} ms ({SEARCHES} searches)")
    sys.exit(0 if good else 1)


def report(rates: dict[str, list[float]]) -> bool:
    """Prints the medians; whether both workers keep up with extract() alone."""
    alone = statistics.median(rates["extract() alone"])
    good = True
    for what, values in rates.items():
        median = statistics.median(values)
        short = "worker" in what and median / alone < SHARE_OF_ALONE
        good &= not short
        print(
            f"{'SHORT ' if short else ''}{what:<20} {median:6.1f} images/s, {median / alone:.2f} x extract() alone"
            f"   rounds: {_rounded(values)}"
        )
    return good


def _rounded(values: list[float]) -> list[float]:
    return [round(value, 1) for value in values]


if __name__ == "__main__":
    main()
