"""The networks on disk, and whether what serves is what they compute."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from catalog.doctor.findings import Check, Finding, Looking, Problem
from catalog.embedding_models import change_of, serving_models
from catalog.exceptions import ModelUnavailable
from catalog.keeping import kept_models, standing
from catalog.models import EmbeddingModel
from catalog.vision import networks, registry
from catalog.vision.networks import Network

FILE = Problem(
    "model-file",
    "a network's file is missing or altered: its pipelines wait",
    "Run `manage.py models build`; weights that are fetched come first, `manage.py models` names them.",
    "builds it from its pinned weights",
)
HEAD = Problem("model-head", "the head of a taught model is missing or altered", "See docs/teaching.md, and a backup.")
CHANGED = Problem(
    "model-changed",
    "what serves is not what settings, code and weights make of it now: nothing is embedded",
    "See docs/models.md, Another version of a model.",
)
KEPT_LACKS = Problem(
    "model-lacks-regions",
    "a model that is kept ready, such as the way back, could not compute some embeddings: a switch to it is refused",
    "See to the originals that the worker's log names, then `manage.py model fill` tries them again.",
)
UNSERVED = Problem("pipeline-unserved", "no embedding model serves a pipeline", "Run `manage.py models build`.")


def _files(looking: Looking) -> Iterator[Finding]:
    """Each file is read and hashed: they are few, and a process that starts does the same."""
    problems = registry.model_problems()
    buildable = {network.name: network for network in registry.networks_in_use()}
    for name, said in problems.items():
        network = buildable.get(name)
        yield FILE.of(name, said, partial(_build, network) if network else None)
    yield from (HEAD.of(name, said) for name, said in registry.taught_problems().items())


def _build(network: Network) -> bool:
    """Under the network's own lock. Raises ModelUnavailable where its weights are not here, or not the pinned ones."""
    networks.build(network, registry.models_dir())
    return True


def _serving(looking: Looking) -> Iterator[Finding]:
    serving = {model.pipeline: model for model in serving_models()}
    for pipeline in registry.pipelines():
        if pipeline not in serving:
            yield UNSERVED.of(pipeline, "no embedding model serves it")
        elif change := _change(serving[pipeline]):
            yield CHANGED.of(str(serving[pipeline]), change)


def _change(model: EmbeddingModel) -> str | None:
    try:
        return change_of(model)
    except ModelUnavailable as error:
        return str(error)


def _kept(looking: Looking) -> Iterator[Finding]:
    for model in kept_models():
        failed = standing(model).failed if model.state != EmbeddingModel.State.SERVING else 0
        if failed:
            yield KEPT_LACKS.of(str(model), f"{failed} embeddings could not be computed")


CHECKS = (
    Check("networks", (FILE, HEAD), _files),
    Check("models that serve", (UNSERVED, CHANGED), _serving),
    Check("models that are kept ready", (KEPT_LACKS,), _kept),
)
