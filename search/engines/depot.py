"""Where hosts without a disk in common hand generations on: a Django storage, of which only four methods are used.

::

    <index>/<generation>/<file>       the files of a generation
    <index>/published/<generation>    "<generation> <sha256 of its manifest>", written when all its files are there

Nothing is ever overwritten, which storages do in different ways; the newest name under published/ is the pointer. The
newest generation and the one before it are kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Protocol

from search.engines.durable import flush
from search.engines.errors import IndexDamaged
from search.engines.names import POINTER_LINE, Published, is_generation, number_of

PUBLISHED = "published"
KEPT = 2
CHUNK = 1 << 20


class Storage(Protocol):
    """What is used of django.core.files.storage.Storage. Its errors are its own; many are OSErrors."""

    def open(self, name: str, mode: str = "rb") -> IO[bytes]: ...

    def save(self, name: str, content: Any) -> str: ...

    def delete(self, name: str) -> None: ...

    def listdir(self, path: str) -> tuple[list[str], list[str]]: ...


@dataclass(frozen=True, slots=True)
class Depot:
    """The part of a storage that belongs to one index. Every method may raise what the storage raises."""

    storage: Storage
    index: str

    def newest(self) -> Published | None:
        """What is published."""
        return next(self.published(), None)

    def published(self) -> Iterator[Published]:
        """All that is kept, the newest first, each read when it is its turn.

        A pointer that is not whole (a storage that writes in place) does not count yet.
        """
        for name in self._names():
            with self.storage.open(self._pointer(name)) as file:
                line = POINTER_LINE.fullmatch(file.read(200).decode("ascii", errors="replace"))
            if line is not None and line[1] == name:
                yield Published(line[1], line[3])

    def upload(self, name: str, folder: Path) -> Iterator[tuple[int, int]]:
        """Every file of a generation; says before each and at the end how many of how many are there."""
        files = sorted(folder.iterdir())
        for done, path in enumerate(files):
            yield done, len(files)
            with path.open("rb") as file:
                self._save(f"{name}/{path.name}", file)
        yield len(files), len(files)

    def publish(self, published: Published) -> None:
        """Others see it from now on."""
        self._save(f"{PUBLISHED}/{published.name}", BytesIO(published.line()))

    def fetch(self, name: str, file_name: str, folder: Path) -> str:
        """Copy one file into ``folder`` and put it on the disk; returns the sha256 of what came."""
        digest = hashlib.sha256()
        path = folder / file_name
        with self.storage.open(f"{self.index}/{name}/{file_name}") as source, path.open("xb") as target:
            while chunk := source.read(CHUNK):
                digest.update(chunk)
                target.write(chunk)
        flush(path)
        return digest.hexdigest()

    def withdraw(self, name: str) -> None:
        """Remove all trace of a generation; first its pointer, so that nobody looks for its files."""
        if name in self._names():
            self.storage.delete(self._pointer(name))
        for file in self._list(name)[1]:
            self.storage.delete(f"{self.index}/{name}/{file}")
        with suppress(OSError):
            self.storage.delete(f"{self.index}/{name}")  # a folder, where the storage has such

    def remove(self) -> None:
        """Remove all trace of this index, the pointers first."""
        for name in self._names():
            self.storage.delete(self._pointer(name))
        for name in self._list("")[0]:
            self.withdraw(name)
        with suppress(OSError):
            self.storage.delete(self.index)

    def prune(self) -> None:
        """Remove what is older than the KEPT newest, also what builders that died had begun to upload."""
        kept = self._names()[:KEPT]
        if not kept:
            return
        folders = [name for name in self._list("")[0] if is_generation(name)]
        for name in {*folders, *self._names()} - set(kept):
            if number_of(name) < number_of(kept[0]):
                self.withdraw(name)

    def _names(self) -> list[str]:
        """The published ones, newest first; of two with one number all hosts choose the same."""
        names = [name for name in self._list(PUBLISHED)[1] if is_generation(name)]
        return sorted(names, key=lambda name: (number_of(name), name), reverse=True)

    def _list(self, folder: str) -> tuple[list[str], list[str]]:
        try:
            return self.storage.listdir(f"{self.index}/{folder}".rstrip("/"))
        except FileNotFoundError:  # a folder of which nothing was saved yet
            return [], []

    def _save(self, name: str, content: IO[bytes]) -> None:
        wanted = f"{self.index}/{name}"
        saved = self.storage.save(wanted, content)
        if saved != wanted:
            self.storage.delete(saved)
            raise OSError(f"the storage has {wanted} already")

    def _pointer(self, name: str) -> str:
        return f"{self.index}/{PUBLISHED}/{name}"


def indexes_in(storage: Storage) -> list[str]:
    """The names of all indexes of which something is there. Raises what the storage raises."""
    try:
        return sorted(storage.listdir("")[0])
    except FileNotFoundError:  # nothing was ever saved
        return []


def fetch_checked(depot: Depot, name: str, files: Mapping[str, str], folder: Path) -> None:
    """Copy these files, each with its sha256. Raises IndexDamaged for one that is not what was built."""
    for file_name, sha256 in files.items():
        if Path(file_name).name != file_name:
            raise IndexDamaged(f"Generation {name} names a file {file_name!r} outside its folder.")
        if depot.fetch(name, file_name, folder) != sha256:
            raise IndexDamaged(f"{name}/{file_name} came damaged from the storage.")
