"""Filling models beside the one that serves, by a worker and after uploads; how far that is.

Beat asks every minute, and whoever asks for a model asks at once. One worker process at a time fills a model, so that
the others are there for uploads; it ends after a batch of few embeddings where images wait, and in any case before
long, so that whatever else is queued has its turn. Killed at any moment it loses that batch: the next one goes on.
What it cannot go on with it tries again at the next beat, and says so.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from enum import Enum, auto

from django.core.exceptions import ImproperlyConfigured
from django.db.models import Q

from catalog import keeping
from catalog.exceptions import CannotServe, ModelUnavailable, StorageUnavailable
from catalog.keeping import Standing
from catalog.models import EmbeddingModel, Image
from search import progress
from search.indexing import failed_lately
from search.locks import held
from search.models import IndexGeneration
from search.progress import REQUESTED, BuildProgress
from search.teaching.requests import UNEXPECTED

logger = logging.getLogger(__name__)

SLICE_SECONDS = 20.0  # of one task, then other work of the queue has its turn
BATCH = 16  # embeddings from images between two looks at whether images wait
COMPUTING = "computing embeddings"
YIELDING = "waiting until the images that were put in are processed"
QUEUED_KEY, QUEUED_SECONDS = "fill-queued", 60  # of a task that goes on after a slice


class End(Enum):
    """Why a slice ended."""

    DONE = auto()  # nothing is left to compute
    TIME_OVER = auto()
    YIELDED = auto()  # images wait
    STOPPED = auto()  # somebody paused, or asked anew, or another model serves
    BUSY = auto()  # another process fills this model
    CANNOT = auto()


@dataclass(frozen=True, slots=True)
class Slice:
    """``more``: there is work that nobody else is at. ``to_index``: filled to the end, without an index, and nobody was
    asked to build one (now this is reported)."""

    more: bool
    to_index: list[EmbeddingModel]


def subject(model: EmbeddingModel) -> str:
    """What progress is reported of."""
    return f"fill-{model.pk}"


def stopped_by(model: EmbeddingModel) -> str:
    """Why a worker could not go on with it, the last time that one tried; empty where one could, or none tried."""
    said = progress.reported(_trouble(model))
    return said.step if said else ""


def _trouble(model: EmbeddingModel) -> str:
    return f"{subject(model)}-stopped"


def _say_what_stopped(model: EmbeddingModel, why: str) -> None:
    if why:
        progress.report(_trouble(model), BuildProgress(why), progress.REQUEST_SECONDS)
    else:
        progress.forget(_trouble(model))


def ask(model: EmbeddingModel) -> Standing:
    """Let workers fill it; how far it is. Whoever asks sends search.tasks.fill. Raises CannotServe."""
    keeping.ask(model)
    _say_what_stopped(model, "")
    model.refresh_from_db()
    now = keeping.standing(model)
    if now.lacking:
        progress.report(subject(model), BuildProgress(REQUESTED, now.have, now.total), progress.REQUEST_SECONDS)
    return now


def pause(model: EmbeddingModel) -> bool:
    """Whether it was being filled."""
    progress.forget(subject(model))
    return keeping.pause(model)


def fill_a_while(seconds: float = SLICE_SECONDS) -> Slice:
    """Fill the models that are kept, one after the other, until all are, images wait, or ``seconds`` are over."""
    until = time.monotonic() + seconds
    ends = {model: _fill_alone(model, until) for model in keeping.kept_models()}
    done = [model for model, end in ends.items() if end is End.DONE]
    return Slice(
        more=any(end in (End.TIME_OVER, End.STOPPED) for end in ends.values()),
        to_index=[model for model in done if not _has_index(model) and _may_build(model)],
    )


def _fill_alone(model: EmbeddingModel, until: float) -> End:
    with held(f"visearch fill {model.pk}") as is_ours:
        if not is_ours:
            return End.BUSY
        try:
            end, why = _fill(model, until), ""
        except (CannotServe, ModelUnavailable, StorageUnavailable, ImproperlyConfigured) as error:
            logger.warning("%s is not filled: %s", model, error)
            end, why = End.CANNOT, str(error)
        except Exception:
            logger.exception("%s could not be filled", model)
            end, why = End.CANNOT, UNEXPECTED
    if end is not End.YIELDED:  # then nothing was tried
        _say_what_stopped(model, why)
    if end in (End.DONE, End.CANNOT):
        progress.forget(subject(model))
    return end


def _fill(model: EmbeddingModel, until: float) -> End:
    """Reports how far it is only where something is lacking: beat asks every minute."""
    if keeping.is_filled(model):
        return _finish(model)
    if _images_wait():
        _tell_that_it_waits(model)
        return End.YIELDED
    begun = keeping.standing(model)
    done, last = begun.have, begun.left + begun.have
    _tell(model, COMPUTING, done, last)
    for count in keeping.batches(model, BATCH):
        done += count
        end = _end_now(model, until)
        _tell(model, YIELDING if end is End.YIELDED else COMPUTING, done, last)
        if end is not None:
            return end
    model.refresh_from_db(fields=["filled_to"])  # somebody may have set it back
    return _finish(model) if keeping.is_filled(model) else End.STOPPED


def _end_now(model: EmbeddingModel, until: float) -> End | None:
    if not EmbeddingModel.objects.filter(pk=model.pk, fill=EmbeddingModel.Fill.ASKED).exists():
        progress.forget(subject(model))
        return End.STOPPED
    if _images_wait():
        return End.YIELDED
    return End.TIME_OVER if time.monotonic() > until else None


def _finish(model: EmbeddingModel) -> End:
    """One that went back at once, and has all it lacked by now, is filled by uploads alone."""
    serving = EmbeddingModel.objects.filter(pk=model.pk, state=EmbeddingModel.State.SERVING)
    serving.update(fill=EmbeddingModel.Fill.NO)
    return End.DONE


def _images_wait() -> bool:
    """Whether workers could take any. Those that were given back untried wait for what a person has to mend, which may
    be that this model serves; after that they share the workers' time with it."""
    return Image.objects.pending().filter(Q(reason="") | Q(attempts__gt=0)).exists()


def _tell_that_it_waits(model: EmbeddingModel) -> None:
    """What was counted before is good enough: beat comes every minute."""
    said = progress.reported(subject(model))
    if said is None:
        now = keeping.standing(model)
        said = BuildProgress(YIELDING, now.have, now.have + now.left)
    progress.report(subject(model), replace(said, step=YIELDING), progress.REQUEST_SECONDS)


def _may_build(model: EmbeddingModel) -> bool:
    return model.embeddings.exists() and not failed_lately(model) and progress.claim(model, BuildProgress(REQUESTED))


def _has_index(model: EmbeddingModel) -> bool:
    return model.generations.filter(status=IndexGeneration.Status.PUBLISHED).exists()


def _tell(model: EmbeddingModel, step: str, done: int, total: int) -> None:
    progress.report(subject(model), BuildProgress(step, done, max(done, total)), progress.REQUEST_SECONDS)
