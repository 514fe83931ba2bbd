"""How many cores there are for the networks. Imports nothing heavy: workers ask before they load any."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Those that this process may run on (its cpuset, where the system tells: Linux), else all of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
