"""Folders, sockets and installations for the tests of local servers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.visearch_site.local.installation import Installation, eventually
from visearch_site.local.account import servers_account
from visearch_site.local.places import socket_folder


@pytest.fixture(scope="session")
def reachable_folders() -> Iterator[Callable[[], Path]]:
    """Makes folders that the servers' account can reach, which pytest's own are not when root runs the tests."""
    made: list[Path] = []

    def make() -> Path:
        folder = Path(tempfile.mkdtemp(prefix="visearch-test-"))
        folder.chmod(0o755)
        made.append(folder)
        return folder

    yield make
    for folder in made:
        shutil.rmtree(folder)


@pytest.fixture
def folder(reachable_folders: Callable[[], Path]) -> Path:
    return reachable_folders()


@pytest.fixture
def sockets() -> Iterator[Path]:
    folder = socket_folder(servers_account())
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def installation(folder: Path) -> Iterator[Installation]:
    """One that is not started yet. Its path has what shells and configuration files stumble over."""
    made = Installation(folder / "100% var")
    yield made
    made.end()


@pytest.fixture(scope="module")
def running(reachable_folders: Callable[[], Path]) -> Iterator[Installation]:
    """One that serves, shared by tests that leave it serving."""
    made = Installation(reachable_folders() / "100% var")
    made.start()
    eventually(lambda: "Loaded one folder" in made.said())
    yield made
    made.end()


@pytest.fixture(scope="module")
def _used(reachable_folders: Callable[[], Path]) -> Installation:
    return Installation(reachable_folders() / "100% var")


@pytest.fixture
def used(_used: Installation) -> Iterator[Installation]:
    """One that is not running, but may have run before: its tests save the making of a database."""
    yield _used
    _used.end()
