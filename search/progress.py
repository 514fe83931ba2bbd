"""How far a build or an evaluation is, for whoever watches: in the cache, beside the record that decides."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from django.core.cache import cache

from catalog.models import EmbeddingModel
from catalog.repeating import repeating
from search.pace import pace_of

KEPT_SECONDS = 3600  # a build that says nothing for so long is none
REQUEST_SECONDS = 900  # how long a request is shown that no worker takes up
STEP_SECONDS = 0.5  # between two writes
TOUCH_SECONDS = REQUEST_SECONDS / 3

REQUESTED = "waiting for a worker"


Subject = EmbeddingModel | str  # the build of a model's index, or whatever this names


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """``done`` of ``total`` rows of this step; ``left``: how long it still takes, in words, where that can be said."""

    step: str
    done: int = 0
    total: int = 0
    left: str = ""


def reported(about: Subject) -> BuildProgress | None:
    """None where nothing is asked for or built, or the cache is away."""
    found = cache.get(_key(about))
    return BuildProgress(**found) if found else None


def as_json(said: BuildProgress | None) -> dict[str, Any] | None:
    """For the scripts that follow it."""
    return asdict(said) if said else None


def report(about: Subject, progress: BuildProgress, seconds: int = KEPT_SECONDS) -> None:
    cache.set(_key(about), asdict(progress), seconds)


def claim(about: Subject, progress: BuildProgress, seconds: int = REQUEST_SECONDS) -> bool:
    """Report it unless something is reported already; whether it may go on. A cache that is away holds nobody up."""
    return bool(cache.add(_key(about), asdict(progress), seconds)) or reported(about) is None


@contextmanager
def kept_alive(about: Subject) -> Iterator[None]:
    """What is reported stays so while this lasts, also where a step takes longer than REQUEST_SECONDS."""
    with repeating(lambda: cache.touch(_key(about), REQUEST_SECONDS), TOUCH_SECONDS, "evaluation-progress"):
        yield


def forget(about: Subject) -> None:
    cache.delete(_key(about))


class Reporter:
    """The Progress of a build that tells everybody, a few times a second at most."""

    def __init__(self, model: EmbeddingModel) -> None:
        self._model = model
        self._pace = pace_of(model)
        self._step = ""
        self._last = 0.0

    def __call__(self, step: str, done: int, total: int) -> None:
        self._pace(step, done, total)
        now = time.monotonic()
        if step != self._step or now - self._last >= STEP_SECONDS or done == total:
            report(self._model, BuildProgress(step, done, total, self._pace.left()))
            self._step, self._last = step, now


def _key(about: Subject) -> str:
    return about if isinstance(about, str) else f"build-{about.pk}"
