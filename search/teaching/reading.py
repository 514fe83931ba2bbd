"""What staff said of images and faces, with the stored vectors: nothing is detected or embedded anew."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from django.db.models import Count, QuerySet
from numpy.typing import NDArray

from catalog.models import Collection, Embedding, EmbeddingModel
from catalog.querysets import findable
from catalog.vision.types import Box
from search.evaluation.labelled import Item, Labelled

CHUNK = 2_000  # vectors read in a query
THE_SAME = 0.5  # overlap (intersection over union) of two boxes of one file from which on they are of one face

AGAIN = "the same file again"
SEVERAL_LABELS = "a file with several labels"
SEVERAL_PEOPLE = "a face that is somebody else in another copy of its file"
SEVERAL_REGIONS = "an image with several regions: nothing says which one its label means"


class LabelSource(StrEnum):
    """Where classes come from: the labels of images, or the people that faces were named as."""

    LABELS = "labels"
    PEOPLE = "people"


@dataclass(frozen=True, slots=True)
class Statement:
    """One embedding and its class: the label of its image, or the key of a person."""

    embedding: int
    region: str
    name: str
    label: str
    sha256: str
    box: Box


@dataclass(slots=True)
class Statements:
    """In the order of class, file, region, whatever the order of uploads was. ``left_out``: reason to how many."""

    said: list[Statement] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def counts(self) -> Counter[str]:
        return Counter(each.label for each in self.said)


def read_statements(model: EmbeddingModel, source: LabelSource, collection: Collection | None) -> Statements:
    """All that staff said of ready images that have an embedding of ``model``; dismissed regions say nothing.

    A file counts once for a class, in however many collections it is, so that no copy of it can be on both sides of a
    split. By labels a file with several labels, and an image with several regions, is left out; by people a face that
    bears two names in two copies of its file.
    """
    rows = _rows(model, source, collection)
    statements = Statements()
    if source is LabelSource.LABELS:
        rows = _of_one_region(rows, statements.left_out)
        rows = _of_one_label(rows, statements.left_out)
    else:
        rows = _of_one_person(rows, statements.left_out)
    seen: set[tuple[str, str]] = set()
    for row in sorted(rows, key=lambda row: (row.label, row.sha256, row.region)):
        if (row.label, row.sha256) in seen:
            statements.left_out[AGAIN] += 1
        else:
            seen.add((row.label, row.sha256))
            statements.said.append(row)
    return statements


def counted(model: EmbeddingModel, source: LabelSource, collection: Collection | None) -> Counter[str]:
    """At most so many examples each class has, by one query: some of them `read_statements` may leave out."""
    files = Count("region__image__sha256", distinct=True)
    rows = _embeddings(model, source, collection).order_by().values_list(_label(source)).annotate(files)
    return Counter({str(label): count for label, count in rows})


def _label(source: LabelSource) -> str:
    return "region__person" if source is LabelSource.PEOPLE else "region__image__label"


def _embeddings(model: EmbeddingModel, source: LabelSource, collection: Collection | None) -> QuerySet[Embedding]:
    embeddings = Embedding.objects.filter(findable("region__image__"), model=model, region__dismissed=False)
    if collection is not None:
        embeddings = embeddings.filter(region__image__collection=collection)
    if source is LabelSource.PEOPLE:
        return embeddings.filter(region__person__isnull=False)
    return embeddings.exclude(region__image__label="")


def _rows(model: EmbeddingModel, source: LabelSource, collection: Collection | None) -> list[Statement]:
    fields = ("id", "region", "region__image", _label(source), "region__image__sha256")
    box = ("region__x", "region__y", "region__width", "region__height")
    rows = _embeddings(model, source, collection).order_by("id").values_list(*fields, *box)
    return [
        Statement(key, str(region), str(image), str(label), sha256, Box(*sides))
        for key, region, image, label, sha256, *sides in rows
    ]


def _of_one_region(rows: Sequence[Statement], left_out: Counter[str]) -> list[Statement]:
    regions = Counter(row.name for row in rows)
    alone = [row for row in rows if regions[row.name] == 1]
    left_out[SEVERAL_REGIONS] += len(rows) - len(alone)
    return alone


def _of_one_label(rows: Sequence[Statement], left_out: Counter[str]) -> list[Statement]:
    labels: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        labels[row.sha256].add(row.label)
    agreed = [row for row in rows if len(labels[row.sha256]) == 1]
    left_out[SEVERAL_LABELS] += len(rows) - len(agreed)
    return agreed


def _of_one_person(rows: Sequence[Statement], left_out: Counter[str]) -> list[Statement]:
    copies: dict[str, list[Statement]] = defaultdict(list)
    for row in rows:
        copies[row.sha256].append(row)
    agreed = [row for row in rows if not any(_contradicts(row, other) for other in copies[row.sha256])]
    left_out[SEVERAL_PEOPLE] += len(rows) - len(agreed)
    return agreed


def _contradicts(one: Statement, other: Statement) -> bool:
    return one.label != other.label and one.name != other.name and one.box.iou(other.box) >= THE_SAME


def with_vectors(said: Sequence[Statement], model: EmbeddingModel) -> Labelled:
    """Their vectors, float32 (n, dimension), in their order. What was deleted meanwhile is left out."""
    vectors: dict[int, NDArray[np.float32]] = {}
    for start in range(0, len(said), CHUNK):
        keys = [each.embedding for each in said[start : start + CHUNK]]
        vectors.update(_vectors(Embedding.objects.filter(pk__in=keys).values_list("id", "vector")))
    kept = [each for each in said if each.embedding in vectors]
    rows = [vectors[each.embedding] for each in kept]
    return Labelled(
        np.stack(rows) if rows else np.empty((0, model.dimension), np.float32),
        tuple(Item(each.region, each.name, each.label, each.sha256) for each in kept),
    )


def _vectors(rows: Iterable[Any]) -> dict[int, NDArray[np.float32]]:
    return {key: np.frombuffer(bytes(data), dtype="<f4").astype(np.float32, copy=False) for key, data in rows}
