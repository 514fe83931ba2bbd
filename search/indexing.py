"""Index generations from beginning to end: is one due, build it, record it."""

from __future__ import annotations

import logging
import math
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.db import DatabaseError, transaction
from django.db.models import Q
from django.utils import timezone

from catalog.database import retry_while_away
from catalog.embedding_models import serving_models
from catalog.keeping import is_filled, kept_models
from catalog.models import EmbeddingModel
from catalog.selectors import iter_vectors, last_embedding_id, vector_state
from search.engines.errors import EngineError, IndexDamaged, IndexNotBuilt
from search.engines.manifest import Manifest
from search.engines.protocols import IndexEngine, IndexWriter
from search.engines.registry import index_for
from search.engines.types import IndexSpec, Progress
from search.locks import RebuildRunning, builder_lock
from search.models import IndexGeneration
from search.pace import STEP_SECONDS, Pace
from search.progress import Reporter, forget

logger = logging.getLogger(__name__)

Status = IndexGeneration.Status

PAUSE_AFTER_FAILURE = timedelta(minutes=30)  # for beat; `manage.py rebuild_index` always tries
SUMS_TRUSTED_SECONDS = 3600.0  # beat asks every five minutes, and an index of a million is gigabytes to read


def needs_rebuild(model: EmbeddingModel) -> str | None:
    """Why the index of this model should be built anew, or None.

    There is none although there are vectors; it is damaged or was built for another metric or engine; its options have
    changed; it is not of what this database holds, as after an older dump was restored; or new and dropped vectors
    together reach VISEARCH_REBUILD_SHARE of it and VISEARCH_REBUILD_ROWS.
    """
    engine, spec = _index_of(model)
    try:
        manifest = engine.inspect(spec, trusted_seconds=SUMS_TRUSTED_SECONDS)
    except IndexNotBuilt:
        return "There is no generation yet." if vector_state(model).count else None
    except IndexDamaged as error:
        return str(error)
    if dict(manifest.options) != dict(spec.options):
        return f"Its options were {dict(manifest.options)} and are now {dict(spec.options)}."
    return _is_of_another_past(model, manifest) or _has_drifted(model, manifest)


def _is_of_another_past(model: EmbeddingModel, manifest: Manifest) -> str | None:
    """Ids that are given out again stand for other vectors in it; when all are, the record that is missing tells."""
    last = last_embedding_id()
    if manifest.highest_id > last:
        return (
            f"Generation {manifest.generation} goes up to embedding {manifest.highest_id}, the database to {last}: "
            "an older dump was restored."
        )
    if not model.generations.filter(name=manifest.generation).exclude(status=Status.FAILED).exists():
        return f"This database has no record of generation {manifest.generation}: an older dump may have been restored."
    return None


def _has_drifted(model: EmbeddingModel, manifest: Manifest) -> str | None:
    since = drift(model, manifest.count, manifest.highest_id)
    if since.lacking:
        return f"{since.lacking} older vectors are not in generation {manifest.generation} of {manifest.count}."
    if since.new + since.dropped < drift_limit(manifest.count):
        return None
    return (
        f"{since.new} vectors are new and {since.dropped} are gone since generation {manifest.generation} "
        f"of {manifest.count}."
    )


@dataclass(frozen=True, slots=True)
class Drift:
    """Of ``total`` vectors of a model ``new`` are newer than a generation; ``dropped`` of the generation's are gone.

    ``lacking`` are not newer, and more than it holds: they are not found.
    """

    total: int
    new: int
    dropped: int
    lacking: int = 0


def drift(model: EmbeddingModel, count: int, highest_id: int) -> Drift:
    """Since a generation of ``count`` vectors up to this id; 0 and 0 where there is none."""
    total = vector_state(model).count
    new = vector_state(model, after_id=highest_id).count if highest_id else total
    older = total - new
    return Drift(total, new, dropped=max(0, count - older), lacking=max(0, older - count))


def drift_limit(count: int) -> int:
    """How many new and dropped vectors make it due to rebuild a generation of ``count``."""
    return int(max(settings.VISEARCH_REBUILD_ROWS, math.ceil(settings.VISEARCH_REBUILD_SHARE * count)))


def rebuild_due_indexes() -> None:
    """Build the index of every serving model that needs it, then of those that are kept ready beside one.

    One that fails is logged and does not stop the others.
    """
    for model in [*serving_models(), *_filled_models()]:
        try:
            reason = needs_rebuild(model)
            if reason is not None and not failed_lately(model):
                logger.info("building the index of %s: %s", model, reason)
                _rebuild_watched(model)
        except RebuildRunning as error:
            logger.info("%s", error)
        except Exception:
            logger.exception("the index of %s (%s) could not be built", model, model.pipeline)


def _filled_models() -> list[EmbeddingModel]:
    """Kept ready, and nothing left to compute: while a model is being filled its index would be due all the time."""
    return [model for model in kept_models() if is_filled(model)]


def rebuild_on_request(model_id: str) -> None:
    """Build the index of this model, if it still serves or is kept ready. What goes wrong is in the build's record."""
    wanted = Q(state=EmbeddingModel.State.SERVING) | Q(fill=EmbeddingModel.Fill.ASKED)
    for model in EmbeddingModel.objects.filter(wanted, pk=model_id):
        try:
            _rebuild_watched(model)
        except RebuildRunning as error:
            logger.info("%s", error)


def _rebuild_watched(model: EmbeddingModel) -> None:
    """Build, and let everybody see how far it is. Another builder whose report is forgotten makes it anew."""
    try:
        rebuild_index(model, Reporter(model))
    finally:
        forget(model)


def failed_lately(model: EmbeddingModel) -> bool:
    """What made the last build fail is hardly gone; trying at every beat would only fill the record."""
    last, now = model.generations.order_by("-sequence").first(), timezone.now()
    if last is None or last.status != Status.FAILED:
        return False
    return now - PAUSE_AFTER_FAILURE < last.created_at <= now  # a clock that has jumped back since says nothing


def rebuild_index(model: EmbeddingModel, progress: Progress | None = None) -> IndexGeneration:
    """Build and publish a generation of everything this model has stored; returns its record.

    1. Take the lock of this model's index; rows of builders that died are settled.
    2. Record a generation as building.
    3. Stream the vectors up to the highest id at the start. Later ones are the delta's: ids commit in order.
    4. Build, measure, test in a fresh process, publish: see IndexWriter.publish.
    5. Record it as published and the one before as superseded.

    Raises RebuildRunning where another process builds. Whatever goes wrong before it is published, also an interrupt,
    leaves no trace on disk, is recorded as failed with its reason and raised; the generation before goes on serving.
    What goes wrong after that takes nothing back.
    """
    with builder_lock(model):
        engine, spec = _index_of(model)
        _settle_dead_builders(model, engine, spec)
        writer = _start(model, engine, spec)
        pace = Pace()
        try:
            row = _record_start(model, engine, spec, writer.generation)
            manifest = _build(row, writer, engine, spec, _each(pace, progress))
        except BaseException:
            writer.discard()
            raise
        row.parameters[STEP_SECONDS] = pace.seconds()
        retry_while_away(lambda: _record_published(row, manifest))
        return row


def _index_of(model: EmbeddingModel) -> tuple[IndexEngine, IndexSpec]:
    return index_for(model.pipeline, model.fingerprint, model.dimension)


def _each(*watching: Progress | None) -> Progress:
    def progress(step: str, done: int, total: int) -> None:
        for tell in watching:
            if tell is not None:
                tell(step, done, total)

    return progress


def _start(model: EmbeddingModel, engine: IndexEngine, spec: IndexSpec) -> IndexWriter:
    """What cannot even begin (a full disk, a folder that may not be written) is a failed build like any other."""
    try:
        return engine.start(spec)
    except Exception as error:
        with suppress(DatabaseError):
            _record_failure(_record_start(model, engine, spec, f"not-begun-{secrets.token_hex(4)}"), error)
        raise


def _build(
    row: IndexGeneration, writer: IndexWriter, engine: IndexEngine, spec: IndexSpec, progress: Progress
) -> Manifest:
    """Raises what went wrong, unless the generation serves by then; an interrupt always."""
    try:
        _stream(row.embedding_model, writer, progress)
        return writer.publish(progress)
    except BaseException as error:
        manifest = _published_by_now(row, engine, spec)
        with suppress(DatabaseError):  # the error itself matters more; the next builder settles the row
            if manifest is None:
                _record_failure(row, error)
            else:
                _record_published(row, manifest)
        if manifest is None or not isinstance(error, Exception):
            raise
        logger.exception("generation %s is published, though afterwards something went wrong", row.name)
        return manifest


def _published_by_now(row: IndexGeneration, engine: IndexEngine, spec: IndexSpec) -> Manifest | None:
    try:
        manifest = engine.inspect(spec) if engine.published(spec) == row.name else None
    except Exception:  # noqa: BLE001 - another error is being handled, which says more
        return None
    return manifest if manifest is not None and manifest.generation == row.name else None


def _stream(model: EmbeddingModel, writer: IndexWriter, progress: Progress) -> None:
    state = vector_state(model)
    done = 0
    progress("reading", 0, state.count)
    for ids, vectors, collections in iter_vectors(model, up_to_id=state.highest_id):
        writer.add(ids, vectors, collections)
        done += len(ids)
        progress("reading", done, max(done, state.count))


def settle(model: EmbeddingModel) -> bool:
    """Bring the records in line with what the pointer says; False where the published generation has none.

    Raises RebuildRunning, IndexNotBuilt, IndexDamaged, IndexUnreachable.
    """
    with builder_lock(model):
        engine, spec = _index_of(model)
        _settle_dead_builders(model, engine, spec)
        manifest = engine.inspect(spec)
        row = model.generations.filter(name=manifest.generation).first()
        if row is None:
            return False
        if row.status != Status.PUBLISHED:
            _record_published(row, manifest)
        return True


def _settle_dead_builders(model: EmbeddingModel, engine: IndexEngine, spec: IndexSpec) -> None:
    """Called with the lock held: nobody builds, so a row that says so is a dead builder's.

    One that died between moving the pointer and recording it has published.
    """
    for row in model.generations.filter(status=Status.BUILDING):
        try:
            manifest = engine.inspect(spec)
        except (IndexNotBuilt, IndexDamaged):
            manifest = None
        if manifest is not None and manifest.generation == row.name:
            _record_published(row, manifest)
        else:
            _finish(row, Status.FAILED, reason="Its builder died.")


def _record_start(model: EmbeddingModel, engine: IndexEngine, spec: IndexSpec, name: str) -> IndexGeneration:
    parameters = {"metric": spec.metric.value, "options": dict(spec.options)}
    return IndexGeneration.objects.create(embedding_model=model, name=name, engine=engine.name, parameters=parameters)


def _record_published(row: IndexGeneration, manifest: Manifest) -> None:
    with transaction.atomic():
        published = IndexGeneration.objects.filter(embedding_model=row.embedding_model, status=Status.PUBLISHED)
        published.exclude(pk=row.pk).update(status=Status.SUPERSEDED)
        row.parameters |= {"measured": dict(manifest.measured), "libraries": dict(manifest.libraries)}
        row.count = manifest.count
        row.bytes = manifest.measured.get("bytes")
        row.highest_embedding_id = manifest.highest_id
        row.recall = manifest.measured.get("recall")
        row.build_seconds = manifest.build_seconds
        row.published_at = timezone.now()
        _finish(row, Status.PUBLISHED)


def _record_failure(row: IndexGeneration, error: BaseException) -> None:
    kind = "" if isinstance(error, EngineError) else f"{type(error).__name__}: "
    _finish(row, Status.FAILED, reason=f"{kind}{error}" if str(error) else repr(error))


def _finish(row: IndexGeneration, status: Status, reason: str = "") -> None:
    row.status = status
    row.reason = reason
    row.save()
