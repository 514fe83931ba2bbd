"""500 images uploaded over HTTP while worker, web server and Postgres are really killed, and what became of them.

    python -m benchmarks.kills ../shared/data [--seed 1] [--images 500]

Starts a site of its own in a temporary folder (`python -m visearch_site.local up`), uploads faces and clothes with four
clients that send again what was not answered, and sends SIGKILL to one process after the other at seeded numbers of
ready images between 100 and 400. The supervisor brings each back; how each ended is printed as it saw it. Two leases
and a sweep after the last kill or the last upload, whichever is later, every image must be ready or failed with a
line that says why, every upload finished, and no file without an image. Every ready image has its frame as a region,
and every region exactly one embedding of each model that serves its pipeline. The embedders were called for each image
once, plus those in flight when the worker or Postgres was killed (a killed web server loses no work of the worker).
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import psycopg
import requests

from benchmarks.machine import describe
from benchmarks.own_site import own_folder
from tests.stack import ROOT, free_port, wait_for

LEASE_SECONDS = 20
SWEEP_SECONDS = 5
LOSES_WORK = ("worker", "postgres")
VICTIMS = {
    "worker": "celery -A visearch_site worker -Q vision",
    "web": "gunicorn visearch_site.wsgi",
    "postgres": "postgres -D",
}
TERMINAL = "SELECT count(*) FROM catalog_image WHERE status IN ('ready', 'failed')"
IN_FLIGHT = "SELECT id::text, claimed_by FROM catalog_image WHERE status = 'processing'"
UNFINISHED = "SELECT count(*) FROM catalog_intakeline WHERE verdict = 'receiving'"
# What should be 0 in the end, by what it is. The database itself forbids a second embedding of a region and model, so
# it is those that are missing which tell of lost work.
FAULTS = {
    "regions without exactly one embedding of a serving model": """
        SELECT count(*) FROM (
            SELECT r.id FROM catalog_region r JOIN catalog_image i ON i.id = r.image_id AND i.status = 'ready'
            JOIN catalog_embeddingmodel m ON m.pipeline = r.pipeline AND m.state = 'serving'
            LEFT JOIN catalog_embedding e ON e.region_id = r.id AND e.model_id = m.id
            GROUP BY r.id, m.id HAVING count(e.id) <> 1) faulty""",
    "ready images without exactly one frame": """
        SELECT count(*) FROM (
            SELECT i.id FROM catalog_image i LEFT JOIN catalog_region r ON r.image_id = i.id AND r.pipeline = 'image'
            WHERE i.status = 'ready' GROUP BY i.id HAVING count(r.id) <> 1) faulty""",
    "regions of a pipeline without a serving model": """
        SELECT count(*) FROM catalog_region r WHERE NOT EXISTS (
            SELECT FROM catalog_embeddingmodel m WHERE m.pipeline = r.pipeline AND m.state = 'serving')""",
    "failed images of which no line says why": """
        SELECT count(*) FROM catalog_image i WHERE i.status = 'failed' AND NOT EXISTS (
            SELECT FROM catalog_intakeline l WHERE l.image_id = i.id AND l.verdict = 'failed' AND l.reason <> '')""",
    "unfinished uploads": UNFINISHED,
}


class Site:
    """`make up` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.var, self.port = folder / "var", free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.lost: set[tuple[str, str]] = set()  # images in flight at a kill, each with the claim that held it
        self.env = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")} | {
            "VISEARCH_VAR": str(self.var),
            "PORT": str(self.port),
            "VISEARCH_LEASE_SECONDS": str(LEASE_SECONDS),
            "VISEARCH_SWEEP_SECONDS": str(SWEEP_SECONDS),
            "VISEARCH_THROTTLE_USER": "1000000/min",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "visearch_site.local", "up"], cwd=ROOT, env=self.env, stdout=subprocess.DEVNULL
        )
        wait_for("the site", self.is_up, seconds=180)

    def is_up(self) -> bool:
        try:
            return requests.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def manage(self, *arguments: str) -> str:
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(command, cwd=ROOT, env=self.env, capture_output=True, text=True, check=True).stdout

    def address(self, name: str) -> str:
        """Of DATABASE_URL or REDIS_URL, as the site wrote it down when it started its servers."""
        lines = (self.var / "local" / "env").read_text().splitlines()
        return next(line.partition("=")[2] for line in lines if line.startswith(f"{name}="))

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """From the database, which may be away for a moment."""
        while True:
            try:
                with psycopg.connect(self.address("DATABASE_URL"), autocommit=True) as connection:
                    return connection.execute(query).fetchall()
            except psycopg.OperationalError:
                time.sleep(0.2)

    def count(self, query: str) -> int:
        [(number,)] = self.rows(query)
        return int(number)

    def in_flight(self) -> set[tuple[str, str]]:
        """Images under way, each with its claim, but for claims that were lost at an earlier kill.

        Their images stay `processing` until the lease has run out, and no more work is lost with them.
        """
        lost = {claim for _, claim in self.lost}
        return {(image, claim) for image, claim in self.rows(IN_FLIGHT) if claim not in lost}

    def kill(self, name: str) -> tuple[int, int]:
        """SIGKILL to a program and, for Celery, its children; how many processes, and the images that were in flight.

        Of those, whose work is lost with it is noted in ``lost``. After a worker's end nothing is claimed for a while,
        so its images are counted then: what it claims or stores in its last moment counts as well.
        """
        before = set() if name == "worker" else self.in_flight()
        tree = [p for p in psutil.Process(self.process.pid).children(recursive=True) if VICTIMS[name] in _command(p)]
        victims = {victim.pid: victim for parent in tree for victim in [parent, *parent.children(recursive=True)]}
        for victim in victims.values():
            victim.send_signal(signal.SIGKILL)
        gone, _ = psutil.wait_procs(victims.values(), timeout=10)
        in_flight = self.in_flight() if name == "worker" else before
        if name in LOSES_WORK:
            self.lost |= in_flight
        return len(gone), len(in_flight)

    def logs(self) -> str:
        return "".join(path.read_text(errors="replace") for path in (self.var / "local" / "log").glob("worker*"))

    def return_codes(self) -> list[str]:
        """What the supervisor saw: "exited: worker (terminated by SIGKILL; not expected)"."""
        lines = (self.var / "local" / "log" / "supervisord.log").read_text().splitlines()
        return [line.partition("exited: ")[2] for line in lines if "exited: " in line]

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=30)


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def images(data: Path, count: int) -> list[Path]:
    faces = sorted((data / "faces/celebrities5").rglob("*.jpg"))
    return [*faces, *sorted((data / "clothing").rglob("*.jpg"))][:count]


def token(site: Site) -> str:
    """The token of a superuser, who may upload anywhere."""
    script = (
        "from django.contrib.auth.models import User; from knox.models import AuthToken;"
        "from catalog.models import Collection;"
        "Collection.objects.create(name='kills', pipelines=['face', 'image']);"
        "print(AuthToken.objects.create(user=User.objects.filter(is_superuser=True)[0])[1])"
    )
    return site.manage("shell", "-c", script).split()[-1]


def upload(site: Site, headers: dict[str, str], path: Path) -> str:
    """Send until an answer says that the image is there; the verdict."""
    while True:
        try:
            answer = requests.post(
                f"{site.url}/api/v1/images/",
                headers=headers,
                data={"collection": "kills"},
                files={"image": (path.name, path.read_bytes())},
                timeout=60,
            )
            if answer.status_code in (200, 202):
                return str(answer.json()["verdict"])
        except (requests.RequestException, ValueError):
            pass
        time.sleep(0.3)


def moments(seed: int, kills: int) -> Iterator[tuple[int, str]]:
    """At how many ready images which process is killed: each at least twice, between 100 and 400, seeded."""
    chance = random.Random(seed)
    names = [name for name in VICTIMS for _ in range(kills // len(VICTIMS))]
    chance.shuffle(names)
    yield from zip(sorted(chance.sample(range(100, 400), len(names))), names, strict=True)


def stray_files(site: Site) -> list[str]:
    """Files of originals and renditions that no image has, and what writers left aside."""
    with psycopg.connect(site.address("DATABASE_URL")) as connection:
        known = {str(row[0]) for row in connection.execute("SELECT id FROM catalog_image")}
    files = [path for path in (site.var / "media").rglob("*") if path.is_file()]
    return [str(path) for path in files if path.stem[:36] not in known or ".aside" in path.parts]


def run(site: Site, paths: list[Path], seed: int) -> bool:
    headers = {"Authorization": f"Token {token(site)}"}
    verdicts: list[str] = []
    with ThreadPoolExecutor(4) as pool:
        uploads = threading.Thread(target=lambda: verdicts.extend(pool.map(lambda p: upload(site, headers, p), paths)))
        uploads.start()
        for ready, name in moments(seed, kills=6):
            wait_for(f"{ready} ready", lambda ready=ready: site.count(TERMINAL) >= ready, seconds=600)  # type: ignore[misc]
            killed, flying = site.kill(name)
            print(f"at {ready} ready: SIGKILL to {name} ({killed} processes), {flying} images in flight", flush=True)
        uploads.join()
    stuck_after = time.monotonic() + 2 * LEASE_SECONDS + SWEEP_SECONDS  # now: the later of last kill and last upload
    while time.monotonic() < stuck_after and not is_settled(site, len(paths)):
        time.sleep(0.5)
    return report(site, len(paths))


def is_settled(site: Site, expected: int) -> bool:
    """Whether nothing is left to do, interrupted uploads included."""
    return site.count(TERMINAL) == expected and site.count(UNFINISHED) == 0 and not stray_files(site)


def report(site: Site, expected: int) -> bool:
    """Prints what became of the images; whether all is as it should be."""
    by_status = {
        status: site.count(f"SELECT count(*) FROM catalog_image WHERE status = '{status}'")
        for status in ("ready", "failed", "queued", "processing", "held")
    }
    faults = {what: site.count(query) for what, query in FAULTS.items()}
    stray = stray_files(site)
    calls, most = site.logs().count("extracting image"), expected + len(site.lost)
    print(f"the supervisor saw: {site.return_codes()}")
    print(f"images: {by_status} of {expected}")
    for what, number in faults.items():
        print(f"{what}: {number}")
    print(f"stray files: {len(stray)} {stray[:5]}")
    print(f"embedder calls: {calls}, at most {expected} images + {len(site.lost)} in flight at a kill = {most}")
    accounted = by_status["ready"] + by_status["failed"]
    return accounted == expected and not stray and not any(faults.values()) and expected <= calls <= most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--images", type=int, default=500)
    arguments = parser.parse_args()
    print(describe("django", "celery", "psycopg"), f"seed {arguments.seed}")
    with own_folder() as folder:
        site = Site(folder)
        try:
            good = run(site, images(arguments.data, arguments.images), arguments.seed)
        finally:
            site.stop()
    print("all held" if good else "NOT all held")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
