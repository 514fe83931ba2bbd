"""What is done about images that look like one that is here, in the transaction that stores them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from catalog import locks
from catalog.database import locked_against_deletion
from catalog.duplicates.finding import Likeness, near_duplicates
from catalog.duplicates.words import likeness
from catalog.models import Collection, Image, NearDuplicate

AT_MOST = 5  # that are noted of one image: of a series somebody looks at the nearest
HELD = "It looks like {other} ({likeness}). Nothing runs on it until somebody chooses in the admin, Near duplicates."


def note_near_duplicates(collection: Collection, images: Sequence[Image]) -> list[NearDuplicate]:
    """Note which of ``images``, rows that this transaction has stored in the collection, look like one that is there.

    Also which look like one before them in ``images``. Where the collection says `hold` they are held, also in the
    objects given. Nothing is asked where it says `off`.

    Call it last in a short transaction: an advisory lock of the collection is held to its end, so that of two that
    store at the same moment the later one finds what the earlier one has stored (READ COMMITTED). Nobody who holds it
    may wait for rows that whoever waits for it could hold; what is noted is locked against deletion in the order of
    keys, after which only this transaction's own rows are written.
    """
    if collection.near_duplicates == Collection.NearDuplicates.OFF or not any(
        image.phash is not None for image in images
    ):
        return []
    locks.wait_for(f"visearch likeness {collection.pk}")
    found = _before_each(images, near_duplicates(collection.pk, images, AT_MOST + len(images)))
    others = locked_against_deletion(Image, {each.other for each in found}, "title", "original_name")
    notes = [note_of(each) for each in found if each.other in others]
    NearDuplicate.objects.bulk_create(notes)
    if collection.near_duplicates == Collection.NearDuplicates.HOLD:
        _hold(images, notes, others)
    return notes


def _before_each(images: Sequence[Image], found: Mapping[UUID, Sequence[Likeness]]) -> list[Likeness]:
    """Of two of the same batch the later one is noted, and the earlier one is what it looks like."""
    seen: set[UUID] = set()
    later = {image.pk for image in images}
    noted: list[Likeness] = []
    for image in images:
        noted += [each for each in found.get(image.pk, ()) if each.other in seen or each.other not in later][:AT_MOST]
        seen.add(image.pk)
    return noted


def note_of(found: Likeness) -> NearDuplicate:
    """The row of it, not saved yet."""
    return NearDuplicate(
        image_id=found.image, other_id=found.other, distance=found.distance, is_mirrored=found.is_mirrored
    )


def _hold(images: Sequence[Image], notes: Sequence[NearDuplicate], others: Mapping[UUID, Image]) -> None:
    nearest: dict[UUID, NearDuplicate] = {}
    for note in notes:  # nearest first
        nearest.setdefault(note.image_id, note)
    held = [image for image in images if image.pk in nearest]
    for image in held:
        note = nearest[image.pk]
        image.status, image.held_for = Image.Status.HELD, Image.HeldFor.NEAR_DUPLICATE
        image.reason = HELD.format(likeness=likeness(note.distance, note.is_mirrored), other=others[note.other_id])
    Image.objects.bulk_update(held, ["status", "held_for", "reason"])
