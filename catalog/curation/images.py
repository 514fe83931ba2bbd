"""What staff decide of many images at once. Each takes a queryset and returns how many images it changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from django.contrib.auth.models import User
from django.db import models, transaction
from django.db.models import Func, Value

from catalog import uploads
from catalog.curation.errors import CurationError
from catalog.curation.log import Kind, record_all, record_each
from catalog.duplicates.holding import forget_moved
from catalog.models import Collection, Embedding, EmbeddingModel, Image
from catalog.querysets import ImageQuerySet

LABEL_LENGTH, TAG_LENGTH = 200, 100


@dataclass(frozen=True, slots=True)
class Moved:
    """How many images moved, and each that did not with the reason."""

    moved: int
    refused: list[tuple[Image, str]]


def publish(images: ImageQuerySet, user: User) -> int:
    return _set(images, user, "Published.", is_published=True)


def unpublish(images: ImageQuerySet, user: User) -> int:
    """No search shows them from now on, except to editors."""
    return _set(images, user, "Unpublished.", is_published=False)


def label(images: ImageQuerySet, label: str, user: User) -> int:
    """An empty one takes the label off. Raises CurationError for one that is too long."""
    label = _text(label, LABEL_LENGTH, "label")
    return _set(images, user, f"Labelled {label}." if label else "Took the label off.", label=label)


@transaction.atomic
def tag(images: ImageQuerySet, names: Sequence[str], user: User) -> int:
    """Add these tags; those that an image has stay. Raises CurationError where there is none, or one is too long."""
    clean = [name for name in (_text(name, TAG_LENGTH, "tag") for name in names) if name]
    if not clean:
        raise CurationError("Write at least one tag.")
    changed = []
    for image in _locked(images).prefetch_related("tags"):  # type: ignore[misc]  # taggit has no types
        new = set(clean) - {each.name for each in image.tags.all()}
        if new:
            image.tags.add(*new)
            changed.append(image)
    record_all(user, changed, f"Tagged {', '.join(clean)}.")
    return len(changed)


@transaction.atomic
def process_again(images: ImageQuerySet, user: User) -> int:
    """Those that wait or are being processed already are left alone."""
    idle = list(_locked(images).idle())
    count = uploads.process_again([image.pk for image in idle])
    record_all(user, idle, "Asked to process it again.")
    return count


@transaction.atomic
def delete(images: ImageQuerySet, user: User) -> int:
    """With their regions, embeddings and files; no search finds them from now on."""
    rows = list(_locked(images).prefetch_related("collection"))
    record_each(user, [(row, f"Deleted from {row.collection.name}.") for row in rows], Kind.DELETED)
    Image.objects.filter(pk__in=[image.pk for image in rows]).delete()
    return len(rows)


@transaction.atomic
def move(images: ImageQuerySet, collection: Collection, user: User) -> Moved:
    """Into another collection, whose searches find them at once.

    A file that the collection has already stays where it is. What the collection's pipelines lack is made by processing
    again; regions of pipelines that it does not run stay, and are not searched.
    """
    list(EmbeddingModel.objects.select_for_update().order_by("pk").values_list("pk"))  # ids commit in order
    rows = list(_locked(images).prefetch_related("collection"))
    known = set(collection.images.filter(sha256__in=[row.sha256 for row in rows]).values_list("sha256", flat=True))
    moving: list[Image] = []
    refused: list[tuple[Image, str]] = []
    for row in rows:
        if row.collection_id == collection.pk:
            refused.append((row, f"It is in {collection.name} already."))
        elif row.sha256 in known:
            refused.append((row, f"{collection.name} has the very same file already."))
        else:
            known.add(row.sha256)
            moving.append(row)
    _move(moving, collection, user)
    return Moved(len(moving), refused)


def _move(rows: Sequence[Image], collection: Collection, user: User) -> None:
    keys = [row.pk for row in rows]
    Image.objects.filter(pk__in=keys).update(collection=collection)
    _renew_embedding_ids(keys)
    forget_moved(Image.objects.filter(pk__in=keys))
    lacking = [row.pk for row in rows if set(collection.pipelines) - set(row.collection.pipelines)]
    uploads.process_again(lacking, interrupt=True)
    record_each(user, [(row, f"Moved from {row.collection.name} to {collection.name}.") for row in rows])


def _renew_embedding_ids(images: Sequence[UUID]) -> None:
    """An index holds each id with the collection it had. New ids are read from the database until the next build.

    The models' rows must be locked.
    """
    table = Embedding._meta.db_table
    sequence = Func(Value(table), Value("id"), function="pg_get_serial_sequence", output_field=models.TextField())
    new_id = Func(sequence, function="nextval", output_field=models.BigIntegerField())
    Embedding.objects.filter(region__image__in=images).update(id=new_id)


@transaction.atomic
def _set(images: ImageQuerySet, user: User, message: str, **values: object) -> int:
    """Write one value to those that have another."""
    changing = [row for row in _locked(images) if any(getattr(row, name) != value for name, value in values.items())]
    Image.objects.filter(pk__in=[row.pk for row in changing]).update(**values)
    record_all(user, changing, message)
    return len(changing)


def _locked(images: ImageQuerySet) -> ImageQuerySet:
    """The rows of a queryset of any shape, locked in the order of their keys."""
    keys = list(images.order_by().values_list("pk", flat=True))
    return Image.objects.filter(pk__in=keys).select_for_update().order_by("pk")


def _text(text: str, length: int, what: str) -> str:
    clean = " ".join(text.split())
    if len(clean) > length:
        raise CurationError(f"The {what} has {len(clean)} characters; {length} are the most.")
    if "\0" in clean:
        raise CurationError(f"The {what} has characters that cannot be written. Type it by hand.")
    return clean
