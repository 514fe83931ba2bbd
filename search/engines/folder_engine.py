"""What the engines that keep a generation in a folder share: writing, publishing, opening, verifying.

An engine adds what it builds beside the rows (``build``) and how it searches (``reader``).
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from search.engines.durable import sha256_of
from search.engines.errors import BuildFailed, IndexDamaged
from search.engines.generations import Generations, Stamp
from search.engines.manifest import Manifest, check_agrees, check_files, read_manifest
from search.engines.scan import NO_HITS, exact_search
from search.engines.stored import RowCount, RowWriter, StoredRows
from search.engines.types import EVERYWHERE, Hits, IndexSpec, Scope
from search.engines.vectors import checked_query

T = TypeVar("T")

OPEN_ATTEMPTS = 3  # generations may be published, and the one being opened pruned, this many times while opening


@dataclass(frozen=True, slots=True)
class Built:
    """What an engine made beside the rows: numbers for the manifest, and the libraries that made it."""

    measured: Mapping[str, float] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)


class FolderEngine(ABC):
    """An IndexEngine whose generations are folders (search.engines.generations)."""

    name: ClassVar[str]

    @staticmethod
    @abstractmethod
    def check_options(options: Mapping[str, Any]) -> dict[str, Any]:
        """The options with defaults filled in. Raises ValueError for an unknown one or a bad value."""

    @abstractmethod
    def build(self, folder: Path, spec: IndexSpec, rows: RowCount) -> Built:
        """Make and verify this engine's own files in ``folder``, where the rows already are. Raises BuildFailed."""

    @abstractmethod
    def reader(self, folder: Path, manifest: Manifest, stamp: Stamp | None) -> FolderReader:
        """A reader of a verified folder."""

    def start(self, spec: IndexSpec) -> FolderWriter:
        return FolderWriter(self, spec)

    def inspect(self, spec: IndexSpec) -> Manifest:
        """See IndexEngine.inspect."""
        return _while_pointer_moves(spec, lambda: self._verified(spec)[1])

    def open(self, spec: IndexSpec) -> FolderReader:
        """See IndexEngine.open."""
        return _while_pointer_moves(spec, lambda: self._open_once(spec))

    def _open_once(self, spec: IndexSpec) -> FolderReader:
        stamp = Generations(spec.root).stamp()  # before the pointer is read: a later publication is then noticed
        folder, manifest = self._verified(spec)
        return self.reader(folder, manifest, stamp)

    def _verified(self, spec: IndexSpec) -> tuple[Path, Manifest]:
        generations = Generations(spec.root)
        published = generations.published()
        folder = generations.folder(published.name)
        manifest = read_manifest(folder, published.manifest_sha256)
        check_agrees(manifest, spec, self.name)
        check_files(manifest, folder)
        return folder, manifest


def _while_pointer_moves(spec: IndexSpec, action: Callable[[], T]) -> T:
    """Try again when a file is missing only because its generation was replaced and pruned meanwhile."""
    generations = Generations(spec.root)
    for _ in range(OPEN_ATTEMPTS - 1):
        before = generations.stamp()
        try:
            return action()
        except (IndexDamaged, OSError):
            if generations.stamp() == before:
                raise
    return action()


class FolderWriter:
    """An IndexWriter: rows stream to a draft folder, the engine builds on them, the pointer moves."""

    def __init__(self, engine: FolderEngine, spec: IndexSpec) -> None:
        self._engine = engine
        self._spec = spec
        self._started = time.monotonic()
        self._generations = Generations(spec.root)
        self._draft = self._generations.begin()
        self._rows = RowWriter(self._draft.folder, spec.dimension)

    @property
    def generation(self) -> str:
        return self._draft.name

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32], collections: NDArray[np.int64]) -> None:
        self._rows.add(ids, vectors, collections)

    def publish(self) -> FolderReader:
        try:
            rows = self._rows.close()
            built = self._engine.build(self._draft.folder, self._spec, rows)
            manifest = self._manifest(rows, built)
            self._generations.publish(self._draft, manifest.write(self._draft.folder))
        except OSError as error:
            raise BuildFailed(f"Generation {self.generation} could not be written: {error}.") from error
        return self._engine.open(self._spec)

    def discard(self) -> None:
        self._rows.abandon()
        self._generations.discard(self._draft)

    def _manifest(self, rows: RowCount, built: Built) -> Manifest:
        return Manifest(
            generation=self.generation,
            engine=self._engine.name,
            fingerprint=self._spec.fingerprint,
            dimension=self._spec.dimension,
            metric=self._spec.metric,
            options=dict(self._spec.options),
            count=rows.count,
            highest_id=rows.highest_id,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            build_seconds=round(time.monotonic() - self._started, 3),
            measured=dict(built.measured),
            libraries={"numpy": version("numpy"), **built.libraries},
            files={path.name: sha256_of(path) for path in sorted(self._draft.folder.iterdir())},
        )


class FolderReader(ABC):
    """An IndexReader of one folder. Holds no lock and no file of its own: dropping the last reference frees it."""

    def __init__(self, folder: Path, manifest: Manifest, stamp: Stamp | None) -> None:
        self.manifest = manifest
        self.generation = manifest.generation
        self.count = manifest.count
        self.highest_id = manifest.highest_id
        self._generations = Generations(folder.parent)
        self._stamp = stamp
        self._stored = StoredRows(folder)

    def search(self, vector: ArrayLike, k: int, scope: Scope = EVERYWHERE) -> Hits:
        """See IndexReader.search."""
        query = checked_query(vector, self.manifest.dimension)
        if k < 1:
            raise ValueError(f"k is {k}, but at least one neighbour must be asked for.")
        rows = self._stored.rows_in(scope)
        allowed = self.count if rows is None else len(rows)
        return self._nearest(query, min(k, allowed), rows) if allowed else NO_HITS

    def stale(self) -> bool:
        """See IndexReader.stale."""
        return self._generations.stamp() != self._stamp

    @abstractmethod
    def _nearest(self, query: NDArray[np.float32], k: int, rows: NDArray[np.int64] | None) -> Hits:
        """The k nearest among ``rows`` (None: all), of which there are at least k >= 1."""

    def _scan(self, query: NDArray[np.float32], k: int, rows: NDArray[np.int64] | None) -> Hits:
        return exact_search(self._stored.ids, self._stored.vectors, query, k, self.manifest.metric, rows=rows)
