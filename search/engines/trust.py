"""Which generations this process has read whole lately, so that gigabytes are not read again every few minutes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from search.engines.manifest import Manifest, check_files

Look = tuple[str, int, int, int, int]  # a file's path, inode, size, and the times of its content and of its inode


@dataclass(frozen=True, slots=True)
class _Whole:
    """Files that were as their manifest says when they looked like this."""

    looks: tuple[Look, ...]
    read_at: float  # monotonic seconds


_last: dict[Path, _Whole] = {}  # by root of an index


def check_unless_trusted(manifest: Manifest, folder: Path, trusted_seconds: float) -> None:
    """``check_files``, unless they passed it here within this time and look as they did then. Raises IndexDamaged.

    What writes into a file changes how it looks; a disk that loses a bit does not, so nothing is trusted for ever.
    """
    looks, last = _looks(manifest, folder), _last.get(folder.parent)
    if last is not None and last.looks == looks and time.monotonic() - last.read_at < trusted_seconds:
        return
    check_files(manifest, folder)
    _last[folder.parent] = _Whole(looks, time.monotonic())


def _looks(manifest: Manifest, folder: Path) -> tuple[Look, ...]:
    """Empty where one cannot be looked at: whoever reads it says why."""
    try:
        return tuple(_look(folder / name) for name in sorted(manifest.files))
    except OSError:
        return ()


def _look(path: Path) -> Look:
    found = path.stat()
    return str(path), found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
