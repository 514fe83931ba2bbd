"""What a list says of images that are here already: it is not taken over, and their lines say so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db.models import QuerySet, prefetch_related_objects

from catalog.models import Image, IntakeLine, Region

Said = tuple[Mapping[str, Any], str, Image]  # facts (IntakeLine.facts), the name for its face, the image
SENTENCE = " This is not taken over from the list: {}. Change it on the image."


def left_alone(said: Sequence[Said]) -> list[str]:
    """Of each a sentence to follow others, naming what the list has otherwise than the image; "" where it is nothing.

    What the list leaves empty it does not say. Few queries, however many are asked about.
    """
    if any(facts.get("tags") for facts, _, _ in said):
        prefetch_related_objects([image for _, _, image in said], "tags")
    people = _people([image.pk for _, name, image in said if name])
    others = [_others(facts, image) + _person(name, image, people) for facts, name, image in said]
    return [SENTENCE.format(", ".join(names)) if names else "" for names in others]


def _others(facts: Mapping[str, Any], image: Image) -> list[str]:
    names = [name for name, said in facts.items() if name != "tags" and said and getattr(image, name) != said]
    tags = facts.get("tags", ())
    return [*names, "tags"] if tags and not set(tags) <= {tag.name for tag in image.tags.all()} else names


def _person(name: str, image: Image, people: set[tuple[UUID, str]]) -> list[str]:
    return ["person"] if name and (image.pk, name) not in people else []


def _people(images: Sequence[UUID]) -> set[tuple[UUID, str]]:
    """Who is named on them, by every name that leads to them, and for whom a list has asked before."""
    if not images:
        return set()
    named = Region.objects.filter(image__in=images, person__isnull=False)
    asked = IntakeLine.objects.filter(image__in=images).exclude(person_name="")
    found: list[QuerySet[Any, Any]] = [
        named.values_list("image", "person__name"),
        named.filter(person__merged__isnull=False).values_list("image", "person__merged__name"),
        asked.values_list("image", "person_name"),
    ]
    return {(image, name) for pairs in found for image, name in pairs}
