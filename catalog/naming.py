"""Who is meant by a name, and who a face is not: what people decided, for whatever names or suggests by itself."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from catalog.models import FaceRejection, Person, Region


def person_named(name: str) -> Person:
    """The person of exactly this name, made when new; of a name that was merged away, whom it was merged into."""
    return Person.objects.get_or_create(name=name)[0].current()


def identities(people: Iterable[UUID]) -> set[UUID]:
    """These people and all who were merged into them, also by way of others."""
    found: set[UUID] = set()
    new = set(people)
    while new:
        found |= new
        new = set(Person.objects.filter(merged_into__in=new).values_list("pk", flat=True)) - found
    return found


def rejected_people(region: Region) -> set[UUID]:
    """Whom this face is not, as somebody said; of people who were merged, also whom they are now."""
    rejections = FaceRejection.objects.filter(region=region).select_related("person__merged_into")
    return {key for each in rejections for key in (each.person_id, each.person.current().pk)}
