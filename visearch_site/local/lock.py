"""One start at a time for an installation: a lock that ends with its process, and a note of who holds it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from visearch_site.local.errors import LocalError


class AlreadyRunning(Exception):
    """Another start holds the lock; the text names its address and process."""


@contextmanager
def only_one(path: Path, address: str) -> Iterator[None]:
    """Holds the lock file `path` for the block, noting `address` in it.

    Raises AlreadyRunning when another process holds it, LocalError when the file cannot be written.
    """
    try:
        file = path.open("a+")
    except OSError as error:
        raise LocalError(
            f"Cannot write {path}: {error.strerror}. Make its folder writable for this user, "
            f"or name another place with VISEARCH_VAR=folder."
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(_note(path)) from None
        file.truncate(0)
        file.write(json.dumps({"address": address, "pid": os.getpid()}))
        file.flush()
        yield
        file.truncate(0)


def _note(path: Path) -> str:
    try:
        note = json.loads(path.read_text())
    except ValueError:  # taken a moment ago, not noted yet
        return "visearch is being started here by another process; this start leaves it alone."
    return f"visearch is running already at {note['address']}/ (process {note['pid']}); this start leaves it alone."
