"""How much memory processes hold, as the kernel counts it."""

from __future__ import annotations

from pathlib import Path

import psutil


def held(process: psutil.Process) -> float:
    """Megabytes, what it shares with others divided among them (proportional set size); 0 where it ended meanwhile."""
    try:
        return float(process.memory_full_info().pss) / 1e6
    except psutil.NoSuchProcess:
        return 0.0


def peak(pid: int) -> int:
    """The most bytes that it held resident so far (VmHWM, proc_pid_status(5)); 0 where it ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)
