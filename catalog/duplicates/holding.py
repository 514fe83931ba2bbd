"""Images that wait for somebody's choice, and those for which there is nothing left to choose."""

from __future__ import annotations

from django.db.models import Exists, F, OuterRef, Q, QuerySet

from catalog.intake.holding import let_go
from catalog.models import Collection, Image, NearDuplicate
from catalog.querysets import ImageQuerySet, Viewer


def choices_of(user: Viewer | None) -> QuerySet[NearDuplicate]:
    """All that were noted in collections that this user edits (None: in all), decided or not, with both images.

    Two images that somebody has moved apart are no longer each other's.
    """
    together = NearDuplicate.objects.filter(image__collection=F("other__collection"))
    if user is not None:
        together = together.filter(image__collection__in=Collection.objects.editable_by(user))
    return together.select_related("image__collection", "other__collection")


def open_choices(user: Viewer | None) -> QuerySet[NearDuplicate]:
    return choices_of(user).filter(decision=NearDuplicate.Decision.OPEN)


def has_open_choice() -> Exists:
    """For images, as an annotation or filter."""
    return Exists(NearDuplicate.objects.filter(image=OuterRef("pk"), decision=NearDuplicate.Decision.OPEN))


def release_settled(images: ImageQuerySet | None = None) -> int:
    """Let go of what is held though nothing is left to choose: its choice was made, or the other image was deleted,
    whoever did it and however. How many of ``images`` (None: of all).

    They are queued, or held for their job where that does not run. Run by the sweep, which also tells the workers.
    """
    held = (Image.objects.all() if images is None else images).filter(
        status=Image.Status.HELD, held_for=Image.HeldFor.NEAR_DUPLICATE
    )
    return let_go(held.filter(~has_open_choice()))


def forget_moved(images: QuerySet[Image]) -> None:
    """Choices that are open between images of which some were moved to another collection, where they are strangers."""
    open_ones = NearDuplicate.objects.filter(decision=NearDuplicate.Decision.OPEN)
    touched = open_ones.filter(Q(image__in=images) | Q(other__in=images))
    apart = touched.exclude(image__collection=F("other__collection")).values("pk")
    rows = NearDuplicate.objects.select_for_update().filter(pk__in=apart).order_by("pk")  # others may move theirs
    NearDuplicate.objects.filter(pk__in=list(rows.values_list("pk", flat=True))).delete()
