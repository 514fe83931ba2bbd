"""The folder of one index: its generations, and the pointer to the one that serves.

::

    root/lock                      held (flock) while a number is given out and while the pointer moves
    root/current                   "<generation> <sha256 of its manifest>": the only thing that decides what serves
    root/00000007-5e0c91aa/        a published generation, never changed again
    root/building-00000008-.../    a draft; its builder holds a flock on the folder for as long as it lives

The folder is on a disk of this machine: flock, and files that stay readable after they were removed, are relied on.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from search.engines.durable import flush, write_whole
from search.engines.errors import BuildFailed, IndexDamaged, IndexNotBuilt

POINTER = "current"
DRAFT_PREFIX = "building-"
_NAME = re.compile(r"(\d{8,})-[0-9a-f]{8}")
_POINTER_LINE = re.compile(rf"({_NAME.pattern}) ([0-9a-f]{{64}})\n")

Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Published:
    """What the pointer says: the generation that serves and the sha256 of its manifest."""

    name: str
    manifest_sha256: str


@dataclass(slots=True)
class Draft:
    """A generation being built, invisible to readers. ``lock`` is an open descriptor of its folder, -1 when closed."""

    name: str
    folder: Path
    lock: int

    def close(self) -> None:
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1


class Generations:
    """The generations under one root. Numbers only grow; the newest number alone may be published."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, name: str) -> Path:
        return self.root / name

    def stamp(self) -> Stamp | None:
        """Changes whenever the pointer is replaced; None when there is no pointer. Costs one stat."""
        try:
            found = (self.root / POINTER).stat()
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def published(self) -> Published:
        """Raises IndexNotBuilt where there is no pointer, IndexDamaged where it cannot be read."""
        path = self.root / POINTER
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            raise IndexNotBuilt(f"Nothing is published in {self.root} yet. Run `manage.py rebuild_index`.") from error
        except OSError as error:
            raise IndexDamaged(f"{path} cannot be read: {error.strerror}.") from error
        line = _POINTER_LINE.fullmatch(content.decode("ascii", errors="replace"))
        if line is None:
            raise IndexDamaged(f"{path} does not name a generation. Rebuild the index.")
        return Published(line[1], line[3])

    def begin(self) -> Draft:
        """A new draft with the next number. Drafts whose builder died are removed first."""
        self.root.mkdir(parents=True, exist_ok=True)
        with self._locked():
            self._sweep()
            name = f"{self._newest() + 1:08d}-{secrets.token_hex(4)}"
            folder = self.root / f"{DRAFT_PREFIX}{name}"
            folder.mkdir()
            lock = os.open(folder, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return Draft(name, folder, lock)

    def publish(self, draft: Draft, manifest_sha256: str) -> None:
        """Rename the draft and then, in one step, the pointer. Raises BuildFailed where a newer builder has started."""
        flush(draft.folder)
        with self._locked():
            newest = self._newest()
            if newest > _number(draft.name):
                raise BuildFailed(
                    f"Generation {draft.name} was overtaken by another builder (number {newest}) and not published."
                )
            if not draft.folder.is_dir():
                raise BuildFailed(f"Generation {draft.name} was removed while it was being built.")
            draft.folder.rename(self.folder(draft.name))
            write_whole(self.root / POINTER, f"{draft.name} {manifest_sha256}\n".encode())
            self._sweep()
        draft.close()

    def discard(self, draft: Draft) -> None:
        """Remove a draft, also one whose publication failed half way. Does nothing to the generation that serves."""
        shutil.rmtree(draft.folder, ignore_errors=True)
        if not self._serves(draft.name):
            shutil.rmtree(self.folder(draft.name), ignore_errors=True)
        draft.close()

    def _serves(self, name: str) -> bool:
        try:
            return self.published().name == name
        except (IndexNotBuilt, IndexDamaged):
            return False

    def _newest(self) -> int:
        names = [path.name.removeprefix(DRAFT_PREFIX) for path in self.root.iterdir()]
        return max((_number(name) for name in names if _NAME.fullmatch(name)), default=0)

    def _sweep(self) -> None:
        """Remove dead drafts, and generations but the serving one and the one before, which a reader may be opening."""
        for draft in self.root.glob(f"{DRAFT_PREFIX}*"):
            if _is_abandoned(draft):
                shutil.rmtree(draft, ignore_errors=True)
        try:
            current = self.published().name
        except (IndexNotBuilt, IndexDamaged):
            return  # nothing says which one matters: keep them all
        names = [path.name for path in self.root.iterdir() if _NAME.fullmatch(path.name)]
        before = sorted((name for name in names if _number(name) < _number(current)), key=_number)
        for name in set(names) - {current, *before[-1:]}:
            shutil.rmtree(self.folder(name), ignore_errors=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        handle = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _number(name: str) -> int:
    return int(name.partition("-")[0])


def _is_abandoned(folder: Path) -> bool:
    """True when no living process holds the draft's lock."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True
