"""What was found in images and who it is: regions with embeddings that can be searched, people with their faces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from uuid import UUID

import numpy as np
from django.db import transaction
from django.db.models import Exists, F, Func, IntegerField, OuterRef, Q, QuerySet

from catalog.curation.people import lock_current
from catalog.doctor.findings import Check, Finding, Looking, Problem, pages
from catalog.embedding_models import serving_models
from catalog.keeping import is_filled
from catalog.models import Embedding, EmbeddingModel, Image, Person, PersonMerge, Region
from catalog.storing import is_usable, norm_of
from catalog.uploads import process_again
from catalog.vision import registry

Fill = EmbeddingModel.Fill

_AGAIN = "Run `manage.py doctor --fix`; where it comes back, delete the region or the image in the admin."
_QUEUES = "queues the image, to be processed again"

REGION_LACKING = Problem(
    "region-lacking", "a pipeline runs in the image's collection, but never ran on the image", _AGAIN, _QUEUES
)
EMBEDDING_LACKING = Problem(
    "embedding-lacking", "a region that no search finds: the model that serves has no embedding of it", _AGAIN, _QUEUES
)
EMBEDDING_MISFIT = Problem(
    "embedding-misfit",
    "an embedding whose pipeline, dimension or length is not its model's",
    "Run `manage.py doctor --fix`.",
    "deletes it, and where its model serves queues the image",
)
VECTOR_BAD = Problem(
    "vector-bad",
    "an embedding that no index can hold: not finite, or a norm near zero",
    "Run `manage.py doctor --fix`.",
    "deletes it, and where its model serves queues the image",
)
MERGED_WITH_FACES = Problem(
    "person-merged-with-faces",
    "a face of somebody who was merged into another person",
    "Run `manage.py doctor --fix`; where people are merged in a circle, undo one of the merges in the admin.",
    "gives the face to that person; undoing the merge gives it back",
)


# --- What no search finds ---------------------------------------------------------------------------------------------


def _lacking(looking: Looking) -> Iterator[Finding]:
    for pipeline in registry.pipelines().values():
        if pipeline.is_whole:
            for page in pages(_never_looked_at(pipeline.name), f"regions of {pipeline.name}", looking):
                yield from (
                    REGION_LACKING.of(str(image.pk), f"{image}: {pipeline.name}", partial(_again, image.pk))
                    for image in page
                )
    served = [model.pipeline for model in serving_models() if model.fill != Fill.ASKED or is_filled(model)]
    for region_page in pages(_without_embedding(served), "regions", looking):
        for region in region_page:
            yield EMBEDDING_LACKING.of(
                str(region.pk), f"{region} of {region.image_id}", partial(_again, region.image_id)
            )


def _never_looked_at(pipeline: str) -> QuerySet[Image]:
    """Ready images that a pipeline of whole images, which finds one region in each, has no region of."""
    regions = Region.objects.filter(image=OuterRef("pk"), pipeline=pipeline)
    ready = Image.objects.filter(status=Image.Status.READY, collection__pipelines__contains=[pipeline])
    return ready.filter(~Exists(regions))


def _without_embedding(pipelines: Sequence[str]) -> QuerySet[Region]:
    """``pipelines``: those whose serving model has all that it could get; one that was switched to at once is filled
    by the workers (catalog.keeping)."""
    found = Embedding.objects.filter(
        region=OuterRef("pk"), model__state=EmbeddingModel.State.SERVING, model__pipeline=OuterRef("pipeline")
    )
    shown = Region.objects.filter(image__status=Image.Status.READY, dismissed=False)
    return shown.filter(~Exists(found), pipeline__in=pipelines)


def _again(image_id: UUID) -> bool:
    process_again([image_id])  # one that is waiting already, or gone, is none's concern
    return True


# --- Embeddings that are not what they should be ----------------------------------------------------------------------


def _misfits(looking: Looking) -> Iterator[Finding]:
    """The database's own constraints forbid most of it: this holds after a restore without them, too."""
    length = Func(F("vector"), function="octet_length", output_field=IntegerField())
    wrong = (
        ~Q(region__pipeline=F("model__pipeline")) | ~Q(dimension=F("model__dimension")) | ~Q(length=F("dimension") * 4)
    )
    rows = Embedding.objects.annotate(length=length).filter(wrong).select_related("model", "region").defer("vector")
    for page in pages(rows, "embeddings", looking):
        for row in page:
            said = f"{row.dimension} numbers of {row.region.pipeline}, its model {row.model} is of {row.model.pipeline}"
            yield EMBEDDING_MISFIT.of(str(row.pk), said, partial(_discard, row.pk))


def _bad_vectors(looking: Looking) -> Iterator[Finding]:
    if not looking.deep:
        return
    for page in pages(Embedding.objects.only("vector", "region"), "vectors", looking):
        for row in page:
            norm = norm_of(np.frombuffer(bytes(row.vector), dtype="<f4"))
            if not is_usable(norm):
                yield VECTOR_BAD.of(str(row.pk), f"of region {row.region_id}, norm {norm:g}", partial(_discard, row.pk))


@transaction.atomic
def _discard(embedding_id: int) -> bool:
    """Locks as catalog.storing does: the models' rows, then the image. One of a model that does not serve is computed
    when it is filled the next time (catalog.filling)."""
    row = Embedding.objects.select_related("model", "region").defer("vector").filter(pk=embedding_id).first()
    if row is None:
        return True
    models = EmbeddingModel.objects.select_for_update().filter(Q(pk=row.model_id) | Q(derived_from=row.model_id))
    states = {model.state for model in models.order_by("pk")}
    Image.objects.filter(pk=row.region.image_id).lock()
    Embedding.objects.filter(pk=embedding_id).delete()
    if EmbeddingModel.State.SERVING in states:
        process_again([row.region.image_id])
    return True


# --- People -----------------------------------------------------------------------------------------------------------


def _faces_of_merged(looking: Looking) -> Iterator[Finding]:
    faces = Region.objects.filter(person__merged_into__isnull=False).select_related("person")
    for page in pages(faces, "faces", looking):
        for face in page:
            if face.person is not None:
                yield MERGED_WITH_FACES.of(str(face.pk), f"{face.person}", partial(_hand_on, face.pk))


@transaction.atomic
def _hand_on(region_id: UUID) -> bool:
    """Locks as catalog.curation does: the image, then the people. False where they are merged in a circle."""
    Image.objects.filter(regions=region_id).lock()
    face = Region.objects.select_related("person").filter(pk=region_id).first()
    if face is None or face.person is None or face.person.merged_into_id is None:
        return True
    merged = face.person
    if merged.current().merged_into_id is not None:
        return False
    face.person = lock_current(merged)
    face.save(update_fields=["person"])
    _note_move(merged, region_id)
    return True


def _note_move(merged: Person, region_id: UUID) -> None:
    merges = PersonMerge.objects.filter(gone=merged, undone_at=None)
    for merge in merges.select_for_update(of=("self",), no_key=True).exclude(regions__contains=[str(region_id)]):
        merge.regions = [*merge.regions, str(region_id)]
        merge.save(update_fields=["regions"])


CHECKS = (
    Check("what no search finds", (REGION_LACKING, EMBEDDING_LACKING), _lacking),
    Check("embeddings and their models", (EMBEDDING_MISFIT,), _misfits),
    Check("vectors", (VECTOR_BAD,), _bad_vectors),
    Check("faces of merged people", (MERGED_WITH_FACES,), _faces_of_merged),
)
