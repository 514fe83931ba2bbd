"""Handing a file to another process: as the file that it is, or its bytes in memory."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

_STEP = 1 << 20
_DEEPEST = 4  # wrappers around a file, each with the next as its ``file``


@contextmanager
def handed_over(file: BinaryIO) -> Iterator[int]:
    """A descriptor that reads the whole of ``file`` and has a position of its own; that of ``file`` may be moved.

    What is no plain file on a disk (an upload in memory, one of an object storage) is copied into memory, never to a
    disk. Raises OSError.
    """
    descriptor = _reopened(file)
    if descriptor is None:
        descriptor = _copied(file)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _reopened(file: BinaryIO) -> int | None:
    """Opened anew by the system's name for it: a descriptor handed over as it is would share the position."""
    inner = _innermost(file)
    if not isinstance(inner, io.BufferedReader | io.BufferedRandom) or not isinstance(inner.raw, io.FileIO):
        return None
    if not stat.S_ISREG(os.fstat(inner.fileno()).st_mode):
        return None
    inner.flush()  # what was written to a temporary file may still be in memory
    try:
        return os.open(f"/proc/self/fd/{inner.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # no such system, or whoever opened it had other rights
        return None


def _innermost(file: object) -> object:
    """Without what Django and tempfile wrap around a file."""
    for _ in range(_DEEPEST):
        inner = None if isinstance(file, io.IOBase) else getattr(file, "file", None)
        if inner is None:
            break
        file = inner
    return file


def _copied(file: BinaryIO) -> int:
    descriptor = os.memfd_create("visearch-file", os.MFD_CLOEXEC)
    try:
        file.seek(0)
        while step := file.read(_STEP):
            view = memoryview(step)
            while view:
                view = view[os.write(descriptor, view) :]
        os.lseek(descriptor, 0, os.SEEK_SET)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
