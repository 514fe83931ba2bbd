"""System checks: what an operator can get wrong about images and models, with ids and hints."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Error, Warning, register
from django.core.exceptions import ImproperlyConfigured

from catalog.vision import registry


@register
def vision_settings(**_: Any) -> list[CheckMessage]:
    """catalog.E001: VISEARCH_DETECTORS, VISEARCH_EMBEDDERS or VISEARCH_PIPELINES cannot work as they stand."""
    try:
        registry.descriptions()
    except ImproperlyConfigured as error:
        return [Error(str(error), hint="See docs/operating.md, Settings.", id="catalog.E001")]
    return []


@register
def model_files(**_: Any) -> list[CheckMessage]:
    """catalog.W001: a network's file is missing or altered; its pipeline waits, the rest works."""
    try:
        problems = registry.model_problems().values()
    except ImproperlyConfigured:
        return []  # catalog.E001 says it
    return [Warning(problem, hint="Run `manage.py models build`.", id="catalog.W001") for problem in problems]
