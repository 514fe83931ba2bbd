"""Indexes against the database: the pointer and its record, the files, and whether the vectors are the stored ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from django.core.exceptions import ImproperlyConfigured
from numpy.typing import NDArray

from catalog.doctor.findings import CannotLook, Check, Finding, Looking, Problem
from catalog.models import EmbeddingModel
from catalog.selectors import VectorChunk, iter_vectors, last_embedding_id, vector_state
from search.engines.errors import IndexDamaged, IndexNotBuilt, IndexUnreachable
from search.engines.folder_engine import FolderEngine
from search.engines.generations import Generations
from search.engines.manifest import Manifest, check_agrees, check_files, read_manifest
from search.engines.protocols import IndexEngine, ServerEngine
from search.engines.registry import index_for
from search.engines.stored import IDS, VECTORS, load_array
from search.engines.types import IndexSpec
from search.indexing import settle
from search.locks import RebuildRunning, is_building
from search.models import IndexGeneration

Status = IndexGeneration.Status
State = EmbeddingModel.State
LOOKS = 3  # a generation may be published while we look, so many times

Rows = tuple[NDArray[Any], NDArray[Any]]  # ids, ascending, and their vectors: at least those of the ids asked for
Fetch = Callable[[NDArray[np.int64]], Rows]

_REBUILD = "Run `manage.py rebuild_index` (of the pipeline that is named)."

GONE = Problem(
    "index-gone",
    "a published generation is not on the disk; search answers exactly, more slowly",
    _REBUILD,
    "of a model that does not serve: records that nothing is published",
)
DAMAGED = Problem("index-damaged", "an index cannot be trusted; search answers without it, more slowly", _REBUILD)
UNRECORDED = Problem(
    "index-unrecorded",
    "the generation that serves is not the recorded one",
    _REBUILD,
    "records what the pointer says, where there is a record of it",
)
DEAD_BUILD = Problem(
    "build-dead",
    "a build is recorded as going on, and nobody builds",
    "Run `manage.py doctor --fix`; the next build does it, too.",
    "records what became of it",
)
AHEAD = Problem(
    "index-ahead",
    "an index knows embeddings that the database never gave out: an older dump was restored, search may answer wrongly",
    "At once: " + _REBUILD,
)
DIFFERS = Problem(
    "index-differs", "an index lacks embeddings that it should hold, or holds other vectors than the database", _REBUILD
)


@dataclass(frozen=True, slots=True)
class _Index:
    """The index of one model, as this machine has it."""

    model: EmbeddingModel
    engine: IndexEngine
    spec: IndexSpec

    @property
    def subject(self) -> str:
        return f"{self.model.pipeline}: {self.model}"

    def recorded(self) -> IndexGeneration | None:
        return self.model.generations.filter(status=Status.PUBLISHED).first()


def configured_indexes() -> Iterator[_Index]:
    """One for each model whose pipeline has an index, the serving models first."""
    models = EmbeddingModel.objects.order_by("pipeline", "id")
    for model in sorted(models, key=lambda model: model.state != State.SERVING):
        with suppress(ImproperlyConfigured):  # a pipeline of the past, or one that search.E003 names
            yield _Index(model, *index_for(model.pipeline, model.fingerprint, model.dimension))


def _indexes(looking: Looking) -> Iterator[Finding]:
    indexes, unseen = list(configured_indexes()), []
    for done, index in enumerate(indexes, start=1):
        yield from _dead_builds(index)
        try:
            yield from _published(index, looking)
        except (IndexUnreachable, IndexDamaged, CannotLook) as error:  # damaged: dropped while it was compared
            unseen.append(f"{index.subject}: {error}")
        looking.progress("indexes", done, len(indexes))
    if unseen:
        raise CannotLook(" ".join(unseen))


# --- The record -------------------------------------------------------------------------------------------------------


def _dead_builds(index: _Index) -> Iterator[Finding]:
    rows = list(index.model.generations.filter(status=Status.BUILDING))
    if rows and not is_building(index.model):
        for row in index.model.generations.filter(pk__in=[row.pk for row in rows], status=Status.BUILDING):
            yield DEAD_BUILD.of(index.subject, f"generation {row.name}", partial(_settle_build, index.model))


def _settle_build(model: EmbeddingModel) -> bool:
    with suppress(
        RebuildRunning, IndexNotBuilt, IndexDamaged, IndexUnreachable
    ):  # the dead build is settled before these are raised
        settle(model)
    return not model.generations.filter(status=Status.BUILDING).exists() or is_building(model)


def _published(index: _Index, looking: Looking) -> Iterator[Finding]:
    try:
        manifest = _manifest(index, looking.deep)
    except IndexNotBuilt:
        yield from _gone(index)
        return
    except IndexDamaged as error:
        if index.model.state == State.SERVING:  # others are built anew for settings of another metric when they serve
            yield DAMAGED.of(index.subject, str(error))
        return
    yield from _unrecorded(index, manifest)
    yield from _compared(index, manifest, looking)


def _manifest(index: _Index, deep: bool) -> Manifest:
    """Of what is published. ``deep``: every file of it is read and hashed. Raises IndexNotBuilt, IndexDamaged.

    Where generations come from another host `inspect` fetches the newest first, so that none is called missing.
    """
    if deep or not isinstance(index.engine, FolderEngine) or index.spec.depot is not None:
        return index.engine.inspect(index.spec)
    generations = Generations(index.spec.root)
    for attempt in range(LOOKS):
        stamp = generations.stamp()
        try:
            return _glanced_at(index, generations)
        except IndexDamaged:
            if generations.stamp() == stamp or attempt == LOOKS - 1:
                raise
    raise AssertionError("unreachable")


def _glanced_at(index: _Index, generations: Generations) -> Manifest:
    published = generations.published()
    folder = generations.folder(published.name)
    manifest = read_manifest(folder, published.manifest_sha256)
    check_agrees(manifest, index.spec, index.engine.name)
    for name in manifest.files:
        if not (folder / name).is_file():
            raise IndexDamaged(f"{folder / name} is missing. Rebuild the index.")
    return manifest


def _gone(index: _Index) -> Iterator[Finding]:
    row = index.recorded()
    if row is None or is_building(index.model):
        return
    mend = None if index.model.state == State.SERVING else partial(_forget, index)
    yield GONE.of(index.subject, f"generation {row.name}", mend)


def _forget(index: _Index) -> bool:
    """Looked at once more: a model may have begun to serve, an index been built, since."""
    row = index.recorded()
    if row is None:
        return True
    still = IndexGeneration.objects.filter(pk=row.pk, status=Status.PUBLISHED)
    try:
        index.engine.inspect(index.spec)
    except IndexNotBuilt:
        return bool(still.exclude(embedding_model__state=State.SERVING).update(status=Status.SUPERSEDED))
    except IndexDamaged:
        return False
    return True


def _unrecorded(index: _Index, manifest: Manifest) -> Iterator[Finding]:
    row = index.recorded()
    if row is not None and row.name == manifest.generation:
        return
    if is_building(index.model) or _has_moved_on(index, manifest):
        return
    said = f"{manifest.generation} serves, {row.name if row else 'none'} is recorded"
    yield UNRECORDED.of(index.subject, said, partial(settle, index.model))


def _has_moved_on(index: _Index, manifest: Manifest) -> bool:
    """Another one was published while we looked; or this host fetches its generations and is a moment behind."""
    try:
        return index.spec.depot is not None or index.engine.inspect(index.spec).generation != manifest.generation
    except (IndexNotBuilt, IndexDamaged, IndexUnreachable):
        return True


# --- The vectors ------------------------------------------------------------------------------------------------------


def _compared(index: _Index, manifest: Manifest, looking: Looking) -> Iterator[Finding]:
    given_out = last_embedding_id()
    if manifest.highest_id > given_out:
        said = f"generation {manifest.generation} goes up to {manifest.highest_id}, the database to {given_out}"
        yield AHEAD.of(index.subject, said)
        return
    state = vector_state(index.model)
    held = state.count - vector_state(index.model, after_id=manifest.highest_id).count
    if held > manifest.count:
        lost = held - manifest.count
        yield DIFFERS.of(index.subject, f"{lost} embeddings are not in generation {manifest.generation}")
    elif looking.deep:
        yield from _compared_one_by_one(index, manifest, held, looking)


def _compared_one_by_one(index: _Index, manifest: Manifest, total: int, looking: Looking) -> Iterator[Finding]:
    """Embeddings never change, so each must be there as it was. Rows of the index without one were deleted since.

    Raises CannotLook for an engine that does not give vectors back.
    """
    fetch = _fetching(index, manifest)
    done = lacking = other = 0
    for chunk in iter_vectors(index.model, up_to_id=manifest.highest_id):
        ids, vectors = fetch(chunk[0])
        found = _places(ids, chunk[0])
        lacking += int((found < 0).sum())
        other += _unlike(vectors, chunk, found)
        done += len(found)
        looking.progress(f"vectors of {index.model.pipeline}", done, max(done, total))
    if lacking or other:
        said = (
            f"of {done} embeddings {lacking} are not in generation {manifest.generation} and {other} are others in it"
        )
        yield DIFFERS.of(index.subject, said)


def _fetching(index: _Index, manifest: Manifest) -> Fetch:
    if isinstance(index.engine, FolderEngine):
        folder = Generations(index.spec.root).folder(manifest.generation)
        every = load_array(folder / IDS, mapped=True), load_array(folder / VECTORS, mapped=True)
        return lambda wanted: every
    if isinstance(index.engine, ServerEngine):
        return partial(_sorted, index.engine, index.spec, manifest)
    raise CannotLook(f"{index.engine.name} does not give its vectors back, so they are not compared.")


def _sorted(engine: ServerEngine, spec: IndexSpec, manifest: Manifest, wanted: NDArray[np.int64]) -> Rows:
    found = engine.fetch(spec, manifest, wanted)
    order = np.argsort(found.ids)
    return found.ids[order], found.vectors[order]


def _places(ids: NDArray[Any], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows of these ids in sorted ``ids``, -1 where there is none."""
    if not len(ids):
        return np.full(len(wanted), -1)
    rows = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    return np.where(ids[rows] == wanted, rows, -1)


def _unlike(vectors: NDArray[Any], chunk: VectorChunk, rows: NDArray[np.int64]) -> int:
    """How many of the chunk have another vector in their row. Compared as bytes, so that NaN is like itself."""
    there = rows >= 0
    stored = np.ascontiguousarray(vectors[rows[there]], dtype="<f4").view("<u4")
    mine = np.ascontiguousarray(chunk[1][there], dtype="<f4").view("<u4")
    return int((stored != mine).any(axis=1).sum())


# --- Every generation -------------------------------------------------------------------------------------------------

GENERATION_DAMAGED = Problem(
    "generation-damaged",
    "the generation before the one that serves is damaged: it could not help out",
    _REBUILD,
)


def _before(looking: Looking) -> Iterator[Finding]:
    """The one before, which answers where the published one is found damaged (search.engines.folder_engine)."""
    for index in configured_indexes():
        before = Generations(index.spec.root).before()
        if before is None or not isinstance(index.engine, FolderEngine):
            continue
        folder = Generations(index.spec.root).folder(before.name)
        if folder.is_dir() and (said := _damage(folder, before.manifest_sha256, looking.deep)):
            yield GENERATION_DAMAGED.of(f"{index.subject}, {before.name}", said)


def _damage(folder: Path, sha256: str, deep: bool) -> str:
    try:
        manifest = read_manifest(folder, sha256)
        if deep:
            check_files(manifest, folder)
    except IndexDamaged as error:
        return str(error) if folder.is_dir() else ""  # pruned meanwhile
    return ""


CHECKS = (
    Check("indexes", (GONE, DAMAGED, UNRECORDED, DEAD_BUILD, AHEAD, DIFFERS), _indexes),
    Check("generations before", (GENERATION_DAMAGED,), _before),
)
