"""What the log says."""

from __future__ import annotations

from django.contrib.admin.models import LogEntry
from django.db.models import Model


def said_of(thing: Model) -> list[str]:
    """By whom and what, oldest first."""
    entries = LogEntry.objects.filter(object_id=str(thing.pk)).select_related("user").order_by("pk")
    return [f"{entry.user}: {entry.get_change_message()}" for entry in entries]
