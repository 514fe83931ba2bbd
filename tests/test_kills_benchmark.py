"""What benchmarks.kills looks for in the database is found where it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.db import connection

from benchmarks.kills import FAULTS
from catalog.models import Collection, Embedding, EmbeddingModel, Image, IntakeLine, Region
from tests.library import ready, squares
from tests.library_fixtures import fakes, media, registered, shop

__all__ = ["fakes", "media", "registered", "shop"]

pytestmark = pytest.mark.django_db


def faults() -> list[str]:
    """Those of which there is one."""
    found = {}
    with connection.cursor() as cursor:
        for what, query in FAULTS.items():
            cursor.execute(query)
            found[what] = cursor.fetchone()[0]
    return [what for what, number in found.items() if number]


def test_a_good_catalogue_has_none(shop: Collection, media: Path) -> None:
    ready(shop, squares((20, 30, 40, "red")))
    assert faults() == []


def test_each_is_found(shop: Collection, media: Path) -> None:
    image = ready(shop, squares((20, 30, 40, "red")))
    Embedding.objects.filter(region__pipeline="face").delete()
    assert faults() == ["regions without exactly one embedding of a serving model"]
    Region.objects.filter(pipeline="face").delete()
    Region.objects.filter(pipeline="image").delete()
    assert faults() == ["ready images without exactly one frame"]
    Region.objects.create(image=image, pipeline="image", x=0, y=0, width=9, height=9)
    EmbeddingModel.objects.filter(pipeline="image").update(state="retired")
    assert faults() == ["regions of a pipeline without a serving model"]
    Image.objects.update(status="failed", reason="No line says so.")
    Region.objects.all().delete()
    assert faults() == ["failed images of which no line says why"]
    IntakeLine.objects.update(verdict="receiving", reserved_key="a")
    Image.objects.all().delete()
    assert "unfinished uploads" in faults()
