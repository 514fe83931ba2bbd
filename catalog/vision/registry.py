"""What the settings say can run: pipelines, detectors, embedders, limits. The only reader of settings in this package.

Descriptions are cheap; `detector` and `embedder` load the libraries that compute. All is cached for the process and
forgotten when a setting changes.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from catalog.vision import networks
from catalog.vision.cards import CARDS, Card, CardMaker, Context
from catalog.vision.decode import Limits
from catalog.vision.errors import VisionError
from catalog.vision.networks import Network
from catalog.vision.protocols import Detector, Embedder

EVALUATIONS_DIR = Path(__file__).parent / "evaluations"
DETECTORS, EMBEDDERS, PIPELINES = "VISEARCH_DETECTORS", "VISEARCH_EMBEDDERS", "VISEARCH_PIPELINES"

_loading = threading.RLock()  # networks are large: two threads must not load one twice


class UnknownPipeline(VisionError):
    """A name that VISEARCH_PIPELINES does not have."""

    code = "unknown-pipeline"


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A detector and the embedders that may serve it, the first being the default. All are names of settings."""

    name: str
    detector: str
    embedders: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Two distances measured with a model on labelled pairs, that similarity is made from.

    Similarity is 0.5 at ``same`` and 0 at ``near``; both are distances of ``metric``, not squared.
    """

    fingerprint: str
    metric: str
    same: float
    near: float
    data: str
    n_pairs: int
    date: str
    method: str


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """An embedder at one fingerprint. ``evaluation`` is None unless one was measured at this very fingerprint."""

    name: str
    pipeline: str
    dimension: int
    fingerprint: str
    licence: str
    source: str
    evaluation: Evaluation | None


@dataclass(frozen=True, slots=True)
class _Backend:
    """One entry of VISEARCH_DETECTORS or VISEARCH_EMBEDDERS, checked."""

    path: str
    card: Card
    options: Any

    @property
    def fingerprint(self) -> str:
        return self.card.fingerprint(self.path, self.options)


# --- Descriptions -----------------------------------------------------------------------------------------------------


def limits() -> Limits:
    """What an image may be at most."""
    try:
        return Limits(**settings.VISEARCH_LIMITS)
    except TypeError as error:
        raise ImproperlyConfigured(f"VISEARCH_LIMITS: {error}") from error


@cache
def pipelines() -> Mapping[str, Pipeline]:
    """All pipelines by name, in the order of the settings. Raises ImproperlyConfigured naming the setting."""
    found = {name: _pipeline(name, entry) for name, entry in settings.VISEARCH_PIPELINES.items()}
    names = [embedder for pipeline in found.values() for embedder in pipeline.embedders]
    shared = sorted({name for name in names if names.count(name) > 1})
    if shared:
        raise ImproperlyConfigured(
            f"{PIPELINES}: {', '.join(shared)} is used twice. Give each pipeline an entry of its own in {EMBEDDERS}."
        )
    return found


def pipeline(name: str) -> Pipeline:
    """Raises UnknownPipeline naming those there are."""
    try:
        return pipelines()[name]
    except KeyError as error:
        raise UnknownPipeline(f"There is no pipeline {name!r}, only {', '.join(pipelines())}.") from error


def describe(embedder_name: str) -> ModelDescription:
    """What is known of the embedder, without loading what computes. Raises ImproperlyConfigured."""
    backend = _backend(EMBEDDERS, embedder_name)
    owner = next((item.name for item in pipelines().values() if embedder_name in item.embedders), None)
    if owner is None:
        raise ImproperlyConfigured(f"{PIPELINES}: no pipeline has the embedder {embedder_name!r}.")
    return ModelDescription(
        name=embedder_name,
        pipeline=owner,
        dimension=backend.card.dimension,
        fingerprint=backend.fingerprint,
        licence=backend.card.licence,
        source=backend.card.source,
        evaluation=_evaluation(embedder_name, backend.fingerprint),
    )


def descriptions() -> list[ModelDescription]:
    """Every embedder of every pipeline."""
    return [describe(name) for item in pipelines().values() for name in item.embedders]


def fingerprint(embedder_name: str) -> str:
    """sha256 (hexadecimal) over the embedder's sources, code version, options and preprocessing."""
    return _backend(EMBEDDERS, embedder_name).fingerprint


def detector_fingerprint(detector_name: str) -> str:
    """sha256 (hexadecimal) over the detector's sources, code version and options."""
    return _backend(DETECTORS, detector_name).fingerprint


# --- Files ------------------------------------------------------------------------------------------------------------


def models_dir() -> Path:
    return Path(settings.VISEARCH_MODELS_DIR)


def model_networks(name: str) -> tuple[Network, ...]:
    """The networks of a configured detector or embedder."""
    setting = DETECTORS if name in settings.VISEARCH_DETECTORS else EMBEDDERS
    return _backend(setting, name).card.networks


def networks_in_use() -> tuple[Network, ...]:
    """Every network that some pipeline needs, once."""
    names = [name for item in pipelines().values() for name in (item.detector, *item.embedders)]
    return tuple(dict.fromkeys(network for name in names for network in model_networks(name)))


def model_files_problem(name: str) -> str | None:
    """What is wrong with the built files of a detector or embedder, or None. Reads them only when they changed."""
    problems = (networks.problem(network, models_dir()) for network in model_networks(name))
    return next((problem for problem in problems if problem), None)


def model_problems() -> dict[str, str]:
    """Network name to what is wrong with its file, for all networks in use; {} when all is well."""
    found = {network.name: networks.problem(network, models_dir()) for network in networks_in_use()}
    return {name: problem for name, problem in found.items() if problem}


# --- What computes ----------------------------------------------------------------------------------------------------


def detector(name: str) -> Detector:
    """The process's one instance. Raises ImproperlyConfigured."""
    return cast(Detector, _instance(DETECTORS, name))


def embedder(name: str) -> Embedder:
    """The process's one instance. Raises ImproperlyConfigured."""
    return cast(Embedder, _instance(EMBEDDERS, name))


def _instance(setting: str, name: str) -> object:
    with _loading:
        return _loaded(setting, name)


@cache
def _loaded(setting: str, name: str) -> object:
    backend = _backend(setting, name)
    create: Callable[[Context, Any], object] = _import(setting, name, backend.path)
    return create(Context(models_dir(), settings.VISEARCH_THREADS), backend.options)


# --- Reading the settings ---------------------------------------------------------------------------------------------


def _pipeline(name: str, entry: Mapping[str, Any]) -> Pipeline:
    if not isinstance(entry, Mapping) or set(entry) != {"DETECTOR", "EMBEDDERS"} or not entry["EMBEDDERS"]:
        raise ImproperlyConfigured(f"{PIPELINES}[{name!r}] needs a DETECTOR and a list of EMBEDDERS, nothing else.")
    _backend(DETECTORS, entry["DETECTOR"])
    for embedder_name in entry["EMBEDDERS"]:
        _backend(EMBEDDERS, embedder_name)
    return Pipeline(name, entry["DETECTOR"], tuple(entry["EMBEDDERS"]))


@cache
def _backend(setting: str, name: str) -> _Backend:
    entries = getattr(settings, setting)
    if name not in entries:
        raise ImproperlyConfigured(f"{setting} has no entry {name!r}, only {', '.join(entries)}.")
    entry = entries[name]
    if not set(entry) <= {"BACKEND", "OPTIONS"} or "BACKEND" not in entry:
        raise ImproperlyConfigured(f"{setting}[{name!r}] needs a BACKEND and may have OPTIONS, nothing else.")
    path = entry["BACKEND"]
    card = CARDS[path] if path in CARDS else getattr(_import(setting, name, path), "CARD", None)
    if not isinstance(card, Card | CardMaker):
        raise ImproperlyConfigured(f"{setting}[{name!r}]: {path} has no CARD (catalog/vision/cards.py).")
    try:
        options = card.options(**entry.get("OPTIONS", {}))
        return _Backend(path, card if isinstance(card, Card) else card.make(options, models_dir()), options)
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(f"{setting}[{name!r}]['OPTIONS']: {error}") from error


def _import(setting: str, name: str, path: str) -> Any:
    try:
        return import_string(path)
    except ImportError as error:
        raise ImproperlyConfigured(f"{setting}[{name!r}]['BACKEND']: {error}") from error


@cache
def _evaluation(name: str, fingerprint: str) -> Evaluation | None:
    path = EVALUATIONS_DIR / f"{name}.json"
    if not path.is_file():
        return None
    evaluation = Evaluation(**json.loads(path.read_text()))
    return evaluation if evaluation.fingerprint == fingerprint else None


def _forget(*, setting: str, **_: object) -> None:
    if setting.startswith("VISEARCH_"):
        for cached in (pipelines, _loaded, _backend, _evaluation):
            cached.cache_clear()


setting_changed.connect(_forget, dispatch_uid="catalog.vision.registry")
