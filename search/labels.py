"""Labels to choose from."""

from __future__ import annotations

from django.db.models import Count

from catalog.models import Image
from catalog.querysets import Viewer

MOST = 40


def frequent_labels(viewer: Viewer) -> list[str]:
    """The labels that most of the images have which this viewer may see, in alphabetical order."""
    labelled = Image.objects.visible_to(viewer).exclude(label="").order_by()
    counted = labelled.values("label").annotate(count=Count("pk")).order_by("-count", "label")
    return sorted(counted.values_list("label", flat=True)[:MOST])
