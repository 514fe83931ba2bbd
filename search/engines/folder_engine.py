"""What the engines that keep a generation in a folder share: opening, verifying, and searching within a scope.

An engine adds what it builds beside the rows (``build``) and how it searches (``reader``).
"""

from __future__ import annotations

import logging
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from search.engines.allowed import Allowed
from search.engines.errors import IndexDamaged
from search.engines.folder_writer import FolderWriter
from search.engines.following import follow, nudge
from search.engines.generations import Generations, Stamp
from search.engines.incoming import RowCount
from search.engines.manifest import Manifest, check_agrees, read_manifest
from search.engines.scan import NO_HITS, exact_search
from search.engines.stored import StoredRows
from search.engines.trust import check_unless_trusted
from search.engines.types import EVERYWHERE, Effort, Hits, IndexSpec, Progress, Scope, Strategy
from search.engines.vectors import checked_query

logger = logging.getLogger(__name__)

T = TypeVar("T")

OPEN_ATTEMPTS = 3  # generations may be published, and the one being opened pruned, this many times while opening


@dataclass(frozen=True, slots=True)
class Built:
    """What an engine made beside the rows: numbers for the manifest, and the libraries that made it."""

    measured: Mapping[str, Any] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)


class FolderEngine(ABC):
    """An IndexEngine whose generations are folders (search.engines.generations)."""

    name: ClassVar[str]

    @staticmethod
    @abstractmethod
    def check_options(options: Mapping[str, Any]) -> dict[str, Any]:
        """The options with defaults filled in. Raises ValueError for an unknown one or a bad value."""

    @abstractmethod
    def build(self, folder: Path, spec: IndexSpec, rows: RowCount, progress: Progress | None = None) -> Built:
        """Make and verify this engine's own files in ``folder``, where the rows already are. Raises BuildFailed.

        ``progress`` is told the step and how far it is.
        """

    @abstractmethod
    def reader(self, folder: Path, manifest: Manifest, stamp: Stamp | None) -> FolderReader:
        """A reader of a verified folder."""

    def start(self, spec: IndexSpec) -> FolderWriter:
        return FolderWriter(self, spec)

    def published(self, spec: IndexSpec) -> str:
        """See IndexEngine.published."""
        return Generations(spec.root).published().name

    def inspect(self, spec: IndexSpec, trusted_seconds: float = 0.0) -> Manifest:
        """See IndexEngine.inspect. Fetches what another host has published, if that is newer."""
        follower = follow(spec, self.name)
        if follower is not None:
            follower.catch_up()
        generations = Generations(spec.root)
        return _while_pointer_moves(spec, lambda: self._verified(spec, *_place(generations), trusted_seconds))

    def open(self, spec: IndexSpec) -> FolderReader:
        """See IndexEngine.open. Where the published generation is damaged, the one before it answers if it is whole."""
        follower, generations = follow(spec, self.name), Generations(spec.root)
        stamp = generations.stamp()
        try:
            return _while_pointer_moves(spec, lambda: self._open_once(spec))
        except (IndexDamaged, OSError) as error:
            if follower is not None and isinstance(error, IndexDamaged):
                follower.fetch_again(generations.published_name(), stamp)
            return self._open_before(spec, error)
        finally:
            nudge(spec.root)

    def remove(self, spec: IndexSpec) -> None:
        """See IndexEngine.remove. Of the disks of other hosts nothing is known here."""
        follow(replace(spec, depot=None), self.name)  # no longer
        try:
            if spec.depot is not None:
                spec.depot.remove()
        finally:
            with suppress(FileNotFoundError):
                shutil.rmtree(spec.root)

    def open_folder(
        self, spec: IndexSpec, folder: Path, manifest_sha256: str, stamp: Stamp | None = None
    ) -> FolderReader:
        """A reader of this folder, published or not, where it is what its builder wrote. Raises IndexDamaged."""
        return self.reader(folder, self._verified(spec, folder, manifest_sha256), stamp)

    def _open_once(self, spec: IndexSpec) -> FolderReader:
        generations = Generations(spec.root)
        stamp = generations.stamp()  # before the pointer is read: a later publication is then noticed
        return self.open_folder(spec, *_place(generations), stamp)

    def _open_before(self, spec: IndexSpec, error: IndexDamaged | OSError) -> FolderReader:
        """What is newer than it comes from the database, like all that is newer than a generation."""
        generations = Generations(spec.root)
        stamp, before = generations.stamp(), generations.before()
        if before is None:
            raise error
        try:
            reader = self.open_folder(spec, generations.folder(before.name), before.manifest_sha256, stamp)
        except (IndexDamaged, OSError):
            raise error from None
        logger.error("%s Generation %s, the one before, answers meanwhile.", error, before.name)
        return reader

    def _verified(self, spec: IndexSpec, folder: Path, manifest_sha256: str, trusted_seconds: float = 0.0) -> Manifest:
        manifest = read_manifest(folder, manifest_sha256)
        check_agrees(manifest, spec, self.name)
        check_unless_trusted(manifest, folder, trusted_seconds)
        return manifest


def _place(generations: Generations) -> tuple[Path, str]:
    """The folder of what is published, and the sha256 of its manifest."""
    published = generations.published()
    return generations.folder(published.name), published.manifest_sha256


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
        allowed = self._stored.scopes.allowed(scope)
        if allowed.count == 0:
            return replace(NO_HITS, effort=Effort(Strategy.NOTHING, self.count, allowed=0))
        return self._nearest(query, min(k, allowed.count), allowed)

    def stale(self) -> bool:
        """See IndexReader.stale."""
        nudge(self._generations.root)
        return self._generations.stamp() != self._stamp

    @abstractmethod
    def _nearest(self, query: NDArray[np.float32], k: int, allowed: Allowed) -> Hits:
        """The k nearest of the allowed rows, of which there are at least k >= 1; says what it took."""

    def _scan(
        self, query: NDArray[np.float32], k: int, allowed: Allowed, squares: NDArray[np.float32] | None = None
    ) -> Hits:
        stored, metric = self._stored, self.manifest.metric
        hits = exact_search(stored.ids, stored.vectors, query, k, metric, rows=allowed.rows(), squares=squares)
        return replace(hits, effort=Effort(Strategy.SCAN, self.count, allowed.count, scanned=allowed.count))
