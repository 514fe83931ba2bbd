"""Whose turn it is: images are claimed with a lease and finished, failed or given back by their claimer.

A claim is a token of its own (host, process, random). Whoever comes back after its lease has run out finds another
token in the row and changes nothing.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Case, F, Value, When
from django.utils import timezone

from catalog.models import Image, IntakeLine
from catalog.querysets import ImageQuerySet

PROCESSING_FAILED = "processing-failed"  # the code of a line whose file was stored, but not made searchable
RETRY_AFTER = timedelta(seconds=30)
GAVE_UP = "The worker died on this image {attempts} times; it is not tried again. Read its log, then process again."


def claim(first: UUID | None, size: int) -> tuple[str, list[Image]]:
    """Claim up to ``size`` waiting images, beginning with ``first``; the token of the claim and the images.

    An image that was tried before is claimed alone, so that one that kills its worker takes no others along; after
    VISEARCH_MAX_ATTEMPTS tries it fails with the reason.
    """
    token = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    with transaction.atomic():
        _fail_worn()
        images = _alone_if_tried(_lock_waiting(first, size))
        Image.objects.filter(pk__in=[image.pk for image in images]).update(
            status=Image.Status.PROCESSING,
            claimed_by=token,
            lease_until=_lease(),
            attempts=F("attempts") + 1,
        )
    return token, images


def _fail_worn() -> None:
    """Give up what was tried too often; all of it, so that an empty claim means that nothing waits."""
    worn = Image.objects.pending().filter(attempts__gte=settings.VISEARCH_MAX_ATTEMPTS)
    for image in worn.select_for_update(skip_locked=True):
        _fail(Image.objects.filter(pk=image.pk), GAVE_UP.format(attempts=image.attempts))


def _lock_waiting(first: UUID | None, size: int) -> list[Image]:
    waiting = Image.objects.pending().filter(attempts__lt=settings.VISEARCH_MAX_ATTEMPTS).select_related("collection")
    waiting = waiting.select_for_update(skip_locked=True, of=("self",))
    mine_first = Case(When(pk=first, then=Value(0)), default=Value(1))
    return list(waiting.order_by(mine_first, "id")[:size])


def _alone_if_tried(images: list[Image]) -> list[Image]:
    tried = [image for image in images if image.attempts]
    return tried[:1] if tried and tried[0] is images[0] else [image for image in images if not image.attempts]


def held_by(token: str) -> ImageQuerySet:
    """The images that this claim still holds."""
    return Image.objects.filter(claimed_by=token, status=Image.Status.PROCESSING)


def renew(token: str) -> None:
    """A lease from now for all that the claim still holds: slow images are no reason to take them over."""
    held_by(token).update(lease_until=_lease())


def _lease() -> datetime:
    return timezone.now() + timedelta(seconds=settings.VISEARCH_LEASE_SECONDS)


def release(token: str, images: Sequence[UUID], reason: str) -> None:
    """Give images back untried: what stopped them is not their fault (a model or a folder is missing).

    Nobody takes them for RETRY_AFTER, so that a worker does not spin on what a person has to mend.
    """
    held_by(token).filter(pk__in=images).update(
        status=Image.Status.QUEUED,
        reason=reason,
        claimed_by="",
        lease_until=timezone.now() + RETRY_AFTER,
        attempts=F("attempts") - 1,
    )


def finish(token: str, images: Sequence[UUID]) -> None:
    held_by(token).filter(pk__in=images).update(
        status=Image.Status.READY,
        reason="",
        claimed_by="",
        lease_until=None,
        attempts=0,
        processed_at=timezone.now(),
    )


def fail(token: str, image: UUID, reason: str) -> None:
    _fail(held_by(token).filter(pk=image), reason)


@transaction.atomic
def _fail(images: ImageQuerySet, reason: str) -> None:
    """Mark failed, in the image's row and in the line of the job that put it in."""
    keys = list(images.select_for_update().values_list("pk", flat=True))
    Image.objects.filter(pk__in=keys).update(status=Image.Status.FAILED, reason=reason, claimed_by="", lease_until=None)
    IntakeLine.objects.filter(image__in=keys, verdict=IntakeLine.Verdict.STORED).update(
        verdict=IntakeLine.Verdict.FAILED, code=PROCESSING_FAILED, reason=reason
    )


def waiting_count() -> int:
    return Image.objects.pending().count()
