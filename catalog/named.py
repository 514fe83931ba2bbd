"""What the options of commands name, of this package and of search."""

from __future__ import annotations

from django.core.management.base import CommandError

from catalog.models import Collection


def collection_named(name: str) -> Collection:
    """Raises CommandError where there is none."""
    collection = Collection.objects.filter(name=name).first()
    if collection is None:
        raise CommandError(f"There is no collection {name!r}.")
    return collection
