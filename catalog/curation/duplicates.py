"""What becomes of two images that look alike: both are kept, one is a version of the other, or one of them goes.

The image that came later is asked about (``NearDuplicate.image``). What is decided releases it, where it was held,
nothing else is left to choose and its job runs. Raises Gone where somebody deleted one of the two meanwhile, and
CurationError where somebody else has decided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from django.contrib.auth.models import User
from django.db import models, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from catalog import uploads
from catalog.curation.errors import CurationError, Gone
from catalog.curation.faces import name_face
from catalog.curation.log import Kind, record
from catalog.curation.people import lock_people
from catalog.duplicates.discarded import discard_for
from catalog.duplicates.finding import compare
from catalog.duplicates.holding import release_settled
from catalog.duplicates.noting import note_of
from catalog.intake.holding import lock_jobs_of
from catalog.models import Image, IntakeLine, NearDuplicate, Region
from catalog.naming import rejected_people
from catalog.regions import FACE, best_match
from catalog.vision.types import Box

INHERITED = ("title", "label", "external_id", "link", "source_url", "licence")


Refused = list[tuple[NearDuplicate, str]]  # what was not decided, and why


class Choice(models.TextChoices):
    KEEP = "keep", "keep both"
    VERSION = "version", "link as a version"
    REPLACE = "replace", "replace the older one"
    DISCARD = "discard", "discard the new one"


DELETING = frozenset({Choice.REPLACE, Choice.DISCARD})


@dataclass(frozen=True, slots=True)
class Decided:
    """``image`` came later, ``other`` was here; None for the one that is gone now. ``said``: what was done."""

    choice: Choice
    image: UUID | None
    other: UUID | None
    said: str


@transaction.atomic
def decide(noted: NearDuplicate, choice: Choice, user: User) -> Decided:
    """Do what was chosen for ``noted``.

    keep: nothing but that. version: the later one is a version of the other, or of what that is a version of; its own
    versions go along. replace: the later one takes the place of the other, which is deleted (see ``_replace``).
    discard: the later one is deleted.
    """
    lock_jobs_of([noted.image_id])  # before its images, as everybody does (catalog.intake.holding)
    images = _locked(noted)
    row = NearDuplicate.objects.select_for_update().filter(pk=noted.pk).first()
    if row is None or not {row.image_id, row.other_id} <= images.keys():
        raise Gone("One of these two images is gone: somebody deleted or replaced it meanwhile.")
    if row.decision:
        who = f"{row.decided_by} has" if row.decided_by else "Somebody has"
        raise CurationError(f"{who} decided already: {row.get_decision_display()}.")
    image, other = images[row.image_id], images[row.other_id]
    if image.collection_id != other.collection_id:
        raise Gone("These two images are no longer in the same collection: somebody moved one of them meanwhile.")
    return _DECIDE[choice](row, image, other, user)


def decide_all(noted: Sequence[NearDuplicate], choice: Choice, user: User) -> tuple[int, Refused]:
    """``decide`` for each, each for itself: how many were decided, and each that was not with the reason.

    Where one choice deletes an image, the other choices about it have gone with it: they count as decided, but for
    those that are asked anew about what has taken its place.
    """
    refused: Refused = []
    gone: dict[UUID, UUID | None] = {}  # and what has taken its place
    for each in noted:
        if gone.keys() & {each.image_id, each.other_id}:
            refused += _asked_anew(each, gone)
            continue
        try:
            decide(each, choice, user)
        except CurationError as error:
            refused.append((each, str(error)))
        else:
            gone |= {each.image_id: None} if choice == Choice.DISCARD else {}
            gone |= {each.other_id: each.image_id} if choice == Choice.REPLACE else {}
    return len(noted) - len(refused), refused


def _asked_anew(noted: NearDuplicate, gone: Mapping[UUID, UUID | None]) -> Refused:
    """Where what it looks like was replaced, and it looks like what is there instead, too."""
    now: UUID | None = noted.other_id
    while now is not None and now in gone:
        now = gone[now]
    anew = NearDuplicate.objects.filter(image=noted.image_id, other=now, decision=NearDuplicate.Decision.OPEN)
    return [(noted, f"It is asked about anew: it looks like {each.other}, too.") for each in anew[:1]]


@transaction.atomic
def unlink_version(image: Image, user: User) -> None:
    """It is an image of its own again. Raises Gone, CurationError where it is no version."""
    row = Image.objects.select_for_update().filter(pk=image.pk).first()
    if row is None:
        raise Gone("This image is gone: somebody deleted it in this moment.")
    if row.version_of is None:
        raise CurationError("This image is no version of another one.")
    record(user, row, f"No longer a version of {row.version_of}.")
    row.version_of = None
    row.save(update_fields=["version_of"])


def _locked(noted: NearDuplicate) -> dict[UUID, Image]:
    """Both images, what is linked with them as versions, and what waits because it looks like the older one, in the
    order of their keys, as they are now: all that any choice refers to."""
    two = [noted.image_id, noted.other_id]
    linked = Image.objects.filter(Q(pk__in=two) | Q(version_of__in=two) | Q(versions__in=two))
    keys = set(linked.order_by().values_list("pk", flat=True))
    keys |= set(_waiting_for(noted.other_id).values_list("image", flat=True))
    rows = Image.objects.select_for_update().filter(pk__in=keys).order_by("pk")
    return {row.pk: row for row in rows}


def _waiting_for(other: UUID) -> QuerySet[NearDuplicate]:
    """What nobody has decided about those that look like this one."""
    return NearDuplicate.objects.filter(other=other, decision=NearDuplicate.Decision.OPEN)


def _settle(image: Image) -> None:
    """Let go of what was held, where nothing else is left to choose."""
    if release_settled(Image.objects.filter(pk=image.pk)):
        transaction.on_commit(partial(uploads.nudge, image.pk))


def _close(row: NearDuplicate, decision: NearDuplicate.Decision, user: User) -> None:
    row.decision, row.decided_by, row.decided_at = decision, user, timezone.now()
    row.save(update_fields=["decision", "decided_by", "decided_at"])


# --- The choices ------------------------------------------------------------------------------------------------------


def _keep(row: NearDuplicate, image: Image, other: Image, user: User) -> Decided:
    _close(row, NearDuplicate.Decision.KEEP, user)
    record(user, image, f"Kept beside {other}, which it looks like.")
    _settle(image)
    return Decided(Choice.KEEP, image.pk, other.pk, f"{image} and {other} are both kept.")


def _link(row: NearDuplicate, image: Image, other: Image, user: User) -> Decided:
    first = other.version_of or other
    if first.pk not in {image.pk, image.version_of_id}:  # else they are versions of one image already
        if image.version_of_id:
            raise CurationError(f"{image} is a version of {image.version_of} already. Keep both here.")
        Image.objects.filter(version_of=image).update(version_of=first)
        image.version_of = first
        image.save(update_fields=["version_of"])
        record(user, image, f"Linked as a version of {first}.")
    _close(row, NearDuplicate.Decision.VERSION, user)
    _settle(image)
    return Decided(Choice.VERSION, image.pk, other.pk, f"{image} and {other} are versions of one image now.")


def _discard(row: NearDuplicate, image: Image, other: Image, user: User) -> Decided:
    record(user, image, f"Deleted from {image.collection.name}: it looks like {other}.", Kind.DELETED)
    discard_for(image, other, user)
    Image.objects.filter(pk=image.pk).delete()
    return Decided(Choice.DISCARD, None, other.pk, f"{image} was deleted, {other} stays.")


def _replace(row: NearDuplicate, image: Image, other: Image, user: User) -> Decided:
    """``image`` takes the place of ``other``, which is deleted with its files.

    It gets title, label, external id, link, source address and licence where its own are empty, and all tags. It is
    published if both were: nothing that was hidden on either side is shown by it. Versions of ``other`` become its
    versions, and what waits for a choice because it looks like ``other`` is compared with it. For names on faces see
    ``_hand_on_names``.
    """
    _hand_on_facts(image, other)
    lost = _hand_on_names(image, other, row.is_mirrored, user)
    _hand_on_choices(image, other)
    lost_words = f" Name again who was on it: {', '.join(lost)}." if lost else ""
    record(user, image, f"Took the place of {other}.{lost_words}")
    record(user, other, f"Deleted from {other.collection.name}: replaced by {image}.", Kind.DELETED)
    said = f"{image} took the place of {other}.{lost_words}"
    discard_for(other, image, user)
    Image.objects.filter(pk=other.pk).delete()
    _settle(image)
    return Decided(Choice.REPLACE, image.pk, None, said)


_DECIDE = {Choice.KEEP: _keep, Choice.VERSION: _link, Choice.REPLACE: _replace, Choice.DISCARD: _discard}


# --- What the newer one is given --------------------------------------------------------------------------------------


def _hand_on_facts(image: Image, other: Image) -> None:
    for name in INHERITED:
        setattr(image, name, getattr(image, name) or getattr(other, name))
    image.is_published = image.is_published and other.is_published
    if image.version_of_id in (None, other.pk):
        image.version_of_id = other.version_of_id if other.version_of_id != image.pk else None
    image.save(update_fields=[*INHERITED, "is_published", "version_of"])
    Image.objects.filter(version_of=other).exclude(pk=image.pk).update(version_of=image.version_of_id or image.pk)
    image.tags.add(*other.tags.all())


def _hand_on_choices(image: Image, other: Image) -> None:
    """Which others look like ``other`` and were not decided about: they look like ``image`` now.

    How much is measured anew, and may be less than what is noted otherwise.
    """
    waiting = _waiting_for(other.pk).exclude(image=image)
    known = Q(image=image) | Q(other=image)
    paired = {key for pair in NearDuplicate.objects.filter(known).values_list("image", "other") for key in pair}
    for each in waiting.select_related("image"):
        likeness = compare(each.image, image)
        if each.image_id not in paired and likeness is not None:
            note_of(likeness).save()


def _hand_on_names(image: Image, other: Image, is_mirrored: bool, user: User) -> list[str]:
    """Name the faces of ``image`` as those of ``other`` were; returns the names that have no face here.

    Only where it is safe: a face that lies where the named one lay (IoU >= 0.5 in the measures of ``image``, mirrored
    where it is), that nobody has named, and of which nobody said that it is not this person. An image that was not
    looked at yet has no faces: where ``other`` had exactly one face the name waits for it, as at intake
    (``IntakeLine.person_name``).
    """
    faces = list(Region.objects.filter(image=other, pipeline=FACE, dismissed=False).select_related("person"))
    named = [face for face in faces if face.person]
    if image.processed_at is None:
        waits = len(faces) == len(named) == 1 and _name_once_found(image, named[0])
        return [] if waits else [str(face.person) for face in named]
    lock_people([face.person_id for face in named if face.person_id])  # each is locked again when it is named
    free = list(Region.objects.filter(image=image, pipeline=FACE, dismissed=False).select_related("person"))
    places = [(face, _in_measures(face, image, other, is_mirrored)) for face in named]
    return [str(face.person) for face, place in places if not _name_same_face(face, free, place, user)]


def _name_once_found(image: Image, face: Region) -> bool:
    """Where nobody asked for another name when it was put in."""
    lines = IntakeLine.objects.filter(image=image)
    if lines.exclude(person_name="").exists():
        return False
    line = lines.order_by("id").first()
    if line is None or face.person is None:
        return False
    line.person_name = face.person.name
    line.save(update_fields=["person_name"])
    return True


def _name_same_face(face: Region, free: list[Region], place: Box, user: User) -> bool:
    """Whether the face that lies at ``place`` has the same name now; it is taken out of ``free``."""
    best = best_match(place, free)
    if best is None or face.person is None:
        return False
    free.remove(best)
    if best.person_id is None and face.person_id not in rejected_people(best):
        name_face(best, face.person, user)
        return True
    return best.person_id == face.person_id


def _in_measures(face: Region, image: Image, other: Image, is_mirrored: bool) -> Box:
    """The box of a face of ``other`` in pixels of ``image``."""
    across, down = image.width / other.width, image.height / other.height
    left = other.width - face.x - face.width if is_mirrored else face.x
    return Box(left * across, face.y * down, face.width * across, face.height * down)
