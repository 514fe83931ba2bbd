"""The folder of one index: its generations, and the pointer to the one that serves.

::

    root/lock                      held (flock) while a number is given out and while the pointer moves
    root/current                   "<generation> <sha256 of its manifest>": the only thing that decides what serves
    root/before                    what it said before: who finds the current one damaged may open that
    root/00000007-5e0c91aa/        a published generation, never changed again: its files are read-only
    root/building-00000008-.../    a draft; its builder holds a flock on the folder for as long as it lives
    root/fetching-00000008-.../    the same of one that comes from another host (search.engines.depot)

The folder is on a disk of this machine: flock, and files that stay readable after they were removed, are relied on.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from search.engines.durable import ASIDE, flush, seal, write_whole
from search.engines.errors import BuildFailed, IndexDamaged, IndexNotBuilt
from search.engines.names import POINTER_LINE, Published, is_generation, number_of

POINTER, BEFORE = "current", "before"
DRAFT_PREFIX, FETCH_PREFIX = "building-", "fetching-"
DAMAGED_PREFIX = "damaged-"
MOST_POINTER_BYTES = 200

Stamp = tuple[int, int, bytes]


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
        self._pointer = os.fspath(root / POINTER)

    def folder(self, name: str) -> Path:
        return self.root / name

    def stamp(self) -> Stamp | None:
        """Changes whenever the pointer is replaced; None when there is no pointer. Costs reading its one line.

        The line alone tells generations apart: a clock may jump back, and a new file may get the old one's number.
        """
        try:
            handle = os.open(self._pointer, os.O_RDONLY)
        except OSError:
            return None
        try:
            found = os.fstat(handle)
            return found.st_mtime_ns, found.st_ino, os.read(handle, MOST_POINTER_BYTES)
        except OSError:  # a folder, a disk that fails: whoever opens it says so
            return 0, 0, b""
        finally:
            os.close(handle)

    def published(self) -> Published:
        """Raises IndexNotBuilt where there is no pointer, IndexDamaged where it cannot be read."""
        return self._read(POINTER)

    def before(self) -> Published | None:
        """What was published before, where that is known."""
        try:
            return self._read(BEFORE)
        except (IndexNotBuilt, IndexDamaged):
            return None

    def _read(self, pointer: str) -> Published:
        path = self.root / pointer
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            raise IndexNotBuilt(f"Nothing is published in {self.root} yet. Run `manage.py rebuild_index`.") from error
        except OSError as error:
            raise IndexDamaged(f"{path} cannot be read: {error.strerror}.") from error
        line = POINTER_LINE.fullmatch(content.decode("ascii", errors="replace"))
        if line is None:
            raise IndexDamaged(f"{path} does not name a generation. Rebuild the index.")
        return Published(line[1], line[3])

    def begin(self, above: int = 0) -> Draft:
        """A new draft with the next number, larger than ``above``. Drafts whose builder died are removed first."""
        self.root.mkdir(parents=True, exist_ok=True)
        with self._locked():
            self._sweep()
            number = max(self._newest(), above) + 1
            return self._draft(f"{number:08d}-{secrets.token_hex(4)}", DRAFT_PREFIX)

    def receive(self, name: str) -> Draft | None:
        """An empty folder for a generation that another host has built; None while somebody here fetches it."""
        self.root.mkdir(parents=True, exist_ok=True)
        with self._locked():
            self._sweep()
            try:
                return self._draft(name, FETCH_PREFIX)
            except FileExistsError:
                return None

    def _draft(self, name: str, prefix: str) -> Draft:
        folder = self.root / f"{prefix}{name}"
        folder.mkdir()
        draft = Draft(name, folder, os.open(folder, os.O_RDONLY))
        try:
            fcntl.flock(draft.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.drop(draft)
            raise
        return draft

    def publish(
        self, draft: Draft, manifest_sha256: str, announce: Callable[[], None] | None = None, damaged: str = ""
    ) -> None:
        """Rename the draft and then, in one step, the pointer. Raises BuildFailed where a newer builder has started.

        ``announce`` is called between the two: it tells other hosts, or raises and nothing was published. The
        generation named ``damaged`` does not become the one before: it could not help out, and a good one would go.
        """
        seal(draft.folder)
        flush(draft.folder)
        with self._locked():
            newest = self._newest()
            if newest > number_of(draft.name):
                raise BuildFailed(overtaken(draft.name, newest))
            if not draft.folder.is_dir():
                raise BuildFailed(f"Generation {draft.name} was removed while it was being built.")
            draft.folder.rename(self.folder(draft.name))
            flush(self.root)
            if announce is not None:
                announce()
            self._point_to(Published(draft.name, manifest_sha256), damaged)
            self._sweep()
        draft.close()

    def adopt(self, draft: Draft, manifest_sha256: str, damaged: str = "") -> bool:
        """Publish here what came from another host; False, and nothing done, where something newer serves by now.

        The folder of a generation of the same name, which was found damaged, is replaced. ``damaged``: see ``publish``.
        """
        seal(draft.folder)
        flush(draft.folder)
        with self._locked():
            current = self.published_name()
            if current and number_of(current) > number_of(draft.name):
                return False
            folder = self.folder(draft.name)
            if folder.exists():
                folder.rename(self.root / f"{DAMAGED_PREFIX}{draft.name}")
            draft.folder.rename(folder)
            flush(self.root)
            self._point_to(Published(draft.name, manifest_sha256), damaged)
            self._sweep()
        draft.close()
        return True

    def _point_to(self, published: Published, damaged: str) -> None:
        with suppress(IndexNotBuilt, IndexDamaged):
            current = self.published()
            if current.name not in (published.name, damaged):
                write_whole(self.root / BEFORE, current.line())
        write_whole(self.root / POINTER, published.line())

    def drop(self, draft: Draft) -> None:
        """Remove a draft, unless it was published or adopted."""
        shutil.rmtree(draft.folder, ignore_errors=True)
        draft.close()

    def discard(self, draft: Draft) -> None:
        """Remove a draft, also one whose publication failed half way. Does nothing to the generation that serves."""
        shutil.rmtree(draft.folder, ignore_errors=True)
        if not self.may_serve(draft.name):
            shutil.rmtree(self.folder(draft.name), ignore_errors=True)
        draft.close()

    def may_serve(self, name: str) -> bool:
        """Whether this generation is published; True also where the pointer cannot be read and nobody can know."""
        try:
            return self.published().name == name
        except IndexNotBuilt:
            return False
        except IndexDamaged:
            return True

    def published_name(self) -> str:
        """Empty where nothing is published, or nothing that can be read."""
        try:
            return self.published().name
        except (IndexNotBuilt, IndexDamaged):
            return ""

    def _newest(self) -> int:
        names = [path.name.removeprefix(DRAFT_PREFIX) for path in self.root.iterdir()]
        return max((number_of(name) for name in names if is_generation(name)), default=0)

    def unneeded(self) -> list[Path]:
        """What `sweep` would remove, by name. Waits for whoever publishes in this moment."""
        if not self.root.is_dir():
            return []
        with self._locked():
            return sorted(self._unneeded())

    def sweep(self) -> None:
        """Remove dead drafts, and generations that no reader can need; every build does it, too."""
        if self.root.is_dir():
            with self._locked():
                self._sweep()

    def _sweep(self) -> None:
        for path in self._unneeded():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    path.unlink()

    def _unneeded(self) -> list[Path]:
        """Dead drafts, and generations but the serving one and the one before, which a reader may be opening.

        Also pointers that somebody died while writing: only who holds the lock writes them.
        """
        drafts = (
            path for prefix in (DRAFT_PREFIX, FETCH_PREFIX, DAMAGED_PREFIX) for path in self.root.glob(f"{prefix}*")
        )
        dead = [draft for draft in drafts if _is_abandoned(draft)]
        dead += self.root.glob(f"*{ASIDE}*")
        current = self.published_name()
        if not current:
            return dead  # nothing says which one matters: keep them all
        names = [path.name for path in self.root.iterdir() if is_generation(path.name)]
        spare = set(names) - {current, self._name_before(current, names)}
        return [*dead, *(self.folder(name) for name in spare)]

    def _name_before(self, current: str, names: list[str]) -> str:
        before = self.before()
        if before is not None and before.name != current:
            return before.name
        return max((name for name in names if number_of(name) < number_of(current)), key=number_of, default=current)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        handle = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def overtaken(name: str, newest: int) -> str:
    return f"Generation {name} was overtaken by another builder (number {newest}) and not published."


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
