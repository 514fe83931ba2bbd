"""The record of who was merged into whom: what a later decision takes out of it, and who may read it."""

from __future__ import annotations

from django.db.models import Q

from catalog.models import Person, PersonMerge, Region
from catalog.querysets import Viewer


def decided(region: Region) -> None:
    """Somebody decided anew who this face is: undoing an earlier merge leaves it there. The caller holds its image."""
    key = str(region.pk)
    standing = PersonMerge.objects.filter(undone_at=None, regions__contains=[key])
    for merge in standing.select_for_update(of=("self",), no_key=True).order_by("pk"):
        merge.regions = [each for each in merge.regions if each != key]
        merge.save(update_fields=["regions"])


def merges_of(person: Person) -> list[PersonMerge]:
    """In which this person took somebody in or was taken in, newest first."""
    merges = PersonMerge.objects.filter(Q(kept=person) | Q(gone=person))
    return list(merges.select_related("kept", "gone", "user", "undone_by"))


def shown_to(merges: list[PersonMerge], user: Viewer) -> list[PersonMerge]:
    """Those of which this user may know both names: they merged the two themselves, or edit a face that moved, and in
    both cases a face of whoever stayed. A person who was merged away has no faces to judge by.
    """
    if user.is_superuser:
        return merges
    keys = {key for merge in merges for key in merge.regions}
    mine = {str(key) for key in Region.objects.editable_by(user).filter(pk__in=keys).values_list("pk", flat=True)}
    kept = Person.objects.named_in_collections_of(user).filter(pk__in={merge.kept.current().pk for merge in merges})
    seen = set(kept.values_list("pk", flat=True))
    return [
        merge
        for merge in merges
        if merge.kept.current().pk in seen and (merge.user_id == user.pk or mine.intersection(merge.regions))
    ]
