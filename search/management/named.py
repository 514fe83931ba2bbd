"""What the options of commands name, besides collections (catalog.named)."""

from __future__ import annotations

from django.core.management.base import CommandError

from catalog.models import EmbeddingModel


def models_of(pipeline: str | None) -> list[EmbeddingModel]:
    """Of this pipeline, or of all. Raises CommandError where there are none."""
    rows = EmbeddingModel.objects.select_related("derived_from").order_by("pipeline", "id")
    models = list(rows if pipeline is None else rows.filter(pipeline=pipeline))
    if not models:
        of = "" if pipeline is None else f" for the pipeline {pipeline!r}"
        raise CommandError(f"No embedding model is registered{of}. Run `manage.py models build`.")
    return models


def model_named(wanted: str, pipeline: str | None = None) -> EmbeddingModel:
    """By the name of its embedder or the beginning of its fingerprint. Raises CommandError, saying which there are."""
    models = models_of(pipeline)
    found = [each for each in models if wanted and (each.embedder == wanted or each.fingerprint.startswith(wanted))]
    if len(found) == 1:
        return found[0]
    names = ", ".join(str(each) for each in (found or models))
    raise CommandError(f"{wanted!r} is {'more than one' if found else 'none'} of the models: {names}.")
