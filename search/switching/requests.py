"""Switching as commands, the admin and workers do it, written into the log."""

from __future__ import annotations

from time import sleep
from uuid import UUID

from catalog.embedding_models import (
    check_as_seen,
    check_may_serve,
    fill_beside,
    lacking_from_images,
    make_serving,
    previous_model,
)
from catalog.exceptions import CannotServe, ModelUnavailable
from catalog.filling import Progress
from catalog.keeping import is_filled
from catalog.models import EmbeddingModel
from search import ahead
from search.engines.errors import EngineError
from search.engines.types import Progress as BuildProgress
from search.indexing import rebuild_index
from search.locks import RebuildRunning
from search.switching import background
from search.switching.ready import has_index, lacks_index
from search.teaching.requests import UNEXPECTED, Report, log, report

State = EmbeddingModel.State
BUILDING = "building the index of {row}"
IN_ONE_GO = 1_000  # images that a worker opens for a switch, about a minute, in which it takes no uploads


def serve_on_request(model: UUID, user: int | None, as_seen: str = "") -> EmbeddingModel | None:
    """Switch, in a worker where much has to be computed first; the row where it serves now.

    ``as_seen``: what catalog.embedding_models.what_is_seen said when it was asked for; later it is refused.
    """
    row = EmbeddingModel.objects.filter(pk=model).first()
    if row is None:
        return None
    try:
        if row.state != State.SERVING:
            check_as_seen(row, as_seen)
            _check_little_is_lacking(row)
        _tell(row, f"computing embeddings of {row}")
        prepare(
            row,
            lambda done, total: _tell(row, f"computing embeddings of {row}, {done} of {total}"),
            lambda step, done, total: _tell(row, f"{BUILDING.format(row=row)}, {step}"),
        )
        switch(row, user, as_seen=as_seen)
    except (CannotServe, ModelUnavailable, EngineError, RebuildRunning) as error:
        report(row.pipeline, Report(said=str(error), went_wrong=True, model=str(row.pk)))
        return None
    except Exception:
        report(row.pipeline, Report(said=UNEXPECTED, went_wrong=True, model=str(row.pk)))
        raise
    report(row.pipeline, Report(said=f"{row} serves now.", model=str(row.pk)))
    return row


def _tell(row: EmbeddingModel, what: str) -> None:
    report(row.pipeline, Report(busy=what, model=str(row.pk)))


def has_to_be_filled_first(row: EmbeddingModel, lacking: int) -> bool:
    """Whether what it lacks from images is too much for one go. What could not be computed is tried once more."""
    return lacking > IN_ONE_GO and not is_filled(row)


def fill_first(row: EmbeddingModel) -> str:
    """Let workers compute what it lacks, after uploads, where that is too much to do in one go for a switch; what to
    say then, empty where it is little. Whoever asks sends search.tasks.fill. Raises CannotServe."""
    lacking = lacking_from_images(row)
    if not has_to_be_filled_first(row, lacking):
        return ""
    background.ask(row)
    return (
        f"{row} cannot serve yet: {lacking} embeddings have to be computed from images. Workers do that now, after the "
        f"images that are put in. Let it serve when they are done."
    )


def _check_little_is_lacking(row: EmbeddingModel) -> None:
    why = fill_first(row)
    if why:
        raise CannotServe(why)


def prepare(row: EmbeddingModel, filled: Progress | None = None, built: BuildProgress | None = None) -> None:
    """Everything that may take long, while the other one serves: the embeddings that it lacks, then its index.

    No index where exact search is as quick. Raises CannotServe, ModelUnavailable, EngineError, RebuildRunning.
    """
    check_may_serve(row)
    fill_beside(row, filled)
    if lacks_index(row):
        rebuild_index(row, built)


def switch(
    row: EmbeddingModel,
    user: int | None,
    progress: Progress | None = None,
    *,
    at_once: bool = False,
    as_seen: str = "",
) -> EmbeddingModel | None:
    """catalog.embedding_models.make_serving, written into the log; which one served before, as there.

    Running processes get some seconds to open a large index first, unless the model before is gone back to: that one is
    open still, or there is no time.
    """
    if not at_once and row != previous_model(row.pipeline) and has_index(row):
        sleep(ahead.announce(row))
    before = make_serving(row, progress, at_once=at_once, as_seen=as_seen)
    if before is not None:
        log(user, row, f"Made it serve {row.pipeline}, instead of {before}.")
        log(user, before, f"No longer serves {row.pipeline}: {row} does.")
    return before
