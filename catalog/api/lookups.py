"""Finding what a request names, within what its user may see. What may not be seen does not exist: NotFound."""

from __future__ import annotations

from typing import TypeVar
from uuid import UUID

from django.db.models import Model, Q, QuerySet
from rest_framework.exceptions import NotFound, PermissionDenied

from catalog.models import Collection
from catalog.querysets import Viewer

Named = TypeVar("Named", bound=Model)


def by_id_or_name(visible: QuerySet[Named], value: str) -> Named:
    """The object with this id, else the one with this name. Raises NotFound."""
    rows = {str(row.pk): row for row in visible.filter(_id_or_name(value))}
    if not rows:
        raise NotFound(f"There is no {visible.model._meta.verbose_name} {value!r}, or you may not see it.")
    return rows.get(value.lower()) or next(iter(rows.values()))


def _id_or_name(value: str) -> Q:
    try:
        return Q(pk=UUID(value)) | Q(name=value)
    except ValueError:
        return Q(name=value)


def may_edit(user: Viewer, collection_id: UUID) -> bool:
    return Collection.objects.editable_by(user).filter(pk=collection_id).exists()


def check_may_edit(user: Viewer, collection_id: UUID) -> None:
    """For objects that the user may see. Raises PermissionDenied."""
    if not may_edit(user, collection_id):
        raise PermissionDenied("You may see this collection, not change it. Ask to become one of its editors.")
