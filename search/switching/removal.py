"""Models that nobody needs any more: retired they keep all that they have, dropped they are gone with it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models import ProtectedError

from catalog.curation.log import Kind
from catalog.embedding_models import previous_model
from catalog.exceptions import CatalogError
from catalog.models import Embedding, EmbeddingModel
from catalog.vision import heads, registry
from search import progress
from search.engines.registry import index_for
from search.locks import RebuildRunning, builder_lock
from search.switching.background import subject
from search.teaching.requests import UNEXPECTED, Report, log, report

logger = logging.getLogger(__name__)

State, Fill = EmbeddingModel.State, EmbeddingModel.Fill
ALL_THE_SAME = "To drop it all the same say --force, or tick that in the admin."
BATCH = 2_000  # embeddings that are deleted in a transaction, for the length of which nobody stores others of it

Progress = Callable[[int, int], None]  # how many are deleted, of how many


class CannotRemove(CatalogError):
    """This model may not be retired or dropped; the words say why and what to do."""

    code = "cannot-remove"


@dataclass(frozen=True, slots=True)
class Loss:
    """What dropping ``model`` takes along; ``heads`` were taught on it and cannot be used without it.

    ``objections``: why somebody may want it still, in sentences; empty where nothing speaks against it.
    """

    model: EmbeddingModel
    embeddings: int
    generations: int
    evaluations: int
    heads: list[EmbeddingModel] = field(default_factory=list)
    objections: list[str] = field(default_factory=list)


def retire(model: EmbeddingModel, user: int | None) -> None:
    """Nothing more is computed for it. It keeps its embeddings and its index, and may serve again.

    Raises CannotRemove where it serves.
    """
    rows = EmbeddingModel.objects.filter(pk=model.pk).exclude(state=State.SERVING)
    if not rows.update(state=State.RETIRED, fill=Fill.NO):
        raise CannotRemove(f"{model} serves {model.pipeline}. Let another model serve first.")
    progress.forget(subject(model))
    log(user, model, "Retired it: nothing more is computed for it.")
    logger.info("%s is retired", model)


def loss_of(model: EmbeddingModel) -> Loss:
    """What `drop` would delete. Raises CannotRemove where it may not be dropped at all."""
    derived = list(model.derived.order_by("id"))
    _check_nobody_serves(model, derived)
    rows = [model, *derived]
    objections = []
    if derived:
        objections.append(
            f"The heads that were taught on it cannot be used without it, and go, too: {_names(derived)}."
        )
    if any(row == previous_model(model.pipeline) for row in rows):
        objections.append(f"It is the way back of {model.pipeline}: what served before the present model.")
    return Loss(
        model=model,
        embeddings=Embedding.objects.filter(model__in=rows).count(),
        generations=sum(row.generations.count() for row in rows),
        evaluations=sum(row.evaluation_runs.count() for row in rows),
        heads=derived,
        objections=objections,
    )


def drop(model: EmbeddingModel, user: int | None, *, force: bool = False, told: Progress | None = None) -> Loss:
    """Delete its embeddings, its index, its records and its head's files; what was taught on it goes along.

    1. take the locks of all their indexes, so that nobody builds one: refused, nothing was deleted
    2. no longer the way back from here on: nobody can go back to a part of it
    3. embeddings in batches, so that nobody waits long, then the row, then its files

    Whoever is interrupted does the same again. The settings are left alone: `manage.py models build` registers an
    embedder that they name anew, without embeddings.

    Raises CannotRemove for a model that serves, for the base of one that does, while an index of it is being built, and
    without ``force`` where there are objections (Loss).
    """
    loss = loss_of(model)
    if loss.objections and not force:
        raise CannotRemove(" ".join([*loss.objections, ALL_THE_SAME]))
    rows, done = [*loss.heads, model], 0
    with _nobody_builds(rows):
        _give_up(rows)
        for row in rows:
            done = _delete_embeddings(row, done, loss.embeddings, told)
            _delete(row, user)
    logger.info("%s is dropped, with %d embeddings", model, done)
    return loss


def drop_on_request(model_id: str, user: int | None, *, force: bool) -> None:
    """As a worker does it for somebody who asked in the admin."""
    model = EmbeddingModel.objects.filter(pk=model_id).first()
    if model is None:
        return

    def tell(done: int, total: int) -> None:
        report(model.pipeline, Report(busy=f"dropping {model}, {done} of {total} embeddings"))

    try:
        drop(model, user, force=force, told=tell)
    except CannotRemove as error:
        report(model.pipeline, Report(said=str(error), went_wrong=True, model=str(model.pk)))
    except Exception:
        report(model.pipeline, Report(said=UNEXPECTED, went_wrong=True, model=str(model.pk)))
        raise
    else:
        report(model.pipeline, Report(said=f"{model} is dropped."))


def _check_nobody_serves(model: EmbeddingModel, derived: list[EmbeddingModel]) -> None:
    state = EmbeddingModel.objects.filter(pk=model.pk).values_list("state", flat=True).first()
    if state is None:
        raise CannotRemove(f"{model} is gone already.")
    if state == State.SERVING:
        raise CannotRemove(f"{model} serves {model.pipeline}. Let another model serve first.")
    serving = [row for row in derived if row.state == State.SERVING]
    if serving:
        raise CannotRemove(f"{serving[0]}, which serves {model.pipeline}, was taught on {model} and needs it.")


@contextmanager
def _nobody_builds(rows: Sequence[EmbeddingModel]) -> Iterator[None]:
    with ExitStack() as locks:
        for row in rows:
            try:
                locks.enter_context(builder_lock(row))
            except RebuildRunning as error:
                raise CannotRemove(
                    f"Nothing was deleted: somebody builds the index of {row} ({row.pipeline}), or drops it. "
                    f"Do the same again when that has ended."
                ) from error
        yield


@transaction.atomic
def _give_up(rows: Sequence[EmbeddingModel]) -> None:
    for row in rows:
        _lock_unless_serving(row)
        EmbeddingModel.objects.filter(pk=row.pk).update(state=State.RETIRED, retired_at=None, fill=Fill.NO)
        progress.forget(subject(row))


def _names(rows: list[EmbeddingModel]) -> str:
    return ", ".join(str(row) for row in rows)


def _delete_embeddings(row: EmbeddingModel, done: int, total: int, told: Progress | None) -> int:
    while count := _delete_batch(row):
        done += count
        if told:
            told(min(done, total), total)
    return done


@transaction.atomic
def _delete_batch(row: EmbeddingModel) -> int:
    """Under the lock of whoever stores or switches, so that it is known not to serve."""
    _lock_unless_serving(row)
    keys = list(Embedding.objects.filter(model=row).order_by("id").values_list("pk", flat=True)[:BATCH])
    Embedding.objects.filter(pk__in=keys).delete()
    return len(keys)


def _lock_unless_serving(row: EmbeddingModel) -> None:
    states = EmbeddingModel.objects.select_for_update().filter(pk=row.pk).values_list("state", flat=True)
    if list(states) == [State.SERVING]:
        raise CannotRemove(f"{row} serves {row.pipeline} since a moment ago; what it had is computed for it anew.")


def _delete(row: EmbeddingModel, user: int | None) -> None:
    """The row, what is left of its embeddings, and then its files: those of a row that is gone are used by nobody."""
    try:
        with transaction.atomic():
            _lock_unless_serving(row)
            Embedding.objects.filter(model=row).delete()
            log(user, row, "Dropped it.", Kind.DELETED)
            EmbeddingModel.objects.filter(pk=row.pk).delete()
    except ProtectedError as error:
        raise CannotRemove(f"A head was taught on {row} since a moment ago. Do the same again.") from error
    _delete_index(row)
    if row.derived_from_id is not None and not EmbeddingModel.objects.filter(embedder=row.embedder).exists():
        heads.remove(row.embedder, registry.models_dir())


def _delete_index(row: EmbeddingModel) -> None:
    """Readers that have it open go on with what they opened. Where the settings name no index, none is known."""
    with suppress(ImproperlyConfigured):
        engine, spec = index_for(row.pipeline, row.fingerprint, row.dimension)
        try:
            engine.remove(spec)
        except Exception:  # a disk, a server or a storage with errors of its own; the row is gone already
            logger.exception(
                "the index %s could not be removed whole: `manage.py doctor --fix` removes the rest", spec.root.name
            )
