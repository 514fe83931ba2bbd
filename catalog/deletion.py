"""An image's files go when its row goes, whoever deletes it and however (a collection, a queryset, the admin).

A signal, because a cascade calls no method of ours. Files are deleted after commit, so a rolled back deletion loses
nothing. Connected in catalog.apps.
"""

from __future__ import annotations

from typing import Any

from django.db.models.signals import post_delete
from django.dispatch import receiver

from catalog.models import Image
from catalog.storage import delete_files_on_commit


@receiver(post_delete, sender=Image)
def delete_files(instance: Image, **_: Any) -> None:
    delete_files_on_commit([(instance.pk, instance.format)])
