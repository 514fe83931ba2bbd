"""How much memory processes hold, as the kernel counts it, once or again and again while something runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from catalog.repeating import repeating


def held(process: psutil.Process) -> float:
    """Megabytes, what it shares with others divided among them (proportional set size); 0 where it ended meanwhile."""
    try:
        return float(process.memory_full_info().pss) / 1e6
    except psutil.NoSuchProcess:
        return 0.0


def family(pid: int) -> list[psutil.Process]:
    """A process and all below it; none where it ended."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def peak(pid: int) -> int:
    """The most bytes that it held resident so far (VmHWM, proc_pid_status(5)); 0 where it ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


@contextmanager
def looking(look: Callable[[], None], every: float) -> Iterator[None]:
    """Calls ``look`` in a thread every so many seconds for the length of the block, and once more at its end."""
    try:
        with repeating(look, every, "looking"):
            yield
    finally:
        look()
