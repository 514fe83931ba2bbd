"""System checks: what an operator can get wrong about indexes, with ids and hints. None of them loads NMSLIB."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured

from search.engines.registry import configured_engine, configured_index, depot_of, engine_aliases, index_pipelines


@register
def engines(**_: Any) -> list[CheckMessage]:
    """search.E001: an entry of VISEARCH_ENGINES cannot work."""
    hint = 'Each entry is {"BACKEND": dotted path of an engine, "OPTIONS": {...}}; see docs/operating.md.'
    return [Error(problem, hint=hint, id="search.E001") for problem in _problems(engine_aliases, configured_engine)]


@register
def indexes(**_: Any) -> list[CheckMessage]:
    """search.E002: an entry of VISEARCH_INDEXES cannot work (for a reason of its own, not its engine's)."""
    if engines():
        return []
    hint = 'Each entry is {"ENGINE": a key of VISEARCH_ENGINES, "METRIC": "l2" or "cosine"}; see docs/operating.md.'
    return [Error(problem, hint=hint, id="search.E002") for problem in _problems(index_pipelines, configured_index)]


@register
def pipelines_without_index(**_: Any) -> list[CheckMessage]:
    """search.E003: a pipeline whose vectors no index would hold."""
    indexed = getattr(settings, "VISEARCH_INDEXES", None) or {}
    return [
        Error(
            f"The pipeline {pipeline!r} of VISEARCH_PIPELINES has no entry in VISEARCH_INDEXES.",
            hint=f'Add VISEARCH_INDEXES[{pipeline!r}] = {{"ENGINE": "default", "METRIC": "l2" or "cosine"}}.',
            id="search.E003",
        )
        for pipeline in sorted(set(settings.VISEARCH_PIPELINES) - set(indexed))
    ]


@register
def rebuild_limits(**_: Any) -> list[CheckMessage]:
    """search.E004: VISEARCH_REBUILD_SHARE or VISEARCH_REBUILD_ROWS would rebuild all the time or never."""
    found: list[CheckMessage] = []
    if not 0 < settings.VISEARCH_REBUILD_SHARE <= 1:
        message = (
            f"VISEARCH_REBUILD_SHARE is {settings.VISEARCH_REBUILD_SHARE!r}, but a share is above 0 and at most 1."
        )
        found.append(Error(message, hint="0.05 rebuilds when one vector in twenty has changed.", id="search.E004"))
    if settings.VISEARCH_REBUILD_ROWS < 1:
        message = f"VISEARCH_REBUILD_ROWS is {settings.VISEARCH_REBUILD_ROWS!r}, but must be at least 1."
        found.append(Error(message, hint="With 200 no index is rebuilt for fewer changes.", id="search.E004"))
    return found


@register
def indexes_storage(**_: Any) -> list[CheckMessage]:
    """search.E005: VISEARCH_INDEXES_STORAGE cannot work."""
    try:
        depot_of("any")
    except ImproperlyConfigured as error:
        hint = "It is the class of a Django storage, and VISEARCH_INDEXES_OPTIONS its options; see docs/operating.md."
        return [Error(str(error), hint=hint, id="search.E005")]
    return []


def _problems(names: Callable[[], Iterable[str]], check: Callable[[str], object]) -> list[str]:
    """What ``check`` has against each of ``names()``, or what is wrong with the setting as a whole."""
    try:
        todo = list(names())
    except ImproperlyConfigured as error:
        return [str(error)]
    found = []
    for name in todo:
        try:
            check(name)
        except ImproperlyConfigured as error:
            found.append(str(error))
    return found
