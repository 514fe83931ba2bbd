"""What others may read of the catalogue: streams of vectors for the index, and rows for the hits of a search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np
from django.db import connection
from django.db.models import Count, Max
from numpy.typing import NDArray

from catalog.models import Collection, Embedding, EmbeddingModel, Region
from catalog.querysets import RegionQuerySet, findable

if TYPE_CHECKING:
    from catalog.querysets import Viewer

VectorChunk = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class VectorState:
    """How many embeddings a model has and the highest id among them (0 when none)."""

    count: int
    highest_id: int


def vector_state(model: EmbeddingModel, after_id: int = 0) -> VectorState:
    newer = Embedding.objects.filter(model=model, id__gt=after_id)
    row = newer.aggregate(count=Count("id"), highest=Max("id"))
    return VectorState(row["count"], row["highest"] or 0)


def iter_vectors(
    model: EmbeddingModel, after_id: int = 0, chunk_size: int = 10_000, up_to_id: int | None = None
) -> Iterator[VectorChunk]:
    """A model's vectors with ``after_id`` < id <= ``up_to_id``, ordered by id, in chunks of at most ``chunk_size``.

    Each chunk: ids int64 (n,), vectors float32 (n, dimension), collection keys int64 (n,) (Collection.index_key).
    Each chunk is a query of its own beginning after the last id, so no cursor has to live through a long build.
    """
    while True:
        rows = Embedding.objects.filter(model=model, id__gt=after_id).order_by("id")
        if up_to_id is not None:
            rows = rows.filter(id__lte=up_to_id)
        chunk = list(rows.values_list("id", "vector", "region__image__collection")[:chunk_size])
        if not chunk:
            return
        yield _as_arrays(chunk, model.dimension)
        after_id = chunk[-1][0]


def _as_arrays(chunk: Sequence[tuple[int, bytes | memoryview, UUID]], dimension: int) -> VectorChunk:
    ids = np.fromiter((row[0] for row in chunk), dtype=np.int64, count=len(chunk))
    vectors = np.frombuffer(b"".join(row[1] for row in chunk), dtype="<f4").reshape(len(chunk), dimension)
    keys = np.fromiter((Collection(id=row[2]).index_key for row in chunk), dtype=np.int64, count=len(chunk))
    return ids, vectors.astype(np.float32, copy=False), keys


def regions_by_embedding_id(
    ids: Sequence[int], pipeline: str, collections: Sequence[UUID] | None, viewer: Viewer
) -> dict[int, Region]:
    """The regions of those hits that may be shown: not dismissed, of images this viewer may see, in these collections.

    Faces only where the viewer may search faces. Image, collection and person come along in the same query.
    """
    rows = (
        Embedding.objects.filter(id__in=list(ids), region__in=_shown(pipeline, collections, viewer))
        .select_related("region__image__collection", "region__person")
        .defer("vector")
    )
    return {row.pk: row.region for row in rows}


def shown_embedding_ids(
    model: EmbeddingModel, collections: Sequence[UUID] | None, viewer: Viewer, label: str = ""
) -> NDArray[np.int64]:
    """All hits of this model that ``regions_by_embedding_id`` would show, in order; of this label, if one is given.

    Reads a row of each embedding, image and region: a second for some hundred thousand.
    """
    regions = _shown(model.pipeline, collections, viewer).filter(embeddings__model=model)
    if label:
        regions = regions.filter(image__label=label)
    ids = regions.order_by().values_list("embeddings__pk", flat=True)
    return np.sort(np.fromiter(ids, dtype=np.int64))


def _shown(pipeline: str, collections: Sequence[UUID] | None, viewer: Viewer) -> RegionQuerySet:
    regions = Region.objects.visible_to(viewer).filter(findable("image__"), dismissed=False, pipeline=pipeline)
    return regions if collections is None else regions.filter(image__collection__in=collections)


def last_embedding_id() -> int:
    """The highest that was ever given out, also to rows that are gone: no sequence of Postgres goes back by itself."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT COALESCE(pg_sequence_last_value(pg_get_serial_sequence(%s, 'id')::regclass), 0)",
            [Embedding._meta.db_table],
        )
        (last,) = cursor.fetchone()
    return int(last)


def vector_of_region(region: Region, model: EmbeddingModel) -> NDArray[np.float32] | None:
    """The stored vector of a region by this model, float32 (dimension,), or None where it has none yet."""
    row = Embedding.objects.filter(region=region, model=model).values_list("vector", flat=True).first()
    return None if row is None else np.frombuffer(bytes(row), dtype="<f4").astype(np.float32, copy=False)
