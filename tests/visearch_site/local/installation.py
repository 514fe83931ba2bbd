"""An installation of its own: a VAR folder, a free port, and nothing of this run's servers in its environment."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil
import psycopg

from visearch_site.local.environment import read_env

PROJECT = Path(__file__).resolve().parents[3]
SMALL_SITE = Path(__file__).with_name("small_site.py")
OF_THE_RUN = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "VISEARCH_HTTPS", "ALLOWED_HOSTS", "PORT", "HOST")
SERVING = "Ctrl-C ends it"
PATIENCE = 60

Answer = TypeVar("Answer")


def eventually(ask: Callable[[], Answer], seconds: float = PATIENCE) -> Answer:
    """The first truthy answer; fails when there is none for a minute, or so many seconds."""
    deadline = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return answer


class Installation:
    """A small site with a VAR folder and a port of its own. `launcher` is the process that a terminal would run."""

    def __init__(self, var: Path) -> None:
        self.var = var
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.output = var.with_name("output.txt")
        self.command = [sys.executable, str(SMALL_SITE), str(self.port)]
        self.launcher: subprocess.Popen[bytes] | None = None

    def environment(self, **more: str) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if name not in OF_THE_RUN}
        path = os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])
        return {**clean, "PYTHONPATH": path, "VISEARCH_VAR": str(self.var), **more}

    def start(self, **more: str) -> None:
        """Starts it in a process group of its own, as a terminal does, and waits until it serves."""
        with self.output.open("wb") as output:
            self.launcher = subprocess.Popen(
                self.command, cwd=PROJECT, env=self.environment(**more), stdout=output, stderr=output, process_group=0
            )
        eventually(lambda: SERVING in self.said() or self.launcher.poll() is not None)
        assert SERVING in self.said(), self.said()

    def run(self, **more: str) -> subprocess.CompletedProcess[str]:
        """Starts it where it is expected to end by itself."""
        environment = self.environment(**more)
        return subprocess.run(
            self.command, check=False, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=PATIENCE
        )

    def said(self) -> str:
        return self.output.read_text(errors="replace")

    def tree(self) -> list[psutil.Process]:
        """The launcher and everything below it."""
        root = psutil.Process(self.launcher.pid)
        return [root, *root.children(recursive=True)]

    def process(self, words: str) -> psutil.Process | None:
        """The process of this installation whose command line holds these words and whose parent's does not."""
        for process in self.tree():
            try:
                parent = process.parent()
                if words in _words(process) and not (parent and words in _words(parent)):
                    return process
            except psutil.Error:  # ended while we looked
                continue
        return None

    def ask(self, statement: str) -> list[tuple[object, ...]]:
        """The rows of a statement, waiting for Postgres while it is starting."""
        url = read_env(self.var / "local" / "env")["DATABASE_URL"]
        connection = eventually(lambda: _connection(url))
        with connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def interrupt(self) -> int:
        """Ctrl-C, and the exit status."""
        os.killpg(self.launcher.pid, signal.SIGINT)
        return self.launcher.wait(PATIENCE)

    def kill(self) -> None:
        """kill -9 of everything at once."""
        for process in self.tree():
            process.kill()
        self.launcher.wait()

    def end(self) -> None:
        if self.launcher is not None and self.launcher.poll() is None:
            self.interrupt()


def _connection(url: str) -> psycopg.Connection[tuple[object, ...]] | None:
    try:
        return psycopg.connect(url)
    except psycopg.OperationalError:
        return None


def _words(process: psutil.Process) -> str:
    return " ".join(process.cmdline())
