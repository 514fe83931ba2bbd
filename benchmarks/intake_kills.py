"""2,000 images by folder while the worker is really killed ten times and Redis is flushed twice; then once more.

    python -m benchmarks.intake_kills ../shared/data [--seed 1] [--images 2000] [--kills 10] [--flushes 2]

Starts a site of its own (benchmarks.kills), makes a folder of distinct images (photos of DATA, and where those are
too few, sections of them), and imports it. At seeded numbers of ready images the worker with all its processes gets
SIGKILL, or Redis FLUSHALL, which takes every message and all that is cached. Then every image must be ready or failed
with a line that says why, no file without an image, every ready image must have its frame as a region, and every
region exactly one embedding of each model that serves its pipeline. The log of the worker says for how many images the
networks were called: once for each, and at most once more for those in flight at a kill. Both figures are printed.
Importing the same folder again must call them for none.
"""

from __future__ import annotations

import argparse
import io
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import redis
from PIL import Image

from benchmarks.kills import LEASE_SECONDS, SWEEP_SECONDS, TERMINAL, Site, images, is_settled, report
from benchmarks.machine import describe
from benchmarks.own_site import own_folder
from tests.stack import ROOT, wait_for

SHARE_OF_KILLS = (0.05, 0.9)  # between which shares of ready images something happens
COLLECTION = "kills"


def fill(folder: Path, data: Path, count: int) -> None:
    """``count`` images, no two alike: the photos as they are, then sections of them."""
    photos = images(data, count)
    for number, path in enumerate(photos):
        (folder / f"{number:05}{path.suffix}").write_bytes(path.read_bytes())
    chance = random.Random(0)
    for number in range(len(photos), count):
        (folder / f"{number:05}.jpg").write_bytes(_section(photos[number % len(photos)], chance))


def _section(path: Path, chance: random.Random) -> bytes:
    with Image.open(path) as whole:
        width, height = whole.size
        left, top = chance.uniform(0, 0.4) * width, chance.uniform(0, 0.4) * height
        part = whole.convert("RGB").crop((int(left), int(top), int(left + 0.6 * width), int(top + 0.6 * height)))
    out = io.BytesIO()
    part.save(out, "JPEG", quality=90)
    return out.getvalue()


def moments(seed: int, count: int, kills: int, flushes: int) -> Iterator[tuple[int, str]]:
    """At how many ready images what happens, in their order."""
    chance = random.Random(seed)
    events = ["kill"] * kills + ["flush"] * flushes
    chance.shuffle(events)
    least, most = (int(share * count) for share in SHARE_OF_KILLS)
    yield from zip(sorted(chance.sample(range(least, most), len(events))), events, strict=True)


def flush(site: Site) -> None:
    with redis.Redis.from_url(site.address("REDIS_URL")) as client:
        client.flushall()


def begin_import(site: Site, folder: Path) -> subprocess.Popen[bytes]:
    options = ["--collection", COLLECTION, "--pipelines", "face,image", "--no-wait"]
    command = [sys.executable, "manage.py", "import_folder", str(folder), *options]
    return subprocess.Popen(command, cwd=ROOT, env=site.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def settle(site: Site, count: int) -> None:
    """Wait until nothing is left to do, as long as something is done within two leases and a sweep."""
    patience = 2 * LEASE_SECONDS + 2 * SWEEP_SECONDS
    done, until = -1, time.monotonic() + patience
    while time.monotonic() < until and not is_settled(site, count):
        if (now := site.count(TERMINAL)) > done:
            done, until = now, time.monotonic() + patience
        time.sleep(0.5)


def run(site: Site, folder: Path, count: int, events: Iterator[tuple[int, str]]) -> bool:
    importing = begin_import(site, folder)
    for ready, what in events:
        wait_for(f"{ready} ready", lambda ready=ready: site.count(TERMINAL) >= ready, seconds=900)  # type: ignore[misc]
        if what == "flush":
            flush(site)
            print(f"at {ready} ready: FLUSHALL", flush=True)
            continue
        killed, flying = site.kill("worker")
        print(f"at {ready} ready: SIGKILL to the worker ({killed} processes), {flying} images in flight", flush=True)
    imported = importing.wait() == 0
    settle(site, count)
    good = report(site, count) and imported
    return again(site, folder, count) and good


def again(site: Site, folder: Path, count: int) -> bool:
    """The same folder once more: whether the networks were called for nothing."""
    before = calls(site)
    imported = begin_import(site, folder).wait() == 0
    settle(site, count)
    time.sleep(2 * SWEEP_SECONDS)  # whatever would be done would have begun
    duplicates = site.count("SELECT count(*) FROM catalog_intakeline WHERE verdict = 'duplicate'")
    print(f"the second run: {calls(site) - before} embedder calls, {duplicates} of {count} already here")
    return imported and calls(site) == before and duplicates == count


def calls(site: Site) -> int:
    return site.logs().count("extracting image")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--flushes", type=int, default=2)
    arguments = parser.parse_args()
    print(describe("django", "celery", "psycopg", "redis"), f"seed {arguments.seed}")
    with own_folder() as place:
        folder = place / "photos"
        folder.mkdir()
        fill(folder, arguments.data, arguments.images)
        site = Site(place)
        events = moments(arguments.seed, arguments.images, arguments.kills, arguments.flushes)
        try:
            good = run(site, folder, arguments.images, events)
        finally:
            site.stop()
    print("all held" if good else "NOT all held")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
