"""What people say of a face: who it is, who it is not, that it is none, where it is.

Each waits for a worker that brings the image's regions up to date (catalog.storing), which would write over it, and
works on the row as it is then. All raise Gone where somebody deleted the region meanwhile. ``expected`` is the key of
the person as whom the user saw the face named (None: nobody; left out: whoever it is); where it is named otherwise by
now they raise FaceChanged.
"""

from __future__ import annotations

import math
from types import EllipsisType
from uuid import UUID

from django.contrib.auth.models import User
from django.db import transaction

from catalog.curation.errors import BadBox, CurationError, FaceChanged, Gone, NotAFace
from catalog.curation.log import record
from catalog.curation.merges import decided
from catalog.curation.people import cleaned_name, lock_current
from catalog.models import FaceRejection, Image, Person, Region
from catalog.naming import identities, person_named
from catalog.regions import FACE, box_of
from catalog.uploads import process_again
from catalog.vision.types import Box

Expected = UUID | EllipsisType | None

LEAST_SIDE = 10  # pixels of the original; below it there is nothing to tell people apart by


@transaction.atomic
def name_face(region: Region, name: str | Person, user: User, expected: Expected = ...) -> Region:
    """Name a face, by a name (whose person is made when new) or as a person; who was merged away is who they are now.

    A remembered "not this person" for the two is forgotten. Raises FaceChanged, NotAFace, BadName.
    """
    region = _locked(region)
    if region.pipeline != FACE:
        raise NotAFace("Only faces can be named, and this is a region of the whole image.")
    person = lock_current(name if isinstance(name, Person) else person_named(cleaned_name(name)))
    if region.person_id == person.pk:
        return region
    check_seen(region, expected)
    before = region.person
    FaceRejection.objects.filter(region=region, person__in=identities([person.pk])).delete()
    _set_person(region, person)
    was = f" (was {before.name})" if before else ""
    record(user, region.image, f"Named the {_where(region)} {person.name}{was}.")
    return region


@transaction.atomic
def unname_face(region: Region, user: User, expected: Expected = ...) -> Region:
    """Take the name off. Nothing is remembered: the same name may be suggested again. Raises FaceChanged."""
    region = _locked(region)
    if region.person is not None:
        check_seen(region, expected)
        record(user, region.image, f"Took the name {region.person.name} off the {_where(region)}.")
        _set_person(region, None)
    return region


@transaction.atomic
def reject_person(region: Region, person: Person, user: User, expected: Expected = ...) -> Region:
    """ "Not this person": the name goes if it was theirs, and no suggestion or intake names them here again.

    Raises FaceChanged, NotAFace.
    """
    region = _locked(region)
    if region.pipeline != FACE:
        raise NotAFace("Only faces are people, and this is a region of the whole image.")
    if region.person is not None:
        check_seen(region, expected)
    person = lock_current(person)
    _, new = FaceRejection.objects.get_or_create(region=region, person=person, defaults={"user": user})
    if region.person_id in identities([person.pk]):
        _set_person(region, None)
        new = True
    if new:
        record(user, region.image, f"Said that the {_where(region)} is not {person.name}.")
    return region


@transaction.atomic
def dismiss_region(region: Region, user: User) -> Region:
    """ "Not a face": found by no search, and kept so that a detector does not find it anew."""
    return _set_dismissed(_locked(region), True, user)


@transaction.atomic
def restore_region(region: Region, user: User) -> Region:
    """A face after all, with the name it had."""
    return _set_dismissed(_locked(region), False, user)


@transaction.atomic
def draw_region(image: Image, box: Box, user: User, pipeline: str = FACE) -> Region:
    """A box in pixels of the oriented original, clipped into it; the image is processed again to give it a vector.

    Raises BadBox, and CurationError where the image's collection does not run the pipeline.
    """
    image = _lock_image(image.pk)
    if pipeline not in image.collection.pipelines:
        raise CurationError(
            f"The collection {image.collection.name} does not look for this ({pipeline}). "
            "Switch it on in the collection first."
        )
    box = _inside(box, image)
    region = Region.objects.create(image=image, pipeline=pipeline, origin=Region.Origin.PERSON, **_columns(box))
    process_again([image.pk], interrupt=True)
    record(user, image, f"Drew a {_where(region)}.")
    return region


@transaction.atomic
def move_region(region: Region, box: Box, user: User) -> Region:
    """Another box, clipped into the image: from now on it is as a person drew it, and no detector moves it.

    What was computed from the old box goes; the image is processed again. Raises BadBox, NotAFace.
    """
    region = _locked(region)
    if region.pipeline != FACE:
        raise NotAFace("Only faces can be moved, and this is a region of the whole image.")
    box = _inside(box, region.image)
    if box == box_of(region):
        return region
    before = _where(region)
    region.x, region.y, region.width, region.height = box.x, box.y, box.width, box.height
    region.origin, region.score, region.landmarks = Region.Origin.PERSON, None, None
    region.save()
    region.embeddings.all().delete()
    process_again([region.image_id], interrupt=True)
    record(user, region.image, f"Moved the {before} to {_size(region)}.")
    return region


@transaction.atomic
def delete_region(region: Region, user: User, expected: Expected = ...) -> None:
    """What a person drew goes; what a detector found is dismissed, since it would find it again. Raises FaceChanged."""
    region = _locked(region)
    check_seen(region, expected)
    if region.origin == Region.Origin.DETECTOR or region.detector:
        _set_dismissed(region, True, user)
        return
    record(user, region.image, f"Deleted the drawn {_where(region)}{_named(region)}.")
    region.delete()


def check_seen(region: Region, expected: Expected) -> None:
    """Raises FaceChanged."""
    if isinstance(expected, EllipsisType) or region.person_id == expected:
        return
    is_now = f"named {region.person.name}" if region.person else "without a name"
    raise FaceChanged(f"Somebody changed this face meanwhile: it is {is_now} now. Look again, then decide.")


def _locked(region: Region) -> Region:
    """The region as it is once nobody else writes regions of its image."""
    image = _lock_image(region.image_id)
    row = Region.objects.select_for_update().filter(pk=region.pk).first()
    if row is None:
        raise Gone("This face is gone: somebody deleted it in this moment, or it was not found again.")
    row.image = image
    return row


def _lock_image(key: UUID) -> Image:
    row = Image.objects.select_for_update().filter(pk=key).first()
    if row is None:
        raise Gone("This image is gone: somebody deleted it in this moment.")
    return row


def _set_person(region: Region, person: Person | None) -> None:
    region.person = person
    region.save(update_fields=["person"])
    decided(region)


def _set_dismissed(region: Region, dismissed: bool, user: User) -> Region:
    if region.dismissed != dismissed:
        region.dismissed = dismissed
        region.save(update_fields=["dismissed"])
        verdict = "is not a face" if dismissed else "is a face after all"
        record(user, region.image, f"Said that the {_where(region)}{_named(region)} {verdict}.")
    return region


def _inside(box: Box, image: Image) -> Box:
    """Raises BadBox."""
    sides = (box.x, box.y, box.width, box.height)
    if not all(math.isfinite(side) for side in sides):
        raise BadBox("The box needs four numbers: left, top, width and height, in pixels.")
    clipped = box.clipped(image.width, image.height)
    if min(clipped.width, clipped.height) < LEAST_SIDE:
        raise BadBox(
            f"The box is too small, or outside of the image: it needs at least {LEAST_SIDE} x {LEAST_SIDE} pixels "
            f"within {image.width} x {image.height}."
        )
    return clipped


def _columns(box: Box) -> dict[str, float]:
    return {"x": box.x, "y": box.y, "width": box.width, "height": box.height}


def _where(region: Region) -> str:
    kind = "face" if region.pipeline == FACE else f"region ({region.pipeline})"
    return f"{kind} at {_size(region)}"


def _size(region: Region) -> str:
    return f"{region.x:.0f},{region.y:.0f} ({region.width:.0f} x {region.height:.0f} px)"


def _named(region: Region) -> str:
    return f" (named {region.person.name})" if region.person else ""
