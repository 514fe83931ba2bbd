"""Which engine serves which pipeline; the only place here that reads settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import InvalidStorageError, storages
from django.core.signals import setting_changed
from django.dispatch import receiver
from django.utils.module_loading import import_string

from search.engines.depot import Depot, Storage
from search.engines.protocols import IndexEngine
from search.engines.types import IndexSpec, Metric

ENGINES, INDEXES, INDEXES_DIR = "VISEARCH_ENGINES", "VISEARCH_INDEXES", "VISEARCH_INDEXES_DIR"
STORAGE = "indexes"  # the alias in STORAGES


@dataclass(frozen=True, slots=True)
class ConfiguredEngine:
    """An engine, its checked options, and how it reaches its server, where it has one."""

    engine: IndexEngine
    options: Mapping[str, Any]
    connection: Any = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ConfiguredIndex:
    """What VISEARCH_INDEXES says of one pipeline."""

    engine: ConfiguredEngine
    metric: Metric


def index_for(pipeline: str, fingerprint: str, dimension: int) -> tuple[IndexEngine, IndexSpec]:
    """The engine of a pipeline and the index of one of its models. Raises ImproperlyConfigured naming the setting."""
    index = configured_index(pipeline)
    root = Path(settings.VISEARCH_INDEXES_DIR) / f"{pipeline}-{fingerprint[:12]}"
    made, depot = index.engine, depot_of(root.name)
    return made.engine, IndexSpec(root, fingerprint, dimension, index.metric, made.options, depot, made.connection)


def depot_of(index: str) -> Depot | None:
    """Where this index is handed on to other hosts: STORAGES["indexes"]; None where there is no such entry."""
    if STORAGE not in settings.STORAGES:
        return None
    where = f"STORAGES[{STORAGE!r}] (VISEARCH_INDEXES_STORAGE)"
    try:
        storage = storages[STORAGE]
    except (InvalidStorageError, ImportError, TypeError) as error:
        raise ImproperlyConfigured(f"{where} cannot work: {error}.") from error
    if not all(hasattr(storage, method) for method in ("open", "save", "delete", "listdir")):
        raise ImproperlyConfigured(f"{where} is no Django storage, but {storage!r}.")
    return Depot(cast(Storage, storage), index)


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
    entry = _entry(ENGINES, alias, {"BACKEND", "OPTIONS", "CONNECTION"})
    where = f"{ENGINES}[{alias!r}]"
    try:
        backend = import_string(entry.get("BACKEND", ""))
    except ImportError as error:
        raise ImproperlyConfigured(f"{where}['BACKEND'] cannot be imported: {error}.") from error
    if not all(hasattr(backend, part) for part in ("check_options", "start", "open", "published", "inspect", "remove")):
        raise ImproperlyConfigured(f"{where}['BACKEND'], {entry['BACKEND']}, is no index engine.")
    options = entry.get("OPTIONS", {})
    if not isinstance(options, Mapping):
        raise ImproperlyConfigured(f"{where}['OPTIONS'] must be a dict, not {options!r}.")
    try:
        checked = backend.check_options(options)
    except ValueError as error:
        raise ImproperlyConfigured(f"{where}['OPTIONS']: {error}.") from error
    return ConfiguredEngine(cast(IndexEngine, backend()), checked, _connection(backend, entry, where))


def _connection(backend: Any, entry: Mapping[str, Any], where: str) -> Any:
    """What an engine of a server makes of CONNECTION. Never says what was given: it may hold a token."""
    given = entry.get("CONNECTION", {})
    if not hasattr(backend, "check_connection"):
        if given:
            raise ImproperlyConfigured(f"{where}['CONNECTION']: {entry['BACKEND']} has no server.")
        return None
    if not isinstance(given, Mapping):
        raise ImproperlyConfigured(f"{where}['CONNECTION'] must be a dict.")
    try:
        return backend.check_connection(given)
    except ValueError as error:
        raise ImproperlyConfigured(f"{where}['CONNECTION']: {error}.") from error


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
