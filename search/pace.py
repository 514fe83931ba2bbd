"""How long a build still takes: from how fast its present step is, and from how long the other steps took last time."""

from __future__ import annotations

import time
from collections.abc import Mapping

from catalog.models import EmbeddingModel
from catalog.selectors import vector_state
from search.models import IndexGeneration

LEAST_SECONDS = 2.0  # of a step, before its speed says anything
STEP_SECONDS = "step_seconds"  # in IndexGeneration.parameters


class Pace:
    """A search.engines.types.Progress. ``before``: seconds that the steps of the last build would take at this size."""

    def __init__(self, before: Mapping[str, float] | None = None) -> None:
        self._before = dict(before or {})
        self._step, self._done, self._total = "", 0, 0
        self._began = time.monotonic()
        self._seconds: dict[str, float] = {}

    def __call__(self, step: str, done: int, total: int) -> None:
        if step != self._step:
            self._close_step()
        self._step, self._done, self._total = step, done, total

    def seconds(self) -> dict[str, float]:
        """Of every step so far."""
        self._close_step()
        return {step: round(seconds, 3) for step, seconds in self._seconds.items()}

    def left(self) -> str:
        """In words, empty where nobody can know: of the whole build, or without an earlier one of this step."""
        here = self._left_of_step()
        if here is None:
            return ""
        later = [seconds for step, seconds in self._before.items() if step not in (self._step, *self._seconds)]
        return f"about {_words(here + sum(later))} left{'' if self._before else ' of this step'}"

    def _left_of_step(self) -> float | None:
        elapsed = time.monotonic() - self._began
        if self._done > 0 and elapsed >= LEAST_SECONDS:
            return elapsed * (self._total - self._done) / self._done
        expected = self._before.get(self._step)
        return None if expected is None else max(0.0, expected - elapsed)

    def _close_step(self) -> None:
        now = time.monotonic()
        if self._step:
            self._seconds[self._step] = self._seconds.get(self._step, 0.0) + now - self._began
        self._step, self._began = "", now


def pace_of(model: EmbeddingModel) -> Pace:
    """Of a build of this model's index that begins now."""
    last = (
        model.generations.filter(count__gt=0, **{f"parameters__{STEP_SECONDS}__isnull": False})
        .exclude(status=IndexGeneration.Status.FAILED)
        .order_by("-sequence")
        .first()
    )
    if last is None:
        return Pace()
    growth = vector_state(model).count / last.count
    return Pace({step: seconds * growth for step, seconds in last.parameters[STEP_SECONDS].items()})


def _words(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"
