"""The processes of one local installation, found by a mark in their environment or as servers of its data.

Servers overwrite the memory that shows their environment, but stay in their data folder; the others keep the mark.
Only Linux tells (by /proc); elsewhere no process is found.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
# Names of executables behind postgres, redis-server and valkey-server. Debian's last two are links to the *-check-rdb.
SERVERS = {"postgres", "redis-server", "redis-check-rdb", "valkey-server", "valkey-check-rdb"}
MARK = "VISEARCH_TREE"  # environment variable; its value is the path of the installation's VAR/local


@dataclass(frozen=True)
class Tree:
    """The processes of the installation at `local` with its servers' data in `home`; never this process itself."""

    local: Path
    home: Path

    def processes(self) -> list[int]:
        """Process ids, any order."""
        return [pid for pid in _all_processes() if pid != os.getpid() and self._owns(pid)]

    def end(self, patience: float) -> int:
        """Waits `patience` seconds for all to end, then kills the rest. Returns how many there were at first."""
        found = len(self.processes())
        deadline = time.monotonic() + patience
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.1)
        for pid in self.processes():
            _kill(pid)
        return found

    def end_group(self, group: int) -> None:
        """Kills what is left of a process group whose leader died: children of ours that nobody leads any more."""
        for pid in self.processes():
            if _group_of(pid) == group:
                _kill(pid)

    def _owns(self, pid: int) -> bool:
        data_dir = served_folder(pid)
        return _has_mark(pid, f"{MARK}={self.local}") or (
            data_dir is not None and data_dir.parent == self.home.resolve()
        )


def served_folder(pid: int | str) -> Path | None:
    """The folder that a Postgres or Redis works in; None for any other process, and for one not ours to look at."""
    process = PROC / str(pid)
    try:
        program = (process / "exe").readlink().name.removesuffix(" (deleted)")  # replaced by an upgrade
        return (process / "cwd").readlink() if program in SERVERS else None
    except OSError:
        return None


def _has_mark(pid: int, mark: str) -> bool:
    try:
        return mark.encode() in (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _all_processes() -> Iterator[int]:
    if PROC.is_dir():
        yield from (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
