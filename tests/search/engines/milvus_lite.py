"""A Milvus server for tests: Milvus Lite in a process of its own, or the one that VISEARCH_TEST_MILVUS_URI names."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from search.engines.milvus import Milvus
from search.engines.milvus_client import server_of
from search.engines.milvus_options import Connection

ADDRESS = os.environ.get("VISEARCH_TEST_MILVUS_URI", "")
TOKEN = os.environ.get("VISEARCH_TEST_MILVUS_TOKEN", "")


class Lite:
    """Milvus Lite listening on ``port``, which it keeps when it is started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.uri = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        place = ["--data-dir", str(self._folder), "--host", "127.0.0.1", "--port", str(self.port)]
        command = [sys.executable, "-u", "-m", "milvus_lite", "server", *place]
        self.process = psutil.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert b"listening" in self.process.stdout.readline()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def milvus_lite(folder: Path) -> Iterator[Lite]:
    lite = Lite(folder)
    try:
        yield lite
    finally:
        lite.kill()


@pytest.fixture(scope="session")
def milvus_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that outlives the tests of this run."""
    if ADDRESS:
        yield ADDRESS
        return
    with milvus_lite(tmp_path_factory.mktemp("milvus")) as lite:
        yield lite.uri


def connection_to(uri: str, root: Path, **changes: Any) -> Connection:
    """Names of its own for every folder, as folders have on a disk."""
    prefix = f"test_{hashlib.sha256(str(root).encode()).hexdigest()[:16]}"
    return Milvus.check_connection({"uri": uri, "token": TOKEN, "prefix": prefix, **changes})


def names_at(connection: Connection) -> list[str]:
    """The collections of this connection's prefix, without it."""
    names = server_of(connection).collections()
    return sorted(name.removeprefix(connection.prefix) for name in names if name.startswith(connection.prefix))
