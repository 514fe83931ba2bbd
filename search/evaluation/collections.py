"""A collection's stored embeddings with the labels that people gave: nothing is detected or embedded anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from catalog.models import Collection, Embedding, EmbeddingModel, Image, Region
from catalog.querysets import ImageQuerySet, findable
from catalog.regions import FACE
from catalog.vision.types import Box
from search.evaluation.labelled import (
    MOST_STORED,
    Item,
    Labelled,
    LabelsAre,
    LeftOut,
    Missed,
    QueriesInCatalogue,
    Reading,
    drawn_by_key,
    in_both,
)

FIELDS = (
    "id",
    "region__id",
    "region__x",
    "region__y",
    "region__width",
    "region__height",
    "region__person",
    "region__person__name",
    "region__image__id",
    "region__image__sha256",
    "region__image__label",
    "region__image__title",
    "region__image__original_name",
)

CHUNK = 2_000  # rows read at a time


@dataclass(frozen=True, slots=True)
class _Found:
    """A region with the id of its embedding, and both labels that it may have."""

    embedding: int
    item: Item
    person: str
    person_key: str
    image_label: str


def read_collection(collection: Collection, model: EmbeddingModel) -> Reading:
    """The vectors of this model of all findable images, dismissed regions left out.

    Whole images carry the label of their image. Faces carry the person they were named as, or the label of their image
    where that shows a single face; which of the two the collection is evaluated by says whatever labels more of its
    faces. They are never mixed: one may call somebody differently from the other. Of more than MOST_STORED vectors so
    many are drawn before any is read.
    """
    found = [_found(row) for row in _rows(collection, model)]
    labels_are, chosen = _labelled(found, model.pipeline)
    images = Image.objects.filter(findable(), collection=collection)
    missed = _without_region(images, model, only_labelled=labels_are is LabelsAre.IMAGES)
    kept = {item.key for _, item in chosen}
    taken = [chosen[row] for row in drawn_by_key([item.key for _, item in chosen], MOST_STORED)]
    return Reading(
        what=f"the collection {collection.name}",
        labels_are=labels_are,
        images=images.count(),
        labelled=_with_vectors(taken, model),
        missed=tuple(missed),
        left_out=tuple(_left_out(each, labels_are) for each in found if each.item.key not in kept),
        drawn_from=len(chosen) if len(taken) < len(chosen) else 0,
        people=_people(found) if labels_are is LabelsAre.PEOPLE else {},
    )


def check_not_in(queries: Reading, collection: Collection) -> None:
    """Raises QueriesInCatalogue where a query's file is in the collection, labelled or not."""
    wanted = {item.sha256: item.name for item in queries.labelled.items}
    there = Image.objects.filter(collection=collection, sha256__in=list(wanted)).order_by("pk")
    pairs = [f"{wanted[image.sha256]} (there {image})" for image in there.only("sha256", "title", "original_name")]
    if pairs:
        raise QueriesInCatalogue(in_both(pairs))


def _rows(collection: Collection, model: EmbeddingModel) -> Iterable[dict[str, Any]]:
    embeddings = Embedding.objects.filter(
        findable("region__image__"), model=model, region__dismissed=False, region__image__collection=collection
    )
    yield from embeddings.order_by("id").values(*FIELDS).iterator(chunk_size=CHUNK)


def _with_vectors(chosen: Sequence[tuple[_Found, Item]], model: EmbeddingModel) -> Labelled:
    """By ascending embedding; without what was deleted since it was chosen."""
    items, vectors = [], []
    for start in range(0, len(chosen), CHUNK):
        wanted = {each.embedding: item for each, item in chosen[start : start + CHUNK]}
        rows = Embedding.objects.filter(pk__in=wanted).order_by("pk").values_list("pk", "vector")
        for key, vector in rows:
            items.append(wanted[key])
            vectors.append(np.frombuffer(vector, dtype="<f4"))
    stacked = np.array(vectors, np.float32).reshape(len(items), model.dimension)
    return Labelled(stacked, tuple(items))


def _found(row: dict[str, Any]) -> _Found:
    name = row["region__image__title"] or row["region__image__original_name"] or str(row["region__image__id"])
    box = Box(row["region__x"], row["region__y"], row["region__width"], row["region__height"])
    item = Item(str(row["region__id"]), name, "", row["region__image__sha256"], box)
    person = row["region__person__name"] or ""
    return _Found(row["id"], item, person, str(row["region__person"] or ""), row["region__image__label"])


def _people(found: Iterable[_Found]) -> dict[str, str]:
    return {each.person: each.person_key for each in found if each.person}


def _labelled(found: Sequence[_Found], pipeline: str) -> tuple[LabelsAre, list[tuple[_Found, Item]]]:
    by_image = [(each, each.image_label) for each in found]
    if pipeline != FACE:
        return LabelsAre.IMAGES, _with_labels(by_image, with_box=False)
    faces = Counter(each.item.sha256 for each in found)
    single = _with_labels([(each, label if faces[each.item.sha256] == 1 else "") for each, label in by_image])
    named = _with_labels([(each, each.person) for each in found])
    return (LabelsAre.PEOPLE, named) if len(named) > len(single) else (LabelsAre.IMAGES, single)


def _with_labels(labels: Iterable[tuple[_Found, str]], *, with_box: bool = True) -> list[tuple[_Found, Item]]:
    return [
        (each, Item(each.item.key, each.item.name, label, each.item.sha256, each.item.box if with_box else None))
        for each, label in labels
        if label
    ]


def _left_out(found: _Found, labels_are: LabelsAre) -> LeftOut:
    if labels_are is LabelsAre.PEOPLE:
        return LeftOut(found.item.name, "a face that nobody named")
    if found.image_label:
        return LeftOut(found.item.name, "it shows several faces, and nothing says which one its label means")
    return LeftOut(found.item.name, "it has no label")


def _without_region(images: ImageQuerySet, model: EmbeddingModel, *, only_labelled: bool) -> list[Missed]:
    """Those of the images in which this pipeline found nothing, or nothing that anybody left standing."""
    shown = Region.objects.filter(pipeline=model.pipeline, dismissed=False, embeddings__model=model)
    without = images.exclude(pk__in=shown.values("image")).order_by("pk")
    if only_labelled:
        without = without.exclude(label="")
    rows = without.only("title", "original_name", "label")
    return [Missed(str(image), image.label if only_labelled else "") for image in rows]
