"""The log: who did what to which thing, and when. Django's own entries, so that the admin's history shows them."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model

REPR_LENGTH = 200  # of LogEntry.object_repr
BATCH = 1000


class Kind(IntEnum):
    ADDED = ADDITION
    CHANGED = CHANGE
    DELETED = DELETION


def record(user: User, thing: Model, message: str, kind: Kind = Kind.CHANGED) -> None:
    record_all(user, [thing], message, kind)


def record_all(user: User, things: Iterable[Model], message: str, kind: Kind = Kind.CHANGED) -> None:
    """One entry with these words for each."""
    record_each(user, ((thing, message) for thing in things), kind)


def record_each(user: User, said: Iterable[tuple[Model, str]], kind: Kind = Kind.CHANGED) -> None:
    """One entry for each, with words of its own; call it before what is deleted loses its key."""
    entries = (
        LogEntry(
            user_id=user.pk,
            content_type=ContentType.objects.get_for_model(type(thing)),
            object_id=str(thing.pk),
            object_repr=str(thing)[:REPR_LENGTH],
            action_flag=kind.value,
            change_message=message,
        )
        for thing, message in said
    )
    LogEntry.objects.bulk_create(entries, batch_size=BATCH)
