"""How far a build is, for whoever watches: kept in the cache, beside the record in the database that decides."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

from django.core.cache import cache

from catalog.models import EmbeddingModel

KEPT_SECONDS = 3600  # a build that says nothing for so long is none
REQUEST_SECONDS = 900  # how long a request is shown that no worker takes up
STEP_SECONDS = 0.5  # between two writes

REQUESTED = "waiting for a worker"


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """``done`` of ``total`` rows of this step."""

    step: str
    done: int = 0
    total: int = 0


def reported(model: EmbeddingModel) -> BuildProgress | None:
    """None where nothing is asked for or built, or the cache is away."""
    found = cache.get(_key(model))
    return BuildProgress(**found) if found else None


def report(model: EmbeddingModel, progress: BuildProgress, seconds: int = KEPT_SECONDS) -> None:
    cache.set(_key(model), asdict(progress), seconds)


def forget(model: EmbeddingModel) -> None:
    cache.delete(_key(model))


class Reporter:
    """A search.indexing.Progress that tells everybody, a few times a second at most."""

    def __init__(self, model: EmbeddingModel) -> None:
        self._model = model
        self._step = ""
        self._last = 0.0

    def __call__(self, step: str, done: int, total: int) -> None:
        now = time.monotonic()
        if step != self._step or now - self._last >= STEP_SECONDS or done == total:
            report(self._model, BuildProgress(step, done, total))
            self._step, self._last = step, now


def _key(model: EmbeddingModel) -> str:
    return f"build-{model.pk}"
