"""What the settings say can run: pipelines, detectors, embedders, limits. The only reader of settings in this package.

Descriptions are cheap; `detector` and `embedder` load the libraries that compute. All is cached for the process and
forgotten when a setting changes.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, cast

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from catalog.vision import heads, networks, providers
from catalog.vision.cards import CARDS, FRAME, Card, CardMaker, Context, PinOptions
from catalog.vision.decode import Limits
from catalog.vision.errors import VisionError
from catalog.vision.heads import Head
from catalog.vision.networks import Network
from catalog.vision.protocols import DerivedEmbedder, Detector, Embedder
from catalog.vision.published import PUBLISHED, Published
from catalog.vision.weights import LocalFile

EVALUATIONS_DIR = Path(__file__).parent / "evaluations"
DETECTORS, EMBEDDERS, PIPELINES = "VISEARCH_DETECTORS", "VISEARCH_EMBEDDERS", "VISEARCH_PIPELINES"
TAUGHT = "catalog.vision.embedders.taught.TaughtEmbedder"

_loading = threading.RLock()  # networks are large: two threads must not load one twice


class UnknownPipeline(VisionError):
    """A name that VISEARCH_PIPELINES does not have."""

    code = "unknown-pipeline"


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A detector and the embedders that may serve it, the first being the default. All are names of settings.

    ``is_whole``: its one region is the whole image.
    """

    name: str
    detector: str
    embedders: tuple[str, ...]
    is_whole: bool = False


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
    base: str | None = None  # of a taught one: the embedder whose vectors its head moves


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry of VISEARCH_DETECTORS or VISEARCH_EMBEDDERS, checked."""

    path: str
    card: Card | CardMaker
    options: Any


@dataclass(frozen=True, slots=True)
class _Backend:
    """An entry with all that is known of it now."""

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
    """What is known of the embedder, without loading what computes; also of a taught one, which no setting names.

    Raises ImproperlyConfigured, ModelUnavailable where the record of a taught one is damaged.
    """
    head = _head(embedder_name)
    if head is not None:
        base = describe(head.base)
        fingerprint_ = head.embedder_fingerprint(base.fingerprint)
        return replace(
            base, name=head.name, dimension=head.dimension, fingerprint=fingerprint_, base=base.name, evaluation=None
        )
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
    """Every embedder of every pipeline, as the settings say; taught ones are in `taught`."""
    return [describe(name) for item in pipelines().values() for name in item.embedders]


def fingerprint(embedder_name: str) -> str:
    """sha256 (hexadecimal) over the embedder's sources, code version, options and preprocessing."""
    if _head(embedder_name) is not None:
        return describe(embedder_name).fingerprint
    return _backend(EMBEDDERS, embedder_name).fingerprint


def base_of(embedder_name: str) -> str:
    """The embedder that crops for this one and whose vectors its head moves; itself where it was not taught."""
    head = _head(embedder_name)
    return embedder_name if head is None else head.base


def _head(embedder_name: str) -> Head | None:
    """Looked for at every use: a process that runs already finds a head that was taught since."""
    return None if embedder_name in settings.VISEARCH_EMBEDDERS else heads.find(embedder_name, models_dir())


def detector_fingerprint(detector_name: str) -> str:
    """sha256 (hexadecimal) over the detector's sources, code version and options."""
    return _backend(DETECTORS, detector_name).fingerprint


# --- Files ------------------------------------------------------------------------------------------------------------


def models_dir() -> Path:
    return Path(settings.VISEARCH_MODELS_DIR)


def model_networks(name: str) -> tuple[Network, ...]:
    """The networks of a configured detector or embedder, or of a taught embedder: its base's and its head."""
    head = None if name in settings.VISEARCH_DETECTORS else _head(name)
    if head is not None:
        return (*model_networks(head.base), head)
    setting = DETECTORS if name in settings.VISEARCH_DETECTORS else EMBEDDERS
    return _backend(setting, name).card.networks


def networks_in_use() -> tuple[Network, ...]:
    """Every network that some pipeline needs, once."""
    return tuple(dict.fromkeys(network for name in _in_use() for network in model_networks(name)))


def _in_use() -> list[str]:
    """Every detector and embedder of some pipeline."""
    return [name for item in pipelines().values() for name in (item.detector, *item.embedders)]


def model_files_problem(name: str) -> str | None:
    """What is wrong with what a detector or embedder needs, or None. Reads built files only when they changed."""
    problems = (networks.problem(network, models_dir()) for network in model_networks(name))
    return _original_problem(name) or next((problem for problem in problems if problem), None)


def model_problems(spare: Collection[str] = ()) -> dict[str, str]:
    """Name to what is wrong, for all networks and originals in use; {} when all is well.

    ``spare``: embedders that may be broken, as another one serves their pipeline.
    """
    names = [name for name in _in_use() if name not in spare]
    needed = {network for name in names for network in model_networks(name)} if spare else set(networks_in_use())
    found = {item.name: networks.problem(item, models_dir()) for item in networks_in_use() if item in needed}
    found |= {name: problem for name in names if (problem := _original_problem(name))}
    return {name: problem for name, problem in found.items() if problem}


def pinned(weights: Published) -> str:
    """The sha256 that OPTIONS of the embedders that read these weights pin, or "".

    Raises ImproperlyConfigured, also where two pin another: there is one file for all.
    """
    path = str(weights.path(models_dir()))
    pins = {
        name: str(_entry(EMBEDDERS, name).options.sha256)
        for name in settings.VISEARCH_EMBEDDERS
        if _has_pin(name) and path in _files(_backend(EMBEDDERS, name).card)
    }
    if len(set(pins.values())) > 1:
        raise ImproperlyConfigured(
            f"{EMBEDDERS}: {', '.join(pins)} read the same weights, {weights.name}, but pin another sha256. Pin one."
        )
    return next(iter(pins.values()), "")


def check_pins() -> None:
    """Raises ImproperlyConfigured as `pinned` does."""
    for weights in PUBLISHED.values():
        pinned(weights)


def _has_pin(embedder_name: str) -> bool:
    """Of published weights. Looks at the settings first: what nobody uses is not imported for that."""
    entry = settings.VISEARCH_EMBEDDERS[embedder_name]
    options = entry.get("OPTIONS") if isinstance(entry, Mapping) else None
    if not isinstance(options, Mapping) or not options.get("sha256"):
        return False
    return isinstance(_entry(EMBEDDERS, embedder_name).options, PinOptions)


def _files(card: Card) -> set[str]:
    """Paths of the weights that an operator fetches or brings."""
    sources = (*card.weights, *(source for network in card.networks for source in network.sources))
    return {source.path for source in sources if isinstance(source, LocalFile)}


def missing_weights(embedder_name: str) -> str | None:
    """What keeps an embedder from being a model at all: weights that an operator fetches or brings, or an original's
    packages, are not here, or no network was built of them. None for one whose weights come in packages.
    """
    card = _backend(EMBEDDERS, embedder_name).card
    brought = [item for item in card.networks if any(isinstance(source, LocalFile) for source in item.sources)]
    problems = (networks.problem(network, models_dir()) for network in brought)
    return card.problem(embedder_name) or next((problem for problem in problems if problem), None)


def _original_problem(name: str) -> str | None:
    """What keeps an original from running in its process; None for whatever is no original."""
    setting = DETECTORS if name in settings.VISEARCH_DETECTORS else EMBEDDERS
    return _backend(setting, base_of(name) if setting == EMBEDDERS else name).card.problem(name)


def taught() -> list[str]:
    """Names of the embedders that were taught here, whether or not their files are whole."""
    return heads.keys(models_dir())


def taught_problems() -> dict[str, str]:
    """Name of a taught embedder to what is wrong with its head; {} when all is well."""
    found = {key: heads.problem(key, models_dir()) for key in taught()}
    return {key: problem for key, problem in found.items() if problem}


# --- What networks run on ---------------------------------------------------------------------------------------------


def providers_asked_for() -> tuple[str, ...]:
    return tuple(settings.VISEARCH_ONNX_PROVIDERS)


def providers_problem() -> str | None:
    """What is wrong with VISEARCH_ONNX_PROVIDERS on this machine, or None. Loads nothing heavy."""
    return providers.problem(providers_asked_for())


def providers_that_work() -> tuple[str, ...]:
    """What networks run on here, best first. Loads onnxruntime and starts a network. Raises ModelUnavailable."""
    try_out: Callable[[Context], tuple[str, ...]] = import_string("catalog.vision.runtime.try_out")
    return try_out(_context())


# --- What computes ----------------------------------------------------------------------------------------------------


def detector(name: str) -> Detector:
    """The process's one instance. Raises ImproperlyConfigured."""
    return cast(Detector, _instance(DETECTORS, name))


def embedder(name: str) -> Embedder:
    """The process's one instance. Raises ImproperlyConfigured, ModelUnavailable where a head's record is damaged."""
    return cast(Embedder, _instance(EMBEDDERS, name)) if _head(name) is None else derived_embedder(name)


def derived_embedder(name: str) -> DerivedEmbedder:
    """The process's one instance of an embedder that was taught. Raises ImproperlyConfigured, ModelUnavailable."""
    head = _head(name)
    if head is None:
        raise ImproperlyConfigured(f"There is no taught embedder {name!r} in {models_dir() / heads.FOLDER}.")
    with _loading:
        return _loaded_taught(head)


@cache
def _loaded_taught(head: Head) -> DerivedEmbedder:
    create: Callable[[Context, Head, Embedder], DerivedEmbedder] = import_string(TAUGHT)
    return create(_context(), head, embedder(head.base))


def _instance(setting: str, name: str) -> object:
    with _loading:
        made = isinstance(_entry(setting, name).card, CardMaker)
        return _loaded(setting, name, _backend(setting, name).fingerprint if made else "")


@cache
def _loaded(setting: str, name: str, fingerprint: str) -> object:
    """One for each ``fingerprint``: weights that were fetched since are found by a process that runs already."""
    backend = _backend(setting, name)
    create: Callable[[Context, Any], object] = _import(setting, name, backend.path)
    return create(_context(), backend.options)


def _context() -> Context:
    return Context(models_dir(), settings.VISEARCH_THREADS, providers_asked_for())


# --- Reading the settings ---------------------------------------------------------------------------------------------


def _pipeline(name: str, entry: Mapping[str, Any]) -> Pipeline:
    if not isinstance(entry, Mapping) or set(entry) != {"DETECTOR", "EMBEDDERS"} or not _names_them(**entry):
        raise ImproperlyConfigured(
            f"{PIPELINES}[{name!r}] needs the name of a DETECTOR and a list of names of EMBEDDERS, nothing else."
        )
    _backend(DETECTORS, entry["DETECTOR"])
    for embedder_name in entry["EMBEDDERS"]:
        _backend(EMBEDDERS, embedder_name)
    is_whole = _backend(DETECTORS, entry["DETECTOR"]).card is FRAME
    return Pipeline(name, entry["DETECTOR"], tuple(entry["EMBEDDERS"]), is_whole)


def _names_them(DETECTOR: Any, EMBEDDERS: Any) -> bool:  # noqa: N803 - as in the settings
    """Whether they are a name and a list of some; a string would be taken letter by letter."""
    names = EMBEDDERS if isinstance(EMBEDDERS, list | tuple) else ()
    return isinstance(DETECTOR, str) and bool(names) and all(isinstance(name, str) for name in names)


def _backend(setting: str, name: str) -> _Backend:
    """Where the options decide the card, it is made at every use: it may hang on what was fetched since."""
    entry = _entry(setting, name)
    if isinstance(entry.card, Card):
        return _Backend(entry.path, entry.card, entry.options)
    try:
        return _Backend(entry.path, entry.card.make(entry.options, models_dir()), entry.options)
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(f"{setting}[{name!r}]['OPTIONS']: {error}") from error


@cache
def _entry(setting: str, name: str) -> _Entry:
    entries = getattr(settings, setting)
    if name not in entries:
        raise ImproperlyConfigured(f"{setting} has no entry {name!r}, only {', '.join(entries)}.")
    entry = entries[name]
    if not isinstance(entry, Mapping) or not set(entry) <= {"BACKEND", "OPTIONS"} or "BACKEND" not in entry:
        raise ImproperlyConfigured(f"{setting}[{name!r}] needs a BACKEND and may have OPTIONS, nothing else.")
    if not isinstance(entry["BACKEND"], str) or not isinstance(entry.get("OPTIONS", {}), Mapping):
        raise ImproperlyConfigured(f"{setting}[{name!r}]: BACKEND is a dotted path, and OPTIONS are names with values.")
    path = entry["BACKEND"]
    card = CARDS[path] if path in CARDS else getattr(_import(setting, name, path), "CARD", None)
    if not isinstance(card, Card | CardMaker):
        raise ImproperlyConfigured(f"{setting}[{name!r}]: {path} has no CARD (catalog/vision/cards.py).")
    try:
        return _Entry(path, card, card.options(**entry.get("OPTIONS", {})))
    except (TypeError, ValueError, OverflowError) as error:
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
        for cached in (pipelines, _loaded, _loaded_taught, _entry, _evaluation):
            cached.cache_clear()


setting_changed.connect(_forget, dispatch_uid="catalog.vision.registry")
