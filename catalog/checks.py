"""System checks: what an operator can get wrong about images and models, with ids and hints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError

from catalog.duplicates.finding import MOST_DISTANCE
from catalog.embedding_models import change_of, serving_models
from catalog.fetching import registry as fetching
from catalog.vision import registry
from catalog.vision.errors import ModelUnavailable


@register
def vision_settings(**_: Any) -> list[CheckMessage]:
    """catalog.E001: VISEARCH_DETECTORS, VISEARCH_EMBEDDERS or VISEARCH_PIPELINES cannot work as they stand."""
    try:
        registry.descriptions()
        registry.check_pins()
    except ImproperlyConfigured as error:
        return [Error(str(error), hint="See docs/operating.md, Settings.", id="catalog.E001")]
    return []


@register
def onnx_providers(**_: Any) -> list[CheckMessage]:
    """catalog.E002: VISEARCH_ONNX_PROVIDERS names what there is not, or what is not installed here."""
    problem = registry.providers_problem()
    return [Error(problem, hint="See docs/models.md, What networks run on.", id="catalog.E002")] if problem else []


@register
def fetching_settings(**_: Any) -> list[CheckMessage]:
    """catalog.E003: a setting VISEARCH_FETCH_* cannot be used, such as an entry of the allow-list that is none."""
    try:
        fetching.check()
    except ImproperlyConfigured as error:
        return [Error(str(error), hint="See docs/operating.md, Fetching images.", id="catalog.E003")]
    return []


@register
def near_distance(**_: Any) -> list[CheckMessage]:
    """catalog.E004: VISEARCH_NEAR_DISTANCE is no distance that near duplicates can be looked up by."""
    if 0 <= settings.VISEARCH_NEAR_DISTANCE <= MOST_DISTANCE:
        return []
    said = f"VISEARCH_NEAR_DISTANCE is {settings.VISEARCH_NEAR_DISTANCE}, and must be from 0 to {MOST_DISTANCE}."
    hint = "10 finds other sizes, compressions and small crops. A collection can leave it off."
    return [Error(said, hint=hint, id="catalog.E004")]


@register
def model_files(**_: Any) -> list[CheckMessage]:
    """catalog.W001: a network's file is missing or altered; its pipeline waits, the rest works."""
    try:
        problems = registry.model_problems().values()
    except ImproperlyConfigured:
        return []  # catalog.E001 says it
    return [Warning(problem, hint="`manage.py models` lists them all.", id="catalog.W001") for problem in problems]


@register(Tags.database)
def serving_models_run(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """catalog.W003: what serves a pipeline is not what settings, code and weights make of it now: it computes nothing.

    Asks the database, so it runs where Django's checks of databases do: `check --database default`, `migrate`.
    """
    if not databases:
        return []
    try:
        changes = [change_of(model) for model in serving_models() if model.pipeline in registry.pipelines()]
    except (DatabaseError, ImproperlyConfigured, ModelUnavailable):
        return []  # no tables yet; catalog.E001 or catalog.W002 says it
    hint = "See docs/models.md, Another version of a model."
    return [Warning(change, hint=hint, id="catalog.W003") for change in changes if change]


@register
def taught_heads(**_: Any) -> list[CheckMessage]:
    """catalog.W002: the head of a taught model is missing or altered; where it serves its pipeline waits."""
    problems = registry.taught_problems().values()
    return [Warning(problem, hint="See docs/teaching.md.", id="catalog.W002") for problem in problems]
