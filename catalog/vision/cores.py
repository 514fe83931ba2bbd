"""How many cores there are for the networks. Imports nothing heavy: workers ask before they load any."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_MINE = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Those that this process may run on (its cpuset, where the system tells: Linux), else all of the machine.

    No more than whole cores of its quota, which a container's limit of processor time is: threads beyond it only wait,
    all at once, for the next tenth of a second.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota()
    return cores if quota is None else min(cores, max(1, int(quota)))


def _quota() -> float | None:
    """In cores, the least of this process's control group (version 2) and those around it; None without any.

    Format of cpu.max: Linux, Documentation/admin-guide/cgroup-v2.rst, "$MAX $PERIOD", of which $MAX may be "max".
    """
    try:
        lines = _MINE.read_text().splitlines()
    except OSError:
        return None
    mine = next((line.removeprefix("0::").lstrip("/") for line in lines if line.startswith("0::")), None)
    if mine is None:
        return None
    found = [_limit(_CGROUPS / group / "cpu.max") for group in (mine, *map(str, Path(mine).parents))]
    return min((limit for limit in found if limit is not None), default=None)


def _limit(path: Path) -> float | None:
    try:
        most, period = path.read_text().split()
        return int(most) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # no such group here, or "max"
        return None
