"""Whose turn it is: images are claimed with a lease and finished, failed or given back by their claimer.

A claim is a token of its own (host, process, random). Whoever comes back after its lease has run out finds another
token in the row and changes nothing.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F
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
    token = new_token()
    with transaction.atomic():
        images = _alone_if_tried(_lock_waiting(first, size))
        Image.objects.filter(pk__in=[image.pk for image in images]).update(
            status=Image.Status.PROCESSING,
            claimed_by=token,
            lease_until=lease_from_now(),
            attempts=F("attempts") + 1,
        )
    return token, images


def new_token() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


def _lock_waiting(first: UUID | None, size: int) -> list[Image]:
    """Lock up to ``size`` that may be tried, and fail those that were met and tried too often.

    None is left only where nothing waits.
    """
    while met := _lock_pending(first, size):
        worn = [image for image in met if image.attempts >= settings.VISEARCH_MAX_ATTEMPTS]
        for image in worn:
            _fail(Image.objects.filter(pk=image.pk), GAVE_UP.format(attempts=image.attempts))
        if len(worn) < len(met):
            return [image for image in met if image not in worn]
    return []


def _lock_pending(first: UUID | None, size: int) -> list[Image]:
    """In two queries, of which the second walks an index and stops: ``first`` in its ORDER BY would sort all that wait.

    FOR NO KEY UPDATE excludes others who change or delete an image, and lets those pass who only refer to it.
    """
    waiting = Image.objects.pending().prefetch_related("collection")
    waiting = waiting.select_for_update(skip_locked=True, no_key=True, of=("self",))
    named = list(waiting.filter(pk=first)) if first else []
    return [*named, *waiting.exclude(pk__in=[image.pk for image in named]).order_by("pk")[: size - len(named)]]


def _alone_if_tried(images: list[Image]) -> list[Image]:
    tried = [image for image in images if image.attempts]
    return tried[:1] if tried and tried[0] is images[0] else [image for image in images if not image.attempts]


class Renewals:
    """When to renew what a claim holds: whenever a quarter of a lease is over, from the claim on."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def are_due(self) -> bool:
        """Whoever is told that they are renews: the next quarter begins."""
        now = time.monotonic()
        if now <= self._last + settings.VISEARCH_LEASE_SECONDS / 4:
            return False
        self._last = now
        return True


def held_by(token: str) -> ImageQuerySet:
    """The images that this claim still holds."""
    return Image.objects.filter(claimed_by=token, status=Image.Status.PROCESSING)


def renew(token: str) -> None:
    """A lease from now for all that the claim still holds: slow images are no reason to take them over."""
    _change(held_by(token), lease_until=lease_from_now())


def lease_from_now() -> datetime:
    return timezone.now() + timedelta(seconds=settings.VISEARCH_LEASE_SECONDS)


def release(token: str, images: Sequence[UUID], reason: str) -> None:
    """Give images back untried: what stopped them is not their fault (a model or a folder is missing).

    Nobody takes them for RETRY_AFTER, so that a worker does not spin on what a person has to mend.
    """
    _change(
        held_by(token).filter(pk__in=images),
        status=Image.Status.QUEUED,
        reason=reason,
        claimed_by="",
        lease_until=timezone.now() + RETRY_AFTER,
        attempts=F("attempts") - 1,
    )


@transaction.atomic
def _change(images: ImageQuerySet, **columns: Any) -> None:
    """In the order of their keys, as everybody locks images: one statement alone takes them as they lie there."""
    keys = images.lock_keys()
    Image.objects.filter(pk__in=keys).update(**columns)


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
    keys = images.lock_keys()
    Image.objects.filter(pk__in=keys).update(status=Image.Status.FAILED, reason=reason, claimed_by="", lease_until=None)
    IntakeLine.objects.filter(image__in=keys, verdict=IntakeLine.Verdict.STORED).update(
        verdict=IntakeLine.Verdict.FAILED, code=PROCESSING_FAILED, reason=reason, ended_at=timezone.now()
    )


def waiting_count(most: int | None = None) -> int:
    """How many wait; counted up to ``most``."""
    return Image.objects.pending().order_by()[:most].count()
