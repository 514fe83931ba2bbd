"""How search is: per pipeline what serves, what is newer, what was built, and whether a build is under way."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from catalog.embedding_models import change_of, serving_models
from catalog.exceptions import ModelUnavailable
from catalog.models import EmbeddingModel
from catalog.vision import registry
from search import progress
from search.curves import Curve, curve_of, is_read_whole
from search.engines.errors import IndexDamaged, IndexNotBuilt, IndexUnreachable
from search.engines.registry import index_for
from search.indexing import drift, drift_limit
from search.locks import is_building
from search.models import IndexGeneration
from search.progress import REQUESTED, BuildProgress, reported

logger = logging.getLogger(__name__)

Status = IndexGeneration.Status
LAST_BUILDS = 5


@dataclass(frozen=True, slots=True)
class PipelineHealth:
    """One pipeline. Without a serving model nothing else is known of it.

    ``total``: embeddings that the model has. ``new``: those that are not in ``generation`` yet (all of them where there
    is none). ``dropped``: rows of the generation whose embedding is gone. ``due_at``: at how many new and dropped
    together a rebuild begins by itself. ``trouble``: what somebody has to look after, or empty.
    """

    pipeline: str
    model: EmbeddingModel | None = None
    generation: IndexGeneration | None = None
    total: int = 0
    new: int = 0
    dropped: int = 0
    due_at: int = 0
    builds: Sequence[IndexGeneration] = ()
    running: BuildProgress | None = None
    trouble: str = ""

    @property
    def curve(self) -> Curve | None:
        """Recall against latency of the generation that serves."""
        return curve_of(self.generation) if self.generation else None

    @property
    def is_read_whole(self) -> bool:
        """Whether that is so small that no graph is asked."""
        return self.generation is not None and is_read_whole(self.generation)


def health() -> list[PipelineHealth]:
    """In the order of the settings. Reads the pointer of each index and none of its files."""
    models = {model.pipeline: model for model in serving_models()}
    return [_health_of(name, models.get(name)) for name in registry.pipelines()]


def _health_of(pipeline: str, model: EmbeddingModel | None) -> PipelineHealth:
    if model is None:
        trouble = "No embedding model serves this pipeline. Run `manage.py models build`."
        return PipelineHealth(pipeline, trouble=trouble)
    generation = model.generations.filter(status=Status.PUBLISHED).first()
    held, highest_id = (generation.count, generation.highest_embedding_id) if generation else (0, 0)
    since = drift(model, held, highest_id)
    return PipelineHealth(
        pipeline=pipeline,
        model=model,
        generation=generation,
        total=since.total,
        new=since.new,
        dropped=since.dropped,
        due_at=drift_limit(held),
        builds=last_builds(model),
        running=build_of(model),
        trouble=_trouble(model, generation),
    )


def last_builds(model: EmbeddingModel) -> list[IndexGeneration]:
    """The newest first."""
    return list(model.generations.order_by("-sequence")[:LAST_BUILDS])


def build_of(model: EmbeddingModel) -> BuildProgress | None:
    """How far the build of its index is that is under way or asked for.

    The lock says whether somebody builds, the report how far they are: it outlives a builder that was killed.
    """
    said = reported(model)
    is_waiting = said is not None and said.step == REQUESTED
    if is_building(model):
        return said if said is not None and not is_waiting else BuildProgress("building")
    return said if is_waiting else None


def _trouble(model: EmbeddingModel, generation: IndexGeneration | None) -> str:
    """Whether the model runs, then what the pointer on disk says against the record. Paths are for the log."""
    try:
        change = change_of(model)
    except ModelUnavailable as error:
        logger.error("search health: %s", error)
        change = f"{model.embedder} cannot be used. `manage.py models` says why."
    return change or index_trouble(model, generation)


def index_trouble(model: EmbeddingModel, generation: IndexGeneration | None) -> str:
    """What the pointer on disk says against the record, or "". Reads the pointer alone."""
    try:
        engine, spec = index_for(model.pipeline, model.fingerprint, model.dimension)
        published = engine.published(spec)
    except IndexNotBuilt:
        if generation is None:
            return ""
        return "The index is gone from the disk: search answers exactly from the database, more slowly. Rebuild it."
    except IndexUnreachable as error:
        logger.error("the index of %s: %s", model, error)
        return "The server of the index does not answer: search answers exactly from the database, more slowly."
    except (IndexDamaged, ImproperlyConfigured) as error:
        logger.error("the index of %s: %s", model, error)
        return "The index cannot be read: search answers exactly from the database, more slowly. Rebuild it."
    if generation is None or generation.name != published:
        return f"Generation {published} serves, which is not the one recorded here. Rebuild it."
    return ""


def builds_as_json() -> list[dict[str, Any]]:
    """What the page needs to follow builds: no counts, and nothing that is not in the database or the cache."""
    models = {model.pipeline: model for model in serving_models()}
    return [_build_as_json(name, models.get(name)) for name in registry.pipelines()]


def _build_as_json(pipeline: str, model: EmbeddingModel | None) -> dict[str, Any]:
    last = model.generations.order_by("-sequence").values_list("pk", flat=True).first() if model else None
    running = build_of(model) if model else None
    return {"pipeline": pipeline, "running": progress.as_json(running), "last": str(last or "")}
