"""Embeddings of a taught model for all that its base has embedded: from stored vectors, by its head.

No image is opened, so a hundred thousand take minutes. What was begun is kept: a second run does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet

from catalog.database import retry_while_away
from catalog.models import Embedding, EmbeddingModel, Image
from catalog.storing import vector_bytes
from catalog.vision import registry

BATCH = 1000  # vectors in a transaction, for the length of which uploads to this pipeline wait

Progress = Callable[[int, int], None]  # how many are done, of how many


def lacking(model: EmbeddingModel, among: Sequence[int] | None = None) -> QuerySet[Embedding]:
    """The base's embeddings (``among``: those of these ids) for which this taught model has none, or an older one.

    A region that was processed again has a new vector of its base with a new id (catalog.models.Embedding).
    """
    mine = Embedding.objects.filter(model=model, region=OuterRef("region"), id__gt=OuterRef("id"))
    found = Embedding.objects.filter(~Exists(mine), model=model.derived_from)
    return found if among is None else found.filter(pk__in=among)


def fill(model: EmbeddingModel, progress: Progress | None = None, among: Sequence[int] | None = None) -> int:
    """Compute and store what it lacks, of all or ``among`` these of its base's embeddings; returns how many. ``model``
    must be a taught one.

    Each batch is a transaction; whoever is interrupted goes on where it stopped, and two at once share the work. What
    is stored for the base meanwhile may be lacking at the end: make_serving fills that under its lock. Raises
    ModelUnavailable where the head's file is missing or altered.
    """
    total = lacking(model, among).count() if progress else 0
    done = 0
    for count in batches(model, among):
        done += count
        if progress:
            progress(done, max(done, total))
    return done


def batches(model: EmbeddingModel, among: Sequence[int] | None = None) -> Iterator[int]:
    """As `fill`, batch by batch: how many each has stored. Whoever stops asking has what was done."""
    last_id = 0
    while True:
        count, last_id = retry_while_away(partial(_fill_batch, model, last_id, among))
        if not count:
            return
        yield count


@transaction.atomic
def _fill_batch(model: EmbeddingModel, after_id: int, among: Sequence[int] | None) -> tuple[int, int]:
    """How many, and the base's last id among them; 0 where nothing above ``after_id`` is lacking.

    Locks as catalog.storing does: first the models' rows (embedding ids commit in order, and nobody replaces a vector
    of the base meanwhile), then the images (whoever deletes one waits, and then finds what was stored for it).
    """
    models = EmbeddingModel.objects.filter(pk__in=[model.pk, model.derived_from_id])
    list(models.select_for_update().order_by("pk").values_list("pk"))
    above = lacking(model, among).filter(id__gt=after_id)
    due = list(above.order_by("id").values_list("id", "region__image")[:BATCH])
    if not due:
        return 0, after_id
    Image.objects.filter(pk__in={image for _, image in due}).lock()
    _store(model, Embedding.objects.filter(pk__in=[key for key, _ in due]).order_by("id"))
    return len(due), due[-1][0]


def _store(model: EmbeddingModel, of_base: QuerySet[Embedding]) -> None:
    rows: Sequence[Embedding] = list(of_base)  # read again: what was deleted before its image was locked is gone
    if not rows:
        return
    vectors = np.stack([np.frombuffer(bytes(row.vector), dtype="<f4") for row in rows])
    moved = registry.derived_embedder(model.embedder).from_base(vectors.astype(np.float32, copy=False))
    Embedding.objects.filter(model=model, region__in=[row.region_id for row in rows]).delete()
    Embedding.objects.bulk_create(
        Embedding(region_id=row.region_id, model=model, dimension=model.dimension, vector=vector_bytes(vector))
        for row, vector in zip(rows, moved, strict=True)
    )
