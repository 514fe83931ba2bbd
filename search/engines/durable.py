"""Files that are whole or absent after a crash."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

ASIDE = ".tmp-"  # between the name of a file and the process that writes it anew


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush(path: Path) -> None:
    """Put a file or a folder (the names in it) on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def seal(folder: Path) -> None:
    """Take the right to write into its files from everybody, so that only root can alter one in place by mistake.

    Whoever may write in the folder may still remove or replace them.
    """
    for path in folder.iterdir():
        path.chmod(path.stat().st_mode & ~0o222)


def write_whole(path: Path, content: bytes) -> None:
    """Write aside, flush, rename: ``path`` holds the old content or the new one at every moment."""
    aside = path.with_name(f"{path.name}{ASIDE}{os.getpid()}")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        with suppress(OSError):
            aside.unlink()
        raise
    flush(path.parent)
