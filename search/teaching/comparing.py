"""Before and after: which head is taken with which weight, how it compares with its base, and whether it may serve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from catalog.vision.heads import Taught
from search.engines.types import Metric
from search.engines.vectors import unit_rows
from search.evaluation.labelled import Labelled
from search.evaluation.metrics import Outcome, outcomes
from search.teaching.splitting import Rows, Split

WEIGHTS = (0.1, 0.2, 0.3, 0.5, 0.7)  # shares of what was taught in a cosine
CAUTION = 0.005  # the most P@10 that classes set aside may lose when the weight is chosen: half of what the gate allows
ALLOWED_LOSS = 0.01  # P@10 of classes that were never seen, at the gate

Vectors = NDArray[np.float32]
Move = Callable[[Vectors], Vectors]


@dataclass(frozen=True, slots=True)
class Precision:
    """Means over the queries of one side: the share of a query's nearest (1, 10) that are of its class."""

    p1: float
    p10: float


@dataclass(frozen=True, slots=True)
class Side:
    """``n`` queries of ``classes`` classes, with the base's vectors and with the taught model's.

    ``error``: standard error of the gain in P@10, from the gains of the single queries (each compared with itself).
    """

    n: int
    classes: int
    before: Precision
    after: Precision
    error: float = 0.0

    @property
    def gain(self) -> float:
        return round(self.after.p10 - self.before.p10, 6)


@dataclass(frozen=True, slots=True)
class Comparison:
    """``labels``: held-out examples of taught classes. ``unseen``: all examples of classes that were never taught."""

    labels: Side
    unseen: Side

    @property
    def passed(self) -> bool:
        """The gate: better on the one, by more than its standard error, and no worse on the other."""
        return self._is_better and self._keeps_the_rest

    @property
    def _is_better(self) -> bool:
        return self.labels.gain > self.labels.error

    @property
    def _keeps_the_rest(self) -> bool:
        return self.unseen.after.p10 >= self.unseen.before.p10 - ALLOWED_LOSS

    @property
    def decision(self) -> str:
        """In a sentence, with the figures that decided."""
        if self.passed:
            return f"It may serve: {self._on_labels}, and {self._on_unseen}."
        reasons = []
        if not self._is_better:
            what = "it is no better" if self.labels.gain <= 0 else "what it gains may be chance"
            reasons.append(f"{what} where it was taught ({self._on_labels})")
        if not self._keeps_the_rest:
            reasons.append(f"it loses more than {ALLOWED_LOSS} where it was not ({self._on_unseen})")
        return f"It may not serve: {' and '.join(reasons)}."

    @property
    def _on_labels(self) -> str:
        side = self.labels
        figures = f"from {side.before.p10:.3f} to {side.after.p10:.3f} on {side.n} held-out examples"
        return f"P@10 went {figures}, by {side.gain:+.3f} with a standard error of {side.error:.3f}"

    @property
    def _on_unseen(self) -> str:
        side = self.unseen
        figures = f"from {side.before.p10:.3f} to {side.after.p10:.3f}"
        return f"{figures} on {side.n} examples of {side.classes} classes that it never saw"

    def as_json(self) -> dict[str, object]:
        return {**asdict(self), "allowed_loss": ALLOWED_LOSS, "passed": self.passed, "decision": self.decision}


def moved(vectors: Vectors, taught: Taught, weight: float) -> Vectors:
    """What the head computes (catalog.vision.builders.head), in numpy: to try weights before one is written."""
    unit = unit_rows(vectors)
    learned = (unit - taught.mean) @ taught.projection
    learned /= np.maximum(np.linalg.norm(learned, axis=1, keepdims=True), 1e-12)
    return np.concatenate([np.sqrt(1 - weight) * unit, np.sqrt(weight) * learned], axis=1).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Chosen:
    """``stage``: the number of the head among those of a lesson. ``weight``: the share that it gets."""

    stage: int
    weight: float


def choose(labelled: Labelled, split: Split, stages: Sequence[Taught], metric: Metric) -> Chosen:
    """The stage and weight that help most without hurting classes that the training of ``stages`` did not see.

    That was on the training part without the classes set aside, which stand for those that nobody taught. Of what costs
    them at most CAUTION, the best P@10 of the choosing part's other classes; where everything costs more, the smallest
    weight of the first stage. The judging part and the unseen classes have no say.
    """
    is_aside = np.array([label in split.set_aside for label in labelled.labels])
    training, choosing = (part[~is_aside[part]] for part in (split.training, split.choosing))
    seen = np.sort(np.concatenate([split.training, split.choosing]))
    rows = {"stored": training, "queries": choosing, "alone": seen[is_aside[seen]]}
    before = compare_rows(labelled, metric, None, **rows)
    best, most = Chosen(0, WEIGHTS[0]), -1.0
    for number, taught in enumerate(stages):
        for weight in WEIGHTS:
            of_queries, of_aside = compare_rows(labelled, metric, _mover(taught, weight), **rows)
            gain = of_queries.p10 - before[0].p10
            if of_aside.p10 >= before[1].p10 - CAUTION and gain > most:
                best, most = Chosen(number, weight), gain
    return best


def _mover(taught: Taught, weight: float) -> Move:
    return lambda vectors: moved(vectors, taught, weight)


def compare(labelled: Labelled, split: Split, move: Move, metric: Metric) -> Comparison:
    """With ``move`` against without, on what the training of this head never saw: judging part and unseen classes.

    Both search among all that taught and chose, and among the unseen classes, as a query of the site would.
    """
    stored = np.concatenate([split.training, split.choosing])
    rows = {"stored": stored, "queries": split.judging, "alone": split.unseen}
    before = _outcomes(labelled, metric, None, **rows)
    after = _outcomes(labelled, metric, move, **rows)
    return Comparison(*(_side(*pair) for pair in zip(before, after, strict=True)))


def _side(before: Sequence[Outcome], after: Sequence[Outcome]) -> Side:
    """Of the same queries; of which something could be found depends on labels alone, so these are the same, too."""
    gains = [new.precision_at[10] - old.precision_at[10] for old, new in zip(before, after, strict=True)]
    error = float(np.std(gains, ddof=1) / np.sqrt(len(gains))) if len(gains) > 1 else 0.0
    classes = len({each.label for each in before})
    return Side(len(before), classes, _precision(before), _precision(after), round(error, 6))


def compare_rows(
    labelled: Labelled, metric: Metric, move: Move | None, *, stored: Rows, queries: Rows, alone: Rows
) -> tuple[Precision, Precision]:
    """Of ``queries`` among ``stored`` and ``alone``; and of each of ``alone`` among ``stored`` and the others of it."""
    of_queries, of_alone = _outcomes(labelled, metric, move, stored=stored, queries=queries, alone=alone)
    return _precision(of_queries), _precision(of_alone)


def _outcomes(
    labelled: Labelled, metric: Metric, move: Move | None, *, stored: Rows, queries: Rows, alone: Rows
) -> tuple[list[Outcome], list[Outcome]]:
    every = labelled.vectors if move is None else move(labelled.vectors)
    names = labelled.labels
    all_stored = np.concatenate([alone, stored])
    among = (every[all_stored], _of(names, all_stored), metric)
    of_queries = outcomes(every[queries], _of(names, queries), *among)
    return of_queries, outcomes(every[alone], _of(names, alone), *among, leave_out=range(len(all_stored)))


def _of(names: Sequence[str], rows: Rows) -> list[str]:
    return [names[row] for row in rows]


def _precision(some: Sequence[Outcome]) -> Precision:
    p1, p10 = (float(np.mean([each.precision_at[k] for each in some])) for k in (1, 10))
    return Precision(round(p1, 6), round(p10, 6))
