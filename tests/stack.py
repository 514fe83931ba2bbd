"""The whole product in processes of its own: gunicorn, a Celery worker, its own database, and ways to kill them.

Nothing is replaced. Tests talk to it over HTTP and look into its database with plain SQL.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import requests

from visearch_site.local.account import servers_account
from visearch_site.local.places import socket_folder
from visearch_site.local.redis import RedisServer, start_redis
from visearch_site.local.redis import url as redis_url
from visearch_site.local.servers import Servers

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 60.0  # seconds until waiting for something is a failure


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: str, check: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """The first true answer of ``check``. Raises AssertionError naming ``what`` after ``seconds``."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        answer = check()
        if answer:
            return answer
        time.sleep(0.1)
    raise AssertionError(f"waited {seconds:.0f} s for {what}")


@dataclass
class Stack:
    """Processes by name ("web", "worker", "beat"), the environment they run in, and their logs."""

    env: dict[str, str]
    database_url: str
    logs: Path
    sockets: Path | None = None  # a short folder for a Redis of its own
    redis: RedisServer | None = None
    port: int = field(default_factory=free_port)
    worker_processes: int = 1
    root: Path = ROOT  # the checkout that runs
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def commands(self) -> dict[str, Sequence[str]]:
        celery = [sys.executable, "-m", "celery", "-A", "visearch_site"]
        gunicorn = [sys.executable, "-m", "gunicorn", "visearch_site.wsgi", "-k", "gthread"]
        return {
            "web": [*gunicorn, "--threads", "4", "--bind", f"127.0.0.1:{self.port}", "--graceful-timeout", "2"],
            "worker": [*celery, "worker", "-Q", "vision,index", "-c", str(self.worker_processes)],
            "intake": [*celery, "worker", "-n", "intake@%h", "-Q", "intake", "-c", "1"],
            "beat": [*celery, "beat", "--schedule", str(self.logs / "beat"), "--max-interval", "1"],
        }

    def start(self, name: str) -> None:
        with (self.logs / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                self.commands()[name],
                cwd=self.root,
                env=self.env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start_web(self) -> None:
        self.start("web")
        wait_for("the web server", lambda: self.answers("/healthz"))

    def answers(self, path: str) -> bool:
        try:
            return requests.get(self.url + path, timeout=5).status_code == 200
        except (requests.ConnectionError, requests.Timeout):
            return False

    def kill(self, name: str, sig: signal.Signals = signal.SIGKILL) -> int:
        """Kill a process and all its children at once; its return code."""
        process = self.processes.pop(name)
        os.killpg(process.pid, sig)
        return process.wait(timeout=PATIENCE)

    def kill_redis(self) -> None:
        assert self.redis is not None
        self.redis.kill()

    def start_redis(self) -> None:
        """A Redis of this stack's own; again after a kill, with the data it had."""
        assert self.sockets is not None
        self.redis = start_redis(self.sockets / "redis", self.sockets)

    def stop(self) -> None:
        for name in list(self.processes):
            self.kill(name)
        if self.redis is not None:
            self.redis.stop()

    def log(self, name: str) -> str:
        path = self.logs / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def manage(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a management command against this stack."""
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(
            command, cwd=self.root, env=self.env, capture_output=True, text=True, timeout=300, check=False
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def sql(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            return connection.execute(query, parameters or None).fetchall()

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(statement)


@contextmanager
def new_stack(servers: Servers, folder: Path, name: str, **settings: str) -> Iterator[Stack]:
    """A stack on a database, a Redis and a folder of its own, so that it never meets the data of other tests.

    Only the built networks are shared by the stacks of a run: nothing changes them, and building takes seconds.

    Nothing but Redis runs yet. At the end all of it is killed.
    """
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    database_url = servers.database_url.replace("/visearch?", f"/{name}?")
    logs = folder / name
    logs.mkdir()
    sockets = socket_folder(servers_account())
    env = {
        **os.environ,
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url(sockets),
        "VISEARCH_VAR": str(logs / "var"),
        "VISEARCH_MODELS": str(folder / "models"),  # built by the first stack of a run
        "VISEARCH_LEASE_SECONDS": "4",
        "VISEARCH_SWEEP_SECONDS": "1",
        "VISEARCH_THROTTLE_ANON": "10000/min",
        "VISEARCH_THROTTLE_USER": "10000/min",
        "VISEARCH_THROTTLE_SEARCH": "10000/min",
        "VISEARCH_THROTTLE_PAGE": "10000/min",
        "VISEARCH_THROTTLE_LOGIN": "10000/min",
        **settings,
    }
    stack = Stack(env=env, database_url=database_url, logs=logs, sockets=sockets)
    stack.start_redis()
    try:
        yield stack
    finally:
        stack.stop()
        shutil.rmtree(sockets, ignore_errors=True)
