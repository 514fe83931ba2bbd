"""The one who builds a generation that lives in a folder: rows, the engine's files, the self-test, publication."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from search.engines import self_test
from search.engines.child import run_child
from search.engines.depot import Depot
from search.engines.durable import sha256_of
from search.engines.errors import BuildFailed, IndexDamaged, IndexNotBuilt
from search.engines.generations import Generations, overtaken
from search.engines.incoming import RowCount
from search.engines.manifest import Manifest, check_files, read_manifest
from search.engines.names import Published, number_of
from search.engines.stored import RowWriter
from search.engines.types import IndexSpec, Progress, unwatched

if TYPE_CHECKING:
    from search.engines.folder_engine import Built, FolderEngine

logger = logging.getLogger(__name__)

PUBLISHING = "publishing"


class FolderWriter:
    """An IndexWriter: rows stream to a draft folder, the engine builds on them, the draft is tested, the pointer moves.

    Where the index has a depot, the files go there before anything is published, and other hosts hear of the generation
    in the moment before it serves here.
    """

    def __init__(self, engine: FolderEngine, spec: IndexSpec) -> None:
        self._engine = engine
        self._spec = spec
        self._started = time.monotonic()
        self._generations = Generations(spec.root)
        self._draft = self._generations.begin(above=_number_elsewhere(spec.depot))
        try:
            self._rows = RowWriter(self._draft.folder, spec.dimension)
        except BaseException:
            self._generations.drop(self._draft)  # nobody else knows of it, and its lock would keep it
            raise

    @property
    def generation(self) -> str:
        return self._draft.name

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32], collections: NDArray[np.int64]) -> None:
        self._rows.add(ids, vectors, collections)

    def publish(self, progress: Progress | None = None) -> Manifest:
        """See IndexWriter.publish."""
        told = progress or unwatched
        try:
            rows = self._rows.close()
            built = self._engine.build(self._draft.folder, self._spec, rows, told)
            manifest = self._manifest(rows, built)
            sha256 = manifest.write(self._draft.folder)
            request = self_test.describe(self._engine, self._spec, sha256)
            tested = run_child(self_test.__name__, self._draft.folder, request, told)
            if manifest.measured.get("recall") is None:
                manifest = replace(manifest, measured={**manifest.measured, "recall": tested["recall"]})
                sha256 = manifest.write(self._draft.folder)
            self._hand_over(Published(self.generation, sha256), told)
        except OSError as error:
            raise BuildFailed(f"Generation {self.generation} could not be written: {error}.") from error
        return manifest

    def discard(self) -> None:
        self._rows.abandon()
        self._generations.discard(self._draft)
        depot = self._spec.depot
        if depot is not None and not self._generations.may_serve(self.generation):
            with _only_logged(f"generation {self.generation} could not be removed from the storage of indexes"):
                depot.withdraw(self.generation)

    def _manifest(self, rows: RowCount, built: Built) -> Manifest:
        files = sorted(self._draft.folder.iterdir())
        return Manifest.of_build(
            self._spec,
            rows,
            generation=self.generation,
            engine=self._engine.name,
            started=self._started,
            measured={**built.measured, "bytes": sum(path.stat().st_size for path in files)},
            libraries={"numpy": version("numpy"), **built.libraries},
            files={path.name: sha256_of(path) for path in files},
        )

    def _hand_over(self, published: Published, progress: Progress) -> None:
        depot, damaged = self._spec.depot, _damaged(self._generations)
        if depot is None:
            progress(PUBLISHING, 0, 1)
            self._generations.publish(self._draft, published.manifest_sha256, damaged=damaged)
            progress(PUBLISHING, 1, 1)
            return
        with _storage_errors(self.generation):
            for done, total in depot.upload(published.name, self._draft.folder):
                progress(PUBLISHING, done, total)
        self._generations.publish(
            self._draft, published.manifest_sha256, announce=lambda: _announce(depot, published), damaged=damaged
        )
        with _only_logged("older generations could not be removed from the storage of indexes"):
            depot.prune()


def _damaged(generations: Generations) -> str:
    """The name of what serves, if it is damaged. Reads all of it, which is little beside a build."""
    try:
        published = generations.published()
    except (IndexNotBuilt, IndexDamaged):
        return ""
    folder = generations.folder(published.name)
    try:
        check_files(read_manifest(folder, published.manifest_sha256), folder)
    except IndexDamaged:
        return published.name
    return ""


def _number_elsewhere(depot: Depot | None) -> int:
    """The newest number that other hosts know of; 0 where that cannot be known now: publishing will need to."""
    newest = None
    if depot is not None:
        with _only_logged("the storage of indexes cannot be read"):
            newest = depot.newest()
    return number_of(newest.name) if newest else 0


def _announce(depot: Depot, published: Published) -> None:
    """Called while no other builder of this host can publish. Raises BuildFailed where one of another host has."""
    with _storage_errors(published.name):
        newest = depot.newest()
        if newest is not None and number_of(newest.name) >= number_of(published.name):
            raise BuildFailed(overtaken(published.name, number_of(newest.name)))
        depot.publish(published)


@contextmanager
def _storage_errors(generation: str) -> Iterator[None]:
    """Storages have errors of their own."""
    try:
        yield
    except BuildFailed:
        raise
    except Exception as error:
        raise BuildFailed(
            f"Generation {generation} could not be handed to the other hosts ({type(error).__name__}: {error}). "
            f"Look after VISEARCH_INDEXES_STORAGE."
        ) from error


@contextmanager
def _only_logged(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - storages have errors of their own
        logger.warning("%s: %r", what, error)
