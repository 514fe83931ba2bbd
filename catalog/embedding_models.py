"""Which embedding model serves: settings say what can run, rows say what does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction

from catalog.exceptions import ModelChanged, NoServingModel
from catalog.models import EmbeddingModel
from catalog.vision import registry
from catalog.vision.registry import ModelDescription


def serving_models() -> list[EmbeddingModel]:
    """One for each pipeline that has one."""
    return list(EmbeddingModel.objects.filter(state=EmbeddingModel.State.SERVING).order_by("pipeline"))


def serving_model(pipeline: str) -> EmbeddingModel:
    """Raises NoServingModel, saying what to do."""
    model = EmbeddingModel.objects.filter(pipeline=pipeline, state=EmbeddingModel.State.SERVING).first()
    if model is None:
        raise NoServingModel(f"No embedding model serves the pipeline {pipeline!r}. Run `manage.py models build`.")
    return model


def runnable_models(pipelines: Sequence[str]) -> list[EmbeddingModel]:
    """The serving model of each pipeline, checked to be what the code computes today.

    Raises NoServingModel where none serves, ModelChanged where settings, code or weights have changed since:
    vectors of another fingerprint must never land beside its own.
    """
    models = [serving_model(pipeline) for pipeline in pipelines]
    for model in models:
        if not _is_what_runs(model):
            raise ModelChanged(
                model.embedder,
                f"{model.embedder} is no longer the model that serves {model.pipeline!r}: its options, code or weights "
                f"have changed. Put them back: what is stored belongs to the model as it was.",
            )
    return models


def _is_what_runs(model: EmbeddingModel) -> bool:
    """False also where the settings do not have its embedder or its pipeline any more."""
    try:
        about = registry.describe(model.embedder)
    except ImproperlyConfigured:
        return False
    return (about.pipeline, about.fingerprint) == (model.pipeline, model.fingerprint)


def register_models() -> list[EmbeddingModel]:
    """A row for every embedder of every pipeline at its present fingerprint; returns the new ones.

    The first embedder of a pipeline in which nothing serves yet becomes the serving one. Nothing else changes state:
    a new fingerprint waits as ``building`` until somebody switches. Safe to run at any time and twice at once.
    """
    made = []
    for about in registry.descriptions():
        row = _register(about)
        if row is not None:
            made.append(row)
    return made


def _register(about: ModelDescription) -> EmbeddingModel | None:
    evaluation = asdict(about.evaluation) if about.evaluation else {}
    with transaction.atomic():
        row, created = EmbeddingModel.objects.get_or_create(
            pipeline=about.pipeline,
            embedder=about.name,
            fingerprint=about.fingerprint,
            defaults={
                "dimension": about.dimension,
                "licence": about.licence,
                "source": about.source,
                "same_distance": evaluation.get("same"),
                "near_distance": evaluation.get("near"),
                "evaluation": evaluation,
            },
        )
        _serve_if_first(row)
        if evaluation and not row.evaluation:  # measured since the row was made
            row.evaluation = evaluation
            row.same_distance, row.near_distance = evaluation["same"], evaluation["near"]
            row.save(update_fields=["evaluation", "same_distance", "near_distance"])
    return row if created else None


def _serve_if_first(row: EmbeddingModel) -> None:
    others = EmbeddingModel.objects.select_for_update().filter(pipeline=row.pipeline)
    if not any(other.state == EmbeddingModel.State.SERVING for other in others):
        EmbeddingModel.objects.filter(pk=row.pk).update(state=EmbeddingModel.State.SERVING)
        row.state = EmbeddingModel.State.SERVING
