"""Embeddings of a model for all that another one, which serves, has embedded: computed from the images.

For a model that is no head of the serving one (catalog.filling moves vectors, in seconds). Here each image is opened
once more and its regions are embedded as they lie; nothing is detected. What was begun is kept: a second run does the
rest, and images are looked at while nobody has to wait for it.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet

from catalog import storage
from catalog.database import retry_while_away
from catalog.exceptions import StorageUnavailable
from catalog.filling import Progress
from catalog.models import Embedding, EmbeddingModel, Image
from catalog.regions import detection_of
from catalog.storing import vector_bytes
from catalog.vision import helper, registry
from catalog.vision.errors import ImageRefused
from catalog.vision.extract import embed_regions_of_many
from catalog.vision.types import DecodedImage, Detection

logger = logging.getLogger(__name__)

Work = dict[Image, list[Embedding]]  # the serving model's embeddings of the regions of an image

BATCH = 64  # embeddings, of one image or of several, that are stored in a transaction


def lacking(model: EmbeddingModel, among: Sequence[int] | None = None) -> QuerySet[Embedding]:
    """The serving model's embeddings (``among``: those of these ids) of regions of which ``model`` has none.

    Where it serves itself, or a head on it does, those of the model that served before: it may have begun to serve
    before all was computed (catalog.embedding_models.make_serving). Whoever moves a box deletes the embeddings of it or
    replaces them (catalog.regions, catalog.curation.faces), so one that is there is of the region as it lies.
    """
    mine = Embedding.objects.filter(model=model, region=OuterRef("region"))
    found = Embedding.objects.filter(~Exists(mine), model__in=_that_found(model))
    return found if among is None else found.filter(pk__in=among)


def _that_found(model: EmbeddingModel) -> list[EmbeddingModel]:
    """The one model whose embeddings say which regions there are, as far as there is one."""
    rows = EmbeddingModel.objects.filter(pipeline=model.pipeline)
    serving = rows.filter(state=EmbeddingModel.State.SERVING).first()
    if serving is not None and model.pk not in (serving.pk, serving.derived_from_id):
        return [serving]
    retired = rows.filter(state=EmbeddingModel.State.RETIRED, retired_at__isnull=False).exclude(pk=model.pk)
    return list(retired.order_by("-retired_at")[:1])


def fill(model: EmbeddingModel, progress: Progress | None = None, among: Sequence[int] | None = None) -> int:
    """Compute and store what it lacks, of all or ``among`` these of the serving model's embeddings; returns how many.

    An image that cannot be read is left out, and the log says why. Each batch is a transaction; whoever is interrupted
    goes on where it stopped, and two at once store nothing twice. Raises ModelUnavailable where the network's file is
    missing or altered, and StorageUnavailable where it is not an image's fault that it cannot be read.
    """
    total = lacking(model, among).count() if progress else 0
    done = 0
    for count, _ in batches(model, among=among):
        done += count
        if progress:
            progress(done, max(done, total))
    return done


def batches(
    model: EmbeddingModel, after_id: int = 0, size: int = BATCH, among: Sequence[int] | None = None
) -> Iterator[tuple[int, int]]:
    """As `fill`, ``size`` embeddings at a time: how many each batch has stored, and the last id that it looked at.

    Whoever stops asking has what was done; ``after_id`` goes on from there.
    """
    last_id = after_id
    while True:
        due = retry_while_away(partial(_due, model, last_id, size, among))
        if not due:
            return
        last_id = due[-1].pk
        vectors = _vectors(model, due)
        yield retry_while_away(partial(_store, model, due, vectors)), last_id


def _due(model: EmbeddingModel, after_id: int, size: int, among: Sequence[int] | None) -> list[Embedding]:
    due = lacking(model, among).filter(id__gt=after_id).order_by("id")
    return list(due.select_related("region__image").defer("vector")[:size])


def _vectors(model: EmbeddingModel, due: Sequence[Embedding]) -> dict[int, bytes]:
    """By the id of the serving model's embedding, what ``model`` makes of the same region.

    All at once; where that breaks, image by image, so that only the one at fault is left out.
    """
    by_image: Work = defaultdict(list)
    for row in due:
        by_image[row.region.image].append(row)
    try:
        return _embedded(model, by_image)
    except (ImageRefused, ValueError):
        found: dict[int, bytes] = {}
        for image, rows in by_image.items():
            try:
                found |= _embedded(model, {image: rows})
            except (ImageRefused, ValueError) as error:
                _leave_out(model, image, error)
        return found


def _embedded(model: EmbeddingModel, work: Work) -> dict[int, bytes]:
    """Without the images that cannot be read. Raises ImageRefused, ValueError where another gives no usable vector."""
    read: list[Embedding] = []

    def decoded() -> Iterator[tuple[DecodedImage, str, Sequence[Detection]]]:
        for image, rows in work.items():
            pixels = _decoded(model, image)
            if pixels is not None:
                read.extend(rows)
                yield pixels, model.pipeline, [detection_of(row.region) for row in rows]

    found = chain.from_iterable(embed_regions_of_many(decoded(), {model.pipeline: [model.embedder]}))
    return {row.pk: vector_bytes(each.vectors[model.embedder]) for row, each in zip(read, found, strict=True)}


def _decoded(model: EmbeddingModel, image: Image) -> DecodedImage | None:
    key = storage.original_key(image.pk, image.format)
    try:
        with storage.open_original(key) as file:
            return helper.read_image(file, key, registry.limits())
    except (ImageRefused, FileNotFoundError) as error:
        if isinstance(error, FileNotFoundError) and not storage.holds_originals():
            raise StorageUnavailable("The storage of originals is empty, or not there: mount it again.") from error
        _leave_out(model, image, error)
        return None
    except OSError as error:
        raise StorageUnavailable(
            f"The original of image {image.pk} cannot be read ({error.strerror or type(error).__name__}): "
            f"look after the storage of originals, or delete that image."
        ) from error


def _leave_out(model: EmbeddingModel, image: Image, error: Exception) -> None:
    logger.warning("image %s has no embeddings of %s: %s", image.pk, model, error)


@transaction.atomic
def _store(model: EmbeddingModel, due: Sequence[Embedding], vectors: dict[int, bytes]) -> int:
    """How many. Locks as catalog.storing does: the model's row (embedding ids commit in order), then the images.

    What is not there any more by its old id was moved, embedded again or deleted meanwhile: it comes later or never.
    """
    list(EmbeddingModel.objects.select_for_update().filter(pk=model.pk).values_list("pk"))
    Image.objects.filter(pk__in={row.region.image_id for row in due}).lock()
    still = lacking(model, list(vectors)).order_by("id").values_list("pk", "region")
    made = Embedding.objects.bulk_create(
        Embedding(region_id=region, model=model, dimension=model.dimension, vector=vectors[key])
        for key, region in still
    )
    return len(made)
