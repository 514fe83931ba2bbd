"""Keeping what was found in a batch of images: renditions first, then all rows in one transaction.

Both steps lock the images' rows and look whether this claim still holds them, so what was deleted or taken over is left
alone. Renditions are written while their rows are locked: whoever deletes the image waits, and then finds them.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import numpy as np
from django.db import transaction
from numpy.typing import NDArray

from catalog import claims, storage
from catalog.database import retry_while_away
from catalog.exceptions import ModelSwitched
from catalog.lineage import lineage
from catalog.models import Embedding, EmbeddingModel, Image, Region
from catalog.regions import name_only_faces, update_regions
from catalog.vision import registry
from catalog.vision.types import ExtractedRegion

logger = logging.getLogger(__name__)

# What every engine takes (search.engines.vectors, which a test compares). A vector of zeros is near everything to some
# and nowhere to others; squares of very long ones overflow: no index can hold them.
LEAST_NORM, MOST_NORM = 1e-6, 1e15


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one image: WebP bytes by size, vectors of regions that people drew, regions that were found."""

    image: Image
    rendered: Mapping[int, bytes]
    drawn: Sequence[tuple[Region, ExtractedRegion]]
    found: Sequence[ExtractedRegion]


def store(token: str, outcomes: Sequence[Outcome], models: Sequence[EmbeddingModel]) -> None:
    """Keep all of it, or none of the rows. Waits for a database that is away.

    ``models`` serve; vectors of those that they are derived from are kept, too. Raises OSError where a rendition cannot
    be written, ModelSwitched where one of the models no longer serves.
    """
    if outcomes:
        retry_while_away(partial(_write_renditions, token, outcomes))
        retry_while_away(partial(_store_rows, token, outcomes, models))


@transaction.atomic
def _write_renditions(token: str, outcomes: Sequence[Outcome]) -> None:
    for outcome in _ours(token, outcomes):
        storage.save_renditions(outcome.image.pk, outcome.rendered)


@transaction.atomic
def _store_rows(token: str, outcomes: Sequence[Outcome], models: Sequence[EmbeddingModel]) -> None:
    """The models' rows are locked first, so that embedding ids commit in order (catalog.models.Embedding)."""
    keys = [row.pk for model in models for row in lineage(model)]
    rows = EmbeddingModel.objects.select_for_update().filter(pk__in=keys).order_by("pk")
    states = dict(rows.values_list("pk", "state"))
    if any(states[model.pk] != EmbeddingModel.State.SERVING for model in models):
        raise ModelSwitched("Another embedding model serves since these images were looked at.")
    ours = _ours(token, outcomes)
    for model in models:
        _store_pipeline(ours, model)
    name_only_faces([outcome.image.pk for outcome in ours])
    claims.finish(token, [outcome.image.pk for outcome in ours])


def _ours(token: str, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Lock the images that this claim still holds, in the order of their keys."""
    held = claims.held_by(token).filter(pk__in=[outcome.image.pk for outcome in outcomes])
    keys = set(held.lock_keys())
    if len(keys) < len(outcomes):
        logger.info("%d images are no longer ours, nothing is stored for them", len(outcomes) - len(keys))
    return [outcome for outcome in outcomes if outcome.image.pk in keys]


def _store_pipeline(outcomes: Sequence[Outcome], model: EmbeddingModel) -> None:
    name = registry.pipeline(model.pipeline).detector
    found = {
        outcome.image.pk: [each for each in outcome.found if each.pipeline == model.pipeline] for outcome in outcomes
    }
    detector = f"{name} {registry.detector_fingerprint(name)[:12]}"
    pairs = update_regions(found, model.pipeline, detector, lineage(model))
    pairs += _still_drawn(
        [pair for outcome in outcomes for pair in outcome.drawn if pair[0].pipeline == model.pipeline]
    )
    for row in lineage(model):  # in this order, which catalog.filling relies on
        _store_embeddings(row, [(region.pk, each.vectors[row.embedder]) for region, each in pairs])


def _still_drawn(pairs: Sequence[tuple[Region, ExtractedRegion]]) -> list[tuple[Region, ExtractedRegion]]:
    """Those whose region nobody has deleted since it was embedded; the rows are locked."""
    if not pairs:
        return []
    drawn = Region.objects.select_for_update().filter(pk__in=[region.pk for region, _ in pairs])
    keys = set(drawn.values_list("pk", flat=True))
    return [pair for pair in pairs if pair[0].pk in keys]


def _store_embeddings(model: EmbeddingModel, vectors: Collection[tuple[UUID, NDArray[np.float32]]]) -> None:
    """Keep the same vector as it is; replace another by a new row with a new id (embeddings are immutable)."""
    data = {region: vector_bytes(vector) for region, vector in vectors}
    stored = Embedding.objects.filter(model=model, region__in=data)
    same = {row.region_id for row in stored if bytes(row.vector) == data[row.region_id]}
    stored.exclude(region__in=same).delete()
    Embedding.objects.bulk_create(
        Embedding(region_id=region, model=model, dimension=model.dimension, vector=vector)
        for region, vector in data.items()
        if region not in same
    )


def vector_bytes(vector: NDArray[np.float32]) -> bytes:
    """Raises ValueError for what no index could hold."""
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(vector, dtype="<f4")
    norm = norm_of(stored)
    if not is_usable(norm):
        raise ValueError(f"the embedding model gave a vector of norm {norm:g}")
    return stored.tobytes()


def norm_of(vector: NDArray[np.float32]) -> float:
    """Euclidean, by float64; NaN or Inf where the vector is not finite."""
    with np.errstate(invalid="ignore"):
        return float(np.linalg.norm(vector.astype(np.float64)))


def is_usable(norm: float) -> bool:
    """Whether an index can hold a vector of this norm, and answer for it; of none that is NaN or Inf."""
    return LEAST_NORM <= norm <= MOST_NORM
