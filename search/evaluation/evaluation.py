"""The whole evaluation of one model on labelled vectors: retrieval, verification, thresholds, what to look at."""

from __future__ import annotations

from dataclasses import dataclass

from search.engines.types import Metric
from search.evaluation import metrics
from search.evaluation.examples import Example, Mistake, examples, mistakes
from search.evaluation.labelled import (
    MOST_STORED,
    Labelled,
    LabelsAre,
    Reading,
    check_apart,
    check_measurable,
    check_not_empty,
)
from search.evaluation.metrics import Outcome, Retrieval
from search.evaluation.thresholds import Choice, choose, halves, sampled
from search.evaluation.verification import Verification, verify

MOST_QUERIES = 5_000


@dataclass(frozen=True, slots=True)
class Evaluation:
    """``queries`` is None where every stored vector was a query among the others (leave one out).

    ``right_of_all``: the share of all queries that were found *and* whose nearest carries their label, so that an image
    in which nothing was found counts as wrong; None where such images have no label of their own (people's faces).
    """

    metric: Metric
    catalogue: Reading
    queries: Reading | None
    retrieval: Retrieval
    right_of_all: float | None
    choice: Choice
    verification: Verification
    mistakes: tuple[Mistake, ...]
    mistakes_count: int  # also of those beyond the worst, which ``mistakes`` has
    examples: tuple[Example, ...]
    outcomes: tuple[Outcome, ...]  # of each query that something could be found for, which ``retrieval`` sums up


def evaluate(catalogue: Reading, queries: Reading | None, metric: Metric) -> Evaluation:
    """Held-out ``queries`` among the catalogue, or each of the catalogue among the others.

    Thresholds are chosen on the catalogue's pairs and reported on pairs with a query; without queries the one half of
    its images chooses and the other half asks. Raises NotMeasurable where there is too little to measure,
    QueriesInCatalogue where a query's file is in the catalogue. The same vectors give the same figures.
    """
    check_measurable(catalogue)
    if queries is not None:
        check_apart(queries.labelled, catalogue.labelled)
        check_not_empty(queries)
    stored = sampled(catalogue.labelled, MOST_STORED)
    asking = queries.labelled if queries else stored
    return _evaluate(catalogue, queries, stored, asking, metric)


def _evaluate(
    catalogue: Reading, queries: Reading | None, stored: Labelled, asking: Labelled, metric: Metric
) -> Evaluation:
    alone = queries is None
    if len(asking) > MOST_QUERIES:
        asking = sampled(asking, MOST_QUERIES)
        stored = _in_front(asking, stored) if alone else stored
    own = [item.sha256 for item in stored.items] if alone else None
    outcomes = metrics.outcomes(asking.vectors, asking.labels, stored.vectors, stored.labels, metric, leave_out=own)
    retrieval = metrics.summary(outcomes, len(asking), stored.labels)
    choosing, reporting = halves(stored) if alone else (stored, asking)
    choice = choose(choosing, metric)
    return Evaluation(
        metric=metric,
        catalogue=catalogue,
        queries=queries,
        retrieval=retrieval,
        right_of_all=_right_of_all(retrieval, queries or catalogue),
        choice=choice,
        verification=verify(choice, reporting, choosing, metric, among=stored),
        mistakes=mistakes(outcomes, asking, stored, metric, leave_out=own),
        mistakes_count=sum(each.precision_at[1] < 1 for each in outcomes),
        examples=examples(outcomes, asking, stored, metric, leave_out=own),
        outcomes=tuple(outcomes),
    )


def _in_front(first: Labelled, all_of_them: Labelled) -> Labelled:
    """The same vectors with these first: a query left out of the stored ones is in its own row."""
    keys = {item.key for item in first.items}
    place = {item.key: row for row, item in enumerate(all_of_them.items)}
    rest = [row for row, item in enumerate(all_of_them.items) if item.key not in keys]
    return all_of_them.take([*(place[item.key] for item in first.items), *rest])


def _right_of_all(retrieval: Retrieval, asked: Reading) -> float | None:
    if asked.labels_are is LabelsAre.PEOPLE:
        return None
    answered = asked.found * retrieval.n / (retrieval.n + retrieval.left_out)  # all of them, if some were drawn
    return retrieval.precision_at[1] * answered / (answered + len(asked.missed))
