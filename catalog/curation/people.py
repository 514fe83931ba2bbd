"""Who people are: names, notes, and that two are one."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from itertools import islice
from uuid import UUID

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import Case, IntegerField, QuerySet, Value, When
from django.utils import timezone

from catalog.curation.errors import BadName, CurationError, Gone, NameTaken
from catalog.curation.log import Kind, record
from catalog.models import Image, Person, PersonMerge, Region
from catalog.naming import identities
from catalog.querysets import Viewer

NAME_LENGTH = 200
OFFERED = 10
NAMES_AT_ONCE = 1000


def cleaned_name(name: str) -> str:
    """Without spaces around and doubled inside. Raises BadName."""
    clean = " ".join(name.split())
    if not clean:
        raise BadName("Write a name.")
    if len(clean) > NAME_LENGTH:
        raise BadName(f"The name has {len(clean)} characters; {NAME_LENGTH} are the most.")
    if any(unicodedata.category(character) == "Cc" for character in clean):
        raise BadName("The name has characters that cannot be written. Type it by hand.")
    return clean


def check_may_use_name(name: str, user: Viewer) -> None:
    """Raises NameTaken where somebody has this name only on faces that this user may not see."""
    if names_taken([name], user):
        raise NameTaken


def names_taken(names: Iterable[str], user: Viewer) -> set[str]:
    """Of these names (as `cleaned_name` leaves them) those for which `check_may_use_name` would raise.

    Few queries for a thousand names, so that a long list may be asked about at once.
    """
    left = iter(dict.fromkeys(names))
    taken: set[str] = set()
    while step := list(islice(left, NAMES_AT_ONCE)):
        people = _standing(step)
        faces = Region.objects.filter(person__in=people.values()).order_by()
        named = set(faces.values_list("person", flat=True).distinct())
        shown = set(faces.shown_to(user).values_list("person", flat=True).distinct())
        taken |= {name for name, person in people.items() if person in named - shown}
    return taken


def _standing(names: Sequence[str]) -> dict[str, UUID]:
    """By name who has it, or whom they were merged into, and on from there: a query for each step of that way."""
    found = dict(Person.objects.filter(name__in=names).values_list("name", "pk"))
    ahead = set(found.values())
    seen: set[UUID] = set()
    while ahead := ahead - seen:
        seen |= ahead
        merged = Person.objects.filter(pk__in=ahead, merged_into__isnull=False)
        into: dict[UUID, UUID] = dict(merged.values_list("pk", "merged_into"))  # type: ignore[arg-type]
        found = {name: into.get(key, key) for name, key in found.items()}
        ahead = set(into.values())
    return found


def people_like(text: str, user: Viewer) -> QuerySet[Person]:
    """At most OFFERED people whom this user may see with this text in their name; names that begin with it first."""
    begins = Case(When(name__istartswith=text, then=Value(0)), default=Value(1), output_field=IntegerField())
    return Person.objects.visible_to(user).filter(name__icontains=text).order_by(begins, "name")[:OFFERED]


@transaction.atomic
def rename_person(person: Person, name: str, user: User) -> Person:
    """Raises BadName, NameTaken, and CurationError for somebody who was merged into another."""
    name = cleaned_name(name)
    row = _lock_standing([person])[0]
    if row.name == name:
        return row
    before, row.name = row.name, name
    try:
        with transaction.atomic():
            row.save(update_fields=["name"])
    except IntegrityError as error:
        raise NameTaken from error
    record(user, row, f"Renamed from {before} to {name}.")
    return row


@transaction.atomic
def set_notes(person: Person, notes: str, user: User) -> Person:
    row = _lock_standing([person])[0]
    if row.notes != notes:
        row.notes = notes
        row.save(update_fields=["notes"])
        record(user, row, "Changed the notes.")
    return row


@transaction.atomic
def merge_people(kept: Person, gone: Person, user: User) -> PersonMerge:
    """All faces of ``gone`` become those of ``kept``, who keeps the name; the name of ``gone`` leads to ``kept``.

    The merge is the later decision: a face of ``gone`` moves even where somebody once said that it is not ``kept``.
    Raises CurationError where both are the same, or one of them was merged already.
    """
    if kept.pk == gone.pk:
        raise CurationError("These are one and the same person. Choose two.")
    Image.objects.filter(regions__person=gone).lock()
    kept, gone = _lock_standing([kept, gone])
    moving = Region.objects.filter(person=gone)
    keys = [str(key) for key in moving.order_by("pk").values_list("pk", flat=True)]
    moving.update(person=kept)
    gone.merged_into = kept
    gone.save(update_fields=["merged_into"])
    record(user, gone, f"Merged into {kept.name}, with {_faces(len(keys))}.")
    record(user, kept, f"Took in {gone.name}, with {_faces(len(keys))}.")
    return PersonMerge.objects.create(kept=kept, gone=gone, regions=keys, user=user)


@transaction.atomic
def undo_merge(merge: PersonMerge, user: User) -> Person:
    """The person who was merged away, with those faces that came from them and are still ``kept``'s.

    What was named, taken off or deleted since stays as it is. Raises CurationError where it is undone already, or
    ``kept`` was merged into somebody else since.
    """
    Image.objects.filter(regions__in=merge.regions).lock()
    people = lock_people([merge.kept_id, merge.gone_id])
    row = PersonMerge.objects.select_for_update(of=("self",)).filter(pk=merge.pk).first()
    if row is None or len(people) < 2:
        raise Gone("One of these people was deleted. There is nothing left to undo.")
    kept, gone = people[row.kept_id], people[row.gone_id]
    if row.undone_at is not None:
        raise CurationError(f"This merge was undone already: {gone.name} is a person again.")
    if kept.merged_into is not None:
        raise CurationError(f"{kept.name} was merged into {kept.merged_into.name} since. Undo that merge first.")
    count = Region.objects.filter(pk__in=row.regions, person=kept).update(person=gone)
    gone.merged_into = None
    gone.save(update_fields=["merged_into"])
    row.undone_at, row.undone_by = timezone.now(), user
    row.save(update_fields=["undone_at", "undone_by"])
    record(user, gone, f"No longer merged into {kept.name}; {_faces(count)} came back.")
    record(user, kept, f"Undid taking in {gone.name}; {_faces(count)} went back.")
    return gone


@transaction.atomic
def delete_person(person: Person, user: User) -> int:
    """With everybody merged into them, whose names are free again. Their faces stay, without a name; returns how many.

    Raises Gone, CurationError for somebody who was merged into another.
    """
    Image.objects.filter(regions__person=person).lock()
    keys = identities([person.pk])
    list(Person.objects.select_for_update().filter(pk__in=keys).order_by("pk").values_list("pk"))  # nobody is named so
    row = _lock_standing([person])[0]
    count = Region.objects.filter(person__in=keys).count()
    record(user, row, f"Deleted; {_faces(count)} lost the name.", Kind.DELETED)
    row.delete()
    return count


def lock_current(person: Person) -> Person:
    """The person, or whom they were merged into, locked: nobody merges them before this transaction ends.

    Raises Gone.
    """
    while True:
        row = lock_people([person.pk]).get(person.pk)
        if row is None:
            raise Gone(f"{person.name} was deleted by somebody in this moment.")
        if row.merged_into is None:
            return row
        person = row.merged_into


def _lock_standing(people: Sequence[Person]) -> list[Person]:
    """The rows of these people, in this order, locked. Raises Gone, CurationError for who was merged already."""
    rows = lock_people([person.pk for person in people])
    for person in people:
        row = rows.get(person.pk)
        if row is None:
            raise Gone(f"{person.name} was deleted by somebody in this moment.")
        if row.merged_into is not None:
            raise CurationError(
                f"{row.name} was merged into {row.merged_into.name}. Go on with {row.merged_into.name}."
            )
    return [rows[person.pk] for person in people]


def lock_people(keys: Sequence[UUID]) -> dict[UUID, Person]:
    """Lock the rows in the order of their keys; without the key, so that workers may go on naming faces as them.

    Nothing is joined: what a lock was waited for is read anew, what is joined to it is not.
    """
    rows = Person.objects.select_for_update(no_key=True).filter(pk__in=keys)
    return {row.pk: row for row in rows.order_by("pk")}


def _faces(count: int) -> str:
    return "1 face" if count == 1 else f"{count} faces"
