"""A few stored images to click for whoever has no photo at hand: two of each public collection."""

from __future__ import annotations

from django.contrib.auth.models import AnonymousUser
from django.db.models import OuterRef, QuerySet, Subquery

from catalog.models import Collection, Image

COLLECTIONS = 4


def sample_images() -> list[Image]:
    """The first and the last image of some public collections: what anybody may see, whoever asks."""
    anybody = AnonymousUser()
    shown = Image.objects.visible_to(anybody).filter(collection=OuterRef("pk"))
    collections = Collection.objects.filter(is_public=True).annotate(first=_one(shown, "id"), last=_one(shown, "-id"))
    with_images = collections.filter(first__isnull=False).values_list("first", "last")
    keys = [row[place] for row in with_images[:COLLECTIONS] for place in (0, 1)]
    by_key = Image.objects.select_related("collection").in_bulk(set(keys))
    return [by_key[key] for key in dict.fromkeys(keys) if key in by_key]


def _one(images: QuerySet[Image], order: str) -> Subquery:
    return Subquery(images.order_by(order).values("pk")[:1])
