"""Two models on the same labelled images, side by side: each is an evaluation that is kept, and both name the pair."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from uuid_utils.compat import uuid7

from catalog.embedding_models import serving_model
from catalog.exceptions import CatalogError, NoServingModel
from catalog.models import Collection, EmbeddingModel
from search.evaluation.collections import read_collection
from search.evaluation.evaluation import Evaluation, evaluate
from search.evaluation.labelled import LeftOut, QueriesInCatalogue, Reading, rank_of
from search.evaluation.metrics import NotMeasurable, Outcome
from search.evaluation.records import keep, metric_of
from search.models import EvaluationRun
from search.teaching.requests import UNEXPECTED, Report, report

logger = logging.getLogger(__name__)

Read = Callable[[EmbeddingModel], tuple[Reading, Reading | None]]  # a model's catalogue, and held-out queries or None

ONE_SIDED = "only one of the two models has a vector of it"
OF_A_QUERY: Mapping[str, Callable[[Outcome], float]] = {
    "P@1": lambda each: each.precision_at[1],
    "P@10": lambda each: each.precision_at[10],
    "mAP": lambda each: each.average_precision,
}


class CannotCompare(CatalogError):
    """These two are not comparable; the words say why."""

    code = "cannot-compare"


@dataclass(frozen=True, slots=True)
class Pair:
    """``present``: the run of the model that serves, or that the other is measured against; ``other``: the other's."""

    present: EvaluationRun
    other: EvaluationRun


@dataclass(frozen=True, slots=True)
class Line:
    """A figure of both, as shown. ``gain`` is empty where only one number stands for all queries."""

    name: str
    present: str
    other: str
    gain: str = ""


def compare(
    present: EmbeddingModel,
    other: EmbeddingModel,
    read: Read,
    *,
    collection: Collection | None = None,
    user: User | None = None,
) -> Pair:
    """Evaluate both on what both have vectors of, and keep both runs.

    What one of them has no vector of is left out of both and counted, so that the figures are of the same images.
    Raises CannotCompare, and what `read` and search.evaluation.evaluation.evaluate raise.
    """
    if present == other:
        raise CannotCompare(f"{other} would be compared with itself. Name another model.")
    if present.pipeline != other.pipeline:
        raise CannotCompare(f"{present} is of {present.pipeline} and {other} of {other.pipeline}.")
    metric = metric_of(present)
    (ours, asked), (theirs, asked_of_theirs) = read(present), read(other)
    ours, theirs = _of_both(ours, theirs)
    if asked is not None and asked_of_theirs is not None:
        asked, asked_of_theirs = _of_both(asked, asked_of_theirs)
    before, after = evaluate(ours, asked, metric), evaluate(theirs, asked_of_theirs, metric)
    pair, gains = str(uuid7()), _gains(before, after)
    beside_ours: dict[str, Any] = {"pair": pair, "with": str(other)}
    beside_theirs: dict[str, Any] = {"pair": pair, "with": str(present), "gains": gains}
    return Pair(
        present=keep(before, present, collection=collection, user=user, compared=beside_ours),
        other=keep(after, other, collection=collection, user=user, compared=beside_theirs),
    )


def _of_both(one: Reading, two: Reading) -> tuple[Reading, Reading]:
    """What both have, in the same order, so that draws and halves are the same, too."""
    places = {item.key: row for row, item in enumerate(two.labelled.items)}
    rows = [row for row, item in enumerate(one.labelled.items) if item.key in places]
    shared = {one.labelled.items[row].key for row in rows}
    return (
        _only(one, rows, shared, _drawn_up_to(two)),
        _only(two, [places[one.labelled.items[row].key] for row in rows], shared, _drawn_up_to(one)),
    )


def _drawn_up_to(reading: Reading) -> float:
    """The rank beyond which nothing was drawn: of what lies there it is not known whether the model has a vector."""
    if not reading.drawn_from:
        return np.inf
    return max((rank_of(item.key) for item in reading.labelled.items), default=-1)


def _only(reading: Reading, rows: Sequence[int], shared: set[str], other_up_to: float) -> Reading:
    """What is gone because the other's draw ended before it was not drawn here either, and no model lacks it."""
    alone = [item for item in reading.labelled.items if item.key not in shared]
    gone = [LeftOut(item.name, ONE_SIDED) for item in alone if rank_of(item.key) <= other_up_to]
    undrawn = len(alone) - len(gone)
    return replace(
        reading,
        labelled=reading.labelled.take(list(rows)),
        left_out=(*reading.left_out, *gone),
        drawn_from=reading.drawn_from or (len(rows) + undrawn if undrawn else 0),
    )


def _gains(before: Evaluation, after: Evaluation) -> dict[str, dict[str, float]]:
    """Means over the queries of what each gained, with their standard errors: each query is compared with itself."""
    found: dict[str, dict[str, float]] = {}
    for name, figure in OF_A_QUERY.items():
        gains = [figure(new) - figure(old) for old, new in zip(before.outcomes, after.outcomes, strict=True)]
        error = float(np.std(gains, ddof=1) / np.sqrt(len(gains))) if len(gains) > 1 else 0.0
        found[name] = {"gain": round(float(np.mean(gains)), 6), "error": round(error, 6)}
    return found


def compare_on_request(model_id: str, collection_id: str, user_id: int | None) -> Pair | None:
    """The model that serves and this one, as a worker does it for somebody who asked in the admin."""
    model = EmbeddingModel.objects.filter(pk=model_id).first()
    collection = Collection.objects.filter(pk=collection_id).first()
    if model is None or collection is None:
        return None
    user = User.objects.filter(pk=user_id).first() if user_id is not None else None
    try:
        present = serving_model(model.pipeline)
        pair = compare(present, model, _reading_of(collection), collection=collection, user=user)
    except (CannotCompare, NotMeasurable, QueriesInCatalogue, NoServingModel, ImproperlyConfigured) as error:
        report(model.pipeline, Report(said=str(error), went_wrong=True, model=str(model.pk)))
        return None
    except Exception:
        report(model.pipeline, Report(said=UNEXPECTED, went_wrong=True, model=str(model.pk)))
        raise
    report(model.pipeline, Report(said=f"Compared {model} with {present} on {collection}.", model=str(model.pk)))
    return pair


def _reading_of(collection: Collection) -> Read:
    return lambda model: (read_collection(collection, model), None)


def compare_on_collection(
    present: EmbeddingModel, other: EmbeddingModel, collection: Collection, user: User | None = None
) -> Pair:
    """Each image of a collection among its others, by their stored embeddings. Raises as `compare`."""
    return compare(present, other, _reading_of(collection), collection=collection, user=user)


def latest_pair(model: EmbeddingModel) -> Pair | None:
    """The last comparison of this model with one that served then, as long as both runs are kept."""
    runs = EvaluationRun.objects.filter(figures__compared__has_key="pair").select_related("embedding_model")
    for other in runs.filter(embedding_model=model, figures__compared__has_key="gains").order_by("-id")[:1]:
        same = runs.filter(figures__compared__pair=other.figures["compared"]["pair"]).exclude(pk=other.pk)
        present = same.first()
        return Pair(present, other) if present is not None else None
    return None


def _at(k: int) -> Callable[[Mapping[str, Any]], float]:
    return lambda figures: float(figures["retrieval"]["precision_at"][str(k)])


def _mean_ap(figures: Mapping[str, Any]) -> float:
    return float(figures["retrieval"]["mean_average_precision"])


SHOWN = {"P@1": _at(1), "P@10": _at(10), "P@100": _at(100), "mAP": _mean_ap}


def lines(pair: Pair) -> list[Line]:
    """Both side by side, as words for a terminal or a page."""
    before, after = pair.present.figures, pair.other.figures
    gains = after["compared"]["gains"]
    found = [
        Line(name, f"{value(before):.4f}", f"{value(after):.4f}", _gain(gains.get(name)))
        for name, value in SHOWN.items()
    ]
    auc = [f"{figures['verification']['auc']:.4f}" for figures in (before, after)]
    queries = [f"{figures['retrieval']['n']:,}" for figures in (before, after)]
    pairs = [
        f"{figures['verification']['same_pairs']:,} and {figures['verification']['different_pairs']:,}"
        for figures in (before, after)
    ]
    return [
        *found,
        Line("ROC AUC", *auc),
        Line("queries", *queries),
        Line("pairs of one label and of two", *pairs),
    ]


def _gain(of: Mapping[str, float] | None) -> str:
    return "" if of is None else f"{of['gain']:+.4f} (standard error {of['error']:.4f})"
