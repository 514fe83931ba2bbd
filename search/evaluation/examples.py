"""Single queries to look at: what the nearest hundred are, and which were answered wrongly."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from search.engines.scan import exact_search
from search.engines.types import Metric
from search.evaluation.labelled import Item, Labelled
from search.evaluation.metrics import Outcome

NEAREST = 100  # the article's figure
MOST_LABELS = 4  # typical queries, one of a label each
MOST_WRONG = 2  # wrongly answered ones beside them
MOST_MISTAKES = 200


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A stored item and its true distance to the query."""

    item: Item
    distance: float


@dataclass(frozen=True, slots=True)
class Example:
    """A query and its nearest, nearest first; ``kind`` is "typical" or "wrong"."""

    kind: str
    query: Item
    nearest: tuple[Neighbour, ...]


@dataclass(frozen=True, slots=True)
class Mistake:
    """A query whose nearest carries another label."""

    query: Item
    nearest: Neighbour


def examples(
    outcomes: Sequence[Outcome], queries: Labelled, stored: Labelled, metric: Metric, *, leave_out: Sequence[str] | None
) -> tuple[Example, ...]:
    """The middling query of each of the first labels, and the worst of those answered wrongly.

    ``leave_out`` as in metrics.outcomes.
    """
    chosen = [("typical", outcome) for outcome in _typical(outcomes)]
    taken = {outcome.row for _, outcome in chosen}
    wrong = [outcome for outcome in _wrong(outcomes) if outcome.row not in taken]
    chosen += [("wrong", outcome) for outcome in wrong[:MOST_WRONG]]
    return tuple(
        Example(
            kind,
            queries.items[outcome.row],
            _nearest(outcome.row, queries, stored, metric, NEAREST, leave_out=leave_out),
        )
        for kind, outcome in chosen
    )


def mistakes(
    outcomes: Sequence[Outcome], queries: Labelled, stored: Labelled, metric: Metric, *, leave_out: Sequence[str] | None
) -> tuple[Mistake, ...]:
    """The worst first, MOST_MISTAKES at most."""
    found = []
    for outcome in _wrong(outcomes)[:MOST_MISTAKES]:
        row = outcome.row
        nearest = _nearest(row, queries, stored, metric, 2, leave_out=leave_out)
        others = [each for each in nearest if each.item.label != outcome.label]  # first beside an equally near one
        found.append(Mistake(queries.items[row], (others or list(nearest))[0]))
    return tuple(found)


def _typical(outcomes: Sequence[Outcome]) -> Iterable[Outcome]:
    by_label: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_label.setdefault(outcome.label, []).append(outcome)
    for label in sorted(by_label)[:MOST_LABELS]:
        some = sorted(by_label[label], key=lambda outcome: (outcome.average_precision, outcome.row))
        yield some[len(some) // 2]


def _wrong(outcomes: Sequence[Outcome]) -> list[Outcome]:
    wrong = [outcome for outcome in outcomes if outcome.precision_at[1] < 1]
    return sorted(wrong, key=lambda outcome: (outcome.average_precision, outcome.row))


def _nearest(
    row: int, queries: Labelled, stored: Labelled, metric: Metric, k: int, *, leave_out: Sequence[str] | None
) -> tuple[Neighbour, ...]:
    rows = np.arange(len(stored), dtype=np.int64)
    others = None
    if leave_out is not None:
        others = np.array([other for other, whole in enumerate(leave_out) if whole != leave_out[row]], dtype=np.int64)
    hits = exact_search(rows, stored.vectors, queries.vectors[row], k, metric, others)
    return tuple(
        Neighbour(stored.items[hit], distance)
        for hit, distance in zip(hits.ids.tolist(), hits.distances.tolist(), strict=True)
    )
