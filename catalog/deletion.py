"""An image's files go when its row goes, whoever deletes it and however (a collection, a queryset, the admin), and so
does what uploads that did not come to their end have left of a job.

A signal, because a cascade calls no method of ours. The transaction that deletes the image also notes its files as
doomed; they are removed after commit, so a rolled back deletion loses nothing, and what could not be removed then (a
process that died, a storage that is away) the sweep removes later. Connected in catalog.apps.
"""

from __future__ import annotations

import logging
import time
from typing import Any
from uuid import UUID

from django.core.files.storage import Storage
from django.db import transaction
from django.db.models.signals import post_delete, pre_delete
from django.dispatch import receiver

from catalog import originals, storage
from catalog.models import DoomedFiles, Image, IntakeJob, IntakeLine
from catalog.storage import file_keys, image_of_original

logger = logging.getLogger(__name__)

TURN_SECONDS = 20.0
AT_ONCE = 10_000  # that a turn begins with
IN_VAIN = 20  # images in a row whose files cannot be removed: then the storage is left alone until the next sweep


@receiver(post_delete, sender=Image)
def doom_files(instance: Image, **_: Any) -> None:
    doom(instance.pk, instance.format)


@receiver(pre_delete, sender=IntakeJob)
def doom_reserved_files(instance: IntakeJob, **_: Any) -> None:
    """Of lines whose upload died, or is still under way and will find its line gone: no image will ever have them."""
    left = instance.lines.filter(verdict=IntakeLine.Verdict.RECEIVING).exclude(reserved_key="")
    for key in left.values_list("reserved_key", flat=True):
        doom(*image_of_original(key))


def doom(image_id: UUID, image_format: str) -> None:
    """In the transaction after which there is no such image: its files go after the commit."""
    doomed = DoomedFiles.objects.create(image_id=image_id, format=image_format)
    transaction.on_commit(lambda: remove_files(doomed))


def remove_doomed_files(seconds: float = TURN_SECONDS) -> int:
    """Remove what deletions left behind; returns how many images it was of. Safe to run twice at once.

    For so long at most, and until a storage that does not answer is tried no more; in no order, so that what cannot be
    removed stands in the way of nothing. The next sweep goes on.
    """
    until = time.monotonic() + seconds
    count = in_vain = 0
    for doomed in DoomedFiles.objects.order_by("?")[:AT_ONCE]:
        removed = remove_files(doomed)
        count, in_vain = count + removed, 0 if removed else in_vain + 1
        if in_vain == IN_VAIN or time.monotonic() > until:
            break
    return count


def remove_files(doomed: DoomedFiles) -> bool:
    """Remove its files, and the note once all are gone; whether they are. What cannot be removed now keeps its note."""
    removed = [_removed(place, key) for place, key in file_keys(doomed.image_id, doomed.format)]
    if not all(removed):
        return False
    DoomedFiles.objects.filter(pk=doomed.pk).delete()
    return True


def _removed(place: Storage, key: str) -> bool:
    try:
        if place is storage.originals():
            originals.delete(key)
        else:
            place.delete(key)
    except Exception as error:  # noqa: BLE001 - whatever a storage raises: the next sweep tries again
        logger.error("%s of a deleted image cannot be removed yet: %s", key, error)
        return False
    return True
