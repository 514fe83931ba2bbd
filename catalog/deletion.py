"""An image's files go when its row goes, whoever deletes it and however (a collection, a queryset, the admin).

A signal, because a cascade calls no method of ours. The transaction that deletes the image also notes its files as
doomed; they are removed after commit, so a rolled back deletion loses nothing, and what could not be removed then (a
process that died, a storage that is away) the sweep removes later. Connected in catalog.apps.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from django.core.files.storage import Storage
from django.db import transaction
from django.db.models.signals import post_delete
from django.dispatch import receiver

from catalog.models import DoomedFiles, Image
from catalog.storage import file_keys

logger = logging.getLogger(__name__)


@receiver(post_delete, sender=Image)
def doom_files(instance: Image, **_: Any) -> None:
    doomed = DoomedFiles.objects.create(image_id=instance.pk, format=instance.format)
    transaction.on_commit(lambda: remove_files([doomed]))


def remove_doomed_files() -> int:
    """Remove what deletions left behind; returns how many images it was of. Safe to run twice at once."""
    return remove_files(DoomedFiles.objects.all())


def remove_files(doomed: Iterable[DoomedFiles]) -> int:
    """Remove the files of each, and its note once all are gone; what cannot be removed now keeps its note."""
    count = 0
    for each in doomed:
        removed = [_removed(storage, key) for storage, key in file_keys(each.image_id, each.format)]
        if all(removed):
            DoomedFiles.objects.filter(pk=each.pk).delete()
            count += 1
    return count


def _removed(storage: Storage, key: str) -> bool:
    try:
        storage.delete(key)
    except Exception as error:  # noqa: BLE001 - whatever a storage raises: the next sweep tries again
        logger.error("%s of a deleted image cannot be removed yet: %s", key, error)
        return False
    return True
