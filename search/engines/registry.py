"""Which engine serves which pipeline; the only place here that reads settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.dispatch import receiver
from django.utils.module_loading import import_string

from search.engines.protocols import IndexEngine
from search.engines.types import IndexSpec, Metric

ENGINES, INDEXES, INDEXES_DIR = "VISEARCH_ENGINES", "VISEARCH_INDEXES", "VISEARCH_INDEXES_DIR"


@dataclass(frozen=True, slots=True)
class ConfiguredEngine:
    """An engine and its checked options."""

    engine: IndexEngine
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ConfiguredIndex:
    """What VISEARCH_INDEXES says of one pipeline."""

    engine: ConfiguredEngine
    metric: Metric


def index_for(pipeline: str, fingerprint: str, dimension: int) -> tuple[IndexEngine, IndexSpec]:
    """The engine of a pipeline and the index of one of its models. Raises ImproperlyConfigured naming the setting."""
    index = configured_index(pipeline)
    root = Path(settings.VISEARCH_INDEXES_DIR) / f"{pipeline}-{fingerprint[:12]}"
    return index.engine.engine, IndexSpec(root, fingerprint, dimension, index.metric, index.engine.options)


@cache
def configured_index(pipeline: str) -> ConfiguredIndex:
    """Raises ImproperlyConfigured naming the setting."""
    entry = _entry(INDEXES, pipeline, {"ENGINE", "METRIC"})
    where = f"{INDEXES}[{pipeline!r}]"
    try:
        metric = Metric(str(entry.get("METRIC")))
    except ValueError as error:
        known = ", ".join(repr(metric.value) for metric in Metric)
        raise ImproperlyConfigured(f"{where}['METRIC'] is {entry.get('METRIC')!r}; it can be {known}.") from error
    alias = entry.get("ENGINE")
    if alias not in engine_aliases():
        raise ImproperlyConfigured(f"{where}['ENGINE'] is {alias!r}, which {ENGINES} does not name.")
    return ConfiguredIndex(configured_engine(alias), metric)


@cache
def configured_engine(alias: str) -> ConfiguredEngine:
    """Raises ImproperlyConfigured naming the setting."""
    entry = _entry(ENGINES, alias, {"BACKEND", "OPTIONS"})
    where = f"{ENGINES}[{alias!r}]"
    try:
        backend = import_string(entry.get("BACKEND", ""))
    except ImportError as error:
        raise ImproperlyConfigured(f"{where}['BACKEND'] cannot be imported: {error}.") from error
    if not all(hasattr(backend, part) for part in ("check_options", "start", "open", "inspect")):
        raise ImproperlyConfigured(f"{where}['BACKEND'], {entry['BACKEND']}, is no index engine.")
    options = entry.get("OPTIONS", {})
    if not isinstance(options, Mapping):
        raise ImproperlyConfigured(f"{where}['OPTIONS'] must be a dict, not {options!r}.")
    try:
        checked = backend.check_options(options)
    except ValueError as error:
        raise ImproperlyConfigured(f"{where}['OPTIONS']: {error}.") from error
    return ConfiguredEngine(cast(IndexEngine, backend()), checked)


def engine_aliases() -> list[str]:
    return sorted(_setting(ENGINES))


def index_pipelines() -> list[str]:
    return sorted(_setting(INDEXES))


def _setting(name: str) -> Mapping[str, Any]:
    value = getattr(settings, name, None)
    if not isinstance(value, Mapping):
        raise ImproperlyConfigured(f"{name} must be a dict, not {value!r}.")
    return value


def _entry(setting: str, key: str, known: set[str]) -> Mapping[str, Any]:
    entry = _setting(setting).get(key)
    if not isinstance(entry, Mapping):
        raise ImproperlyConfigured(f"{setting}[{key!r}] must be a dict with {', '.join(sorted(known))}, not {entry!r}.")
    unknown = sorted(set(entry) - known)
    if unknown:
        raise ImproperlyConfigured(f"{setting}[{key!r}] has an unknown key {unknown[0]!r}.")
    return entry


@receiver(setting_changed)
def _forget(*, setting: str, **_: Any) -> None:
    if setting in (ENGINES, INDEXES):
        configured_engine.cache_clear()
        configured_index.cache_clear()
