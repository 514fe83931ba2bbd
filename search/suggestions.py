"""Who a face may be: the nearest faces that somebody named, one for each person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from catalog.embedding_models import serving_model
from catalog.models import Collection, EmbeddingModel, Person, Region
from catalog.naming import rejected_people
from catalog.selectors import regions_by_embedding_id, vector_of_region
from search import serving
from search.asking import asks, widening
from search.engines.types import Hits, Scope
from search.exceptions import NothingToSearchWith
from search.measured import measured
from search.ranking import best_per_key, similarity
from search.scopes import scope_of

if TYPE_CHECKING:
    from catalog.querysets import Viewer

MOST = 5
FIRST_ASK, MOST_ASKS = 64, 4  # for 64 hits to 4,096: most faces near a face are without a name
SAME, NEAR = "same", "near"


@dataclass(frozen=True, slots=True)
class Suggestion:
    """``likeness`` is "same" or "near", by the model's measured distances; None for a model that nobody measured."""

    person: Person
    region: Region
    distance: float
    similarity: float | None
    likeness: str | None


def suggest_people(region: Region, viewer: Viewer, most: int = MOST) -> list[Suggestion]:
    """People named on the faces nearest to this one that the viewer may search, nearest first.

    Left out: whom somebody said this face is not, and what is farther than the model's measured *near*. Of faces so
    crowded that 4,096 of them are nearer than a named one, nobody is suggested. Raises NothingToSearchWith where the
    region has no embedding yet, or one that cannot be searched with; NoServingModel.
    """
    model = serving_model(region.pipeline)
    vector = vector_of_region(region, model)
    if vector is None:
        raise NothingToSearchWith("This face has no embedding yet. Wait until its image is processed.")
    collections = list(Collection.objects.face_searchable_by(viewer))
    if not collections:
        return []
    scope = scope_of(collections, region.pipeline)
    left_out = rejected_people(region)
    return _nearest(_Ask(region, model, vector, scope, [each.pk for each in collections], left_out, viewer, most))


@dataclass(frozen=True, slots=True)
class _Ask:
    region: Region
    model: EmbeddingModel
    vector: NDArray[np.float32]
    scope: Scope
    collections: Sequence[UUID]
    left_out: set[UUID]
    viewer: Viewer
    most: int


def _nearest(ask: _Ask) -> list[Suggestion]:
    """Ask for more until there are enough people, or nothing more that is near."""
    found: list[Suggestion] = []
    steps = zip(repeat(ask.scope, MOST_ASKS), widening(FIRST_ASK), strict=False)
    for asked in asks(serving.snapshot(ask.model), ask.vector, steps, measured(ask.model)[1]):
        found = _people(asked.within, ask)
        if len(found) == ask.most:
            break
    return found


def _people(hits: Hits, ask: _Ask) -> list[Suggestion]:
    ids = [int(hit) for hit in hits.ids]
    regions = regions_by_embedding_id(ids, ask.region.pipeline, ask.collections, ask.viewer)
    named = {hit: region for hit, region in regions.items() if _counts(region, ask)}
    people = {hit: region.person_id for hit, region in named.items()}
    best = best_per_key(zip(ids, hits.distances.tolist(), strict=True), named, people, ask.most)
    return [_suggestion(region, distance, ask.model) for region, distance in best]


def _counts(region: Region, ask: _Ask) -> bool:
    person = region.person
    if person is None or region.pk == ask.region.pk or person.merged_into_id is not None:
        return False
    return person.pk not in ask.left_out and person.pk != ask.region.person_id


def _suggestion(region: Region, distance: float, model: EmbeddingModel) -> Suggestion:
    assert region.person is not None
    likeness = None
    same, near = measured(model)
    if same is not None:
        likeness = SAME if distance <= same else NEAR
    score = similarity(distance, same, near)
    return Suggestion(region.person, region, distance, score, likeness)
