"""Labels to choose from."""

from __future__ import annotations

from django.core.cache import cache
from django.db.models import Count

from catalog.models import Image
from catalog.querysets import Viewer

MOST = 40
ANYBODYS = "labels-of-anybody"  # key in the cache
SECONDS = 60


def frequent_labels(viewer: Viewer) -> list[str]:
    """The labels that most of the images have which this viewer may see, in alphabetical order.

    Those of everybody who is not signed in are counted once a minute; a cache that is away only costs the counting.
    """
    if viewer.is_authenticated:
        return _counted(viewer)
    known: list[str] | None = cache.get(ANYBODYS)
    if known is None:
        known = _counted(viewer)
        cache.set(ANYBODYS, known, SECONDS)
    return known


def _counted(viewer: Viewer) -> list[str]:
    labelled = Image.objects.visible_to(viewer).exclude(label="").order_by()
    counted = labelled.values("label").annotate(count=Count("pk")).order_by("-count", "label")
    return sorted(counted.values_list("label", flat=True)[:MOST])
