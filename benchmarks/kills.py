"""500 images uploaded over HTTP while worker, web server and Postgres are really killed, and what became of them.

    python -m benchmarks.kills ../shared/data [--seed 1] [--images 500]

Starts a site of its own in a temporary folder (`python -m visearch_site.local up`), uploads faces and clothes with four
clients that send again what was not answered, and sends SIGKILL to one process after the other at seeded numbers of
ready images between 100 and 400. The supervisor brings each back; how each ended is printed as it saw it. Two leases
and a sweep after the last kill or the last upload, whichever is later, every image must be ready or failed with a
reason, every upload finished, and no file without an image. The embedders were called for each image once, plus those
in flight when the worker or Postgres was killed (a killed web server loses no work of the worker).
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg
import requests

from benchmarks.machine import describe
from tests.stack import ROOT, free_port, wait_for

LEASE_SECONDS = 20
SWEEP_SECONDS = 5
LOSES_WORK = ("worker", "postgres")
VICTIMS = {
    "worker": "celery -A visearch_site worker",
    "web": "gunicorn visearch_site.wsgi",
    "postgres": "postgres -D",
}
TERMINAL = "SELECT count(*) FROM catalog_image WHERE status IN ('ready', 'failed')"
IN_FLIGHT = "SELECT count(*) FROM catalog_image WHERE status = 'processing'"
UNFINISHED = "SELECT count(*) FROM catalog_intakeline WHERE verdict = 'receiving'"


class Site:
    """`make up` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.var, self.port = folder / "var", free_port()
        self.url = f"http://127.0.0.1:{self.port}"
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

    @property
    def database_url(self) -> str:
        lines = (self.var / "local" / "env").read_text().splitlines()
        return next(line.partition("=")[2] for line in lines if line.startswith("DATABASE_URL="))

    def count(self, query: str) -> int:
        """A number from the database, which may be away for a moment."""
        while True:
            try:
                with psycopg.connect(self.database_url, autocommit=True) as connection:
                    return int(connection.execute(query).fetchone()[0])  # type: ignore[index]
            except psycopg.OperationalError:
                time.sleep(0.2)

    def kill(self, name: str) -> tuple[int, int]:
        """SIGKILL to a program and, for Celery, its children; how many processes, and the images in flight then."""
        in_flight = self.count(IN_FLIGHT)
        tree = [p for p in psutil.Process(self.process.pid).children(recursive=True) if VICTIMS[name] in _command(p)]
        victims = {victim.pid: victim for parent in tree for victim in [parent, *parent.children(recursive=True)]}
        for victim in victims.values():
            victim.send_signal(signal.SIGKILL)
        gone, _ = psutil.wait_procs(victims.values(), timeout=10)
        return len(gone), in_flight

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
    with psycopg.connect(site.database_url) as connection:
        known = {str(row[0]) for row in connection.execute("SELECT id FROM catalog_image")}
    files = [path for path in (site.var / "media").rglob("*") if path.is_file()]
    return [str(path) for path in files if path.stem[:36] not in known or ".aside" in path.parts]


def run(site: Site, paths: list[Path], seed: int) -> bool:
    headers = {"Authorization": f"Token {token(site)}"}
    in_flight = 0
    verdicts: list[str] = []
    with ThreadPoolExecutor(4) as pool:
        uploads = threading.Thread(target=lambda: verdicts.extend(pool.map(lambda p: upload(site, headers, p), paths)))
        uploads.start()
        for ready, name in moments(seed, kills=6):
            wait_for(f"{ready} ready", lambda ready=ready: site.count(TERMINAL) >= ready, seconds=600)  # type: ignore[misc]
            killed, flying = site.kill(name)
            in_flight += flying if name in LOSES_WORK else 0
            print(f"at {ready} ready: SIGKILL to {name} ({killed} processes), {flying} images in flight", flush=True)
        uploads.join()
    stuck_after = time.monotonic() + 2 * LEASE_SECONDS + SWEEP_SECONDS  # now: the later of last kill and last upload
    while time.monotonic() < stuck_after and not is_settled(site, len(paths)):
        time.sleep(0.5)
    return report(site, len(paths), in_flight)


def is_settled(site: Site, expected: int) -> bool:
    """Whether nothing is left to do, interrupted uploads included."""
    return site.count(TERMINAL) == expected and site.count(UNFINISHED) == 0 and not stray_files(site)


def report(site: Site, expected: int, in_flight: int) -> bool:
    by_status = {
        status: site.count(f"SELECT count(*) FROM catalog_image WHERE status = '{status}'")
        for status in ("ready", "failed", "queued", "processing", "held")
    }
    doubled = site.count(
        "SELECT count(*) FROM (SELECT region_id, model_id FROM catalog_embedding"
        " GROUP BY 1, 2 HAVING count(*) > 1) doubled"
    )
    without_reason = site.count("SELECT count(*) FROM catalog_image WHERE status = 'failed' AND reason = ''")
    unfinished = site.count(UNFINISHED)
    stray = stray_files(site)
    calls = site.logs().count("extracting image")
    print(f"the supervisor saw: {site.return_codes()}")
    print(f"images: {by_status}, lines unfinished: {unfinished}, failed without a reason: {without_reason}")
    print(f"stray files: {len(stray)} {stray[:5]}")
    print(f"embedder calls: {calls} for {expected} images and {in_flight} in flight at a kill; doubled: {doubled}")
    return (
        by_status["ready"] + by_status["failed"] == expected
        and not (stray or doubled or without_reason or unfinished)
        and calls <= expected + in_flight
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--images", type=int, default=500)
    arguments = parser.parse_args()
    print(describe("django", "celery", "psycopg"), f"seed {arguments.seed}")
    with tempfile.TemporaryDirectory(prefix="visearch-kills-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        site = Site(folder)
        try:
            good = run(site, images(arguments.data, arguments.images), arguments.seed)
        finally:
            site.stop()
    print("all held" if good else "NOT all held")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
