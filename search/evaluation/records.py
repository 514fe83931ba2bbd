"""Evaluations as rows, and what a model takes over from one: nothing else changes *same* and *near* of a model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction

from catalog.curation.log import record
from catalog.models import Collection, EmbeddingModel
from search.engines.registry import configured_index
from search.engines.types import Metric
from search.evaluation.evaluation import Evaluation
from search.evaluation.people import without_names
from search.evaluation.preview import DECIMALS, Limits, NotThresholds, proposal
from search.evaluation.report import as_json
from search.evaluation.thresholds import NEAR_RATE, SAME_RATE
from search.measured import measured
from search.models import EvaluationRun, IndexGeneration

logger = logging.getLogger(__name__)


TAUGHT_ON = (
    "This model was taught on labels of this site. What it was taught with may be among these images, so the figures "
    "say more than is true of new ones; its comparison, on examples that were kept back, is the one to trust. Evaluate "
    "it with a folder that it never saw to take distances from it."
)


class CannotAdopt(ValueError):
    """The thresholds do not fit this model as it is searched now; the message says why."""


def metric_of(model: EmbeddingModel) -> Metric:
    """The metric that this model is searched by. Raises ImproperlyConfigured."""
    return configured_index(model.pipeline).metric


def keep(
    evaluation: Evaluation,
    model: EmbeddingModel,
    *,
    collection: Collection | None = None,
    user: User | None = None,
    compared: Mapping[str, Any] | None = None,
) -> EvaluationRun:
    """Store an evaluation, with its drawings, beside the model and the generation that serves now.

    ``compared``: of which comparison of two models it is a part (search.switching.comparing).
    """
    from search.evaluation import drawing  # noqa: PLC0415 - matplotlib, which only who evaluates may load

    people = dict(evaluation.catalogue.people)
    figures = {
        **without_names(as_json(evaluation), people),
        "warning": TAUGHT_ON if _is_taught_on(model, collection) else "",
        **({"compared": dict(compared)} if compared else {}),
    }
    what = [evaluation.catalogue.what, *([f"by {evaluation.queries.what}"] if evaluation.queries else [])]
    what += [f"beside {compared['with']}"] if compared else []
    return EvaluationRun.objects.create(
        embedding_model=model,
        generation=_generation(model),
        collection=collection,
        what=", ".join(what)[:500],
        figures=figures,
        drawings=drawing.drawings(figures, limits_of(model, figures["metric"])),
        user=user,
    )


def keep_failure(model: EmbeddingModel, collection: Collection, user: User | None, reason: str) -> EvaluationRun:
    return EvaluationRun.objects.create(
        embedding_model=model,
        generation=_generation(model),
        collection=collection,
        what=f"the collection {collection.name}",
        status=EvaluationRun.Status.FAILED,
        reason=reason,
        user=user,
    )


def limits_of(model: EmbeddingModel, metric: str = "") -> Limits | None:
    """`search.measured.measured`, None where there is nothing."""
    same, near = measured(model, metric)
    return None if same is None or near is None else Limits(same, near)


def adopt(run: EvaluationRun, limits: Limits, user: User | None) -> EmbeddingModel:
    """Make these the *same* and *near* of the run's model, with the run as their evaluation; returns the model.

    ``user`` is None for a command. The change is in the log of the model, of a command in the process's log. Raises
    CannotAdopt where the run measured nothing, or by another metric than the model is searched by now, or where both
    distances are one when rounded.
    """
    try:
        limits = limits.rounded()
    except NotThresholds as error:
        raise CannotAdopt(f"Rounded to {DECIMALS} digits: {error}") from error
    with transaction.atomic():
        model = EmbeddingModel.objects.select_for_update().get(pk=run.embedding_model_id)
        _check(run, model)
        before = limits_of(model)
        model.same_distance, model.near_distance = limits.same, limits.near
        model.evaluation = _evaluation(run, model, limits, user)
        model.save(update_fields=["same_distance", "near_distance", "evaluation"])
        said = f"Took same {limits.same:g} and near {limits.near:g} from the evaluation of {run}{_instead_of(before)}."
        if user is not None:
            record(user, model, said)
    logger.info("%s: %s", model, said)
    return model


def why_not(run: EvaluationRun) -> str:
    """Why the thresholds of this run cannot be taken over, empty where they can. Raises ImproperlyConfigured."""
    try:
        _check(run, run.embedding_model)
    except CannotAdopt as error:
        return str(error)
    return ""


def is_of_another_metric(run: EvaluationRun) -> bool:
    """Its distances say nothing about how the model is searched now. Raises ImproperlyConfigured."""
    return bool(run.figures["metric"] != metric_of(run.embedding_model))


def _is_taught_on(model: EmbeddingModel, collection: Collection | None) -> bool:
    return collection is not None and model.derived_from_id is not None


def _check(run: EvaluationRun, model: EmbeddingModel) -> None:
    if run.status != EvaluationRun.Status.DONE:
        raise CannotAdopt("This evaluation failed: it measured nothing that could be used.")
    metric = metric_of(model)
    if run.figures["metric"] != metric:
        raise CannotAdopt(
            f"This evaluation measured by {run.figures['metric']}, but {model} is searched by {metric} now, whose "
            "distances are others. Evaluate again."
        )
    if _is_taught_on(model, run.collection):
        raise CannotAdopt(TAUGHT_ON)


def _evaluation(run: EvaluationRun, model: EmbeddingModel, limits: Limits, user: User | None) -> dict[str, Any]:
    """In the form of the files in catalog/vision/evaluations, and where it came from."""
    catalogue, choice = run.figures["catalogue"], run.figures["choice"]
    chosen = proposal(run.figures) == limits
    how = (
        f"at false match rates {SAME_RATE} and {NEAR_RATE} over pairs of the catalogue"
        if chosen
        else "by hand, with this evaluation"
    )
    return {
        "fingerprint": model.fingerprint,
        "metric": run.figures["metric"],
        "same": limits.same,
        "near": limits.near,
        "data": f"{run.what}: {catalogue['images']} images of {catalogue['labels']} labels",
        "n_pairs": choice["pairs"],
        "date": datetime.now(UTC).date().isoformat(),
        "method": f"{how} ({run.figures['way']})",
        "run": str(run.pk),
        "taken_by": user.get_username() if user else "manage.py evaluate --save",
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _instead_of(before: Limits | None) -> str:
    return f", instead of {before.same:g} and {before.near:g}" if before else ""


def _generation(model: EmbeddingModel) -> IndexGeneration | None:
    return model.generations.filter(status=IndexGeneration.Status.PUBLISHED).first()
