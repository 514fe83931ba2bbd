"""`manage.py search`."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command

from catalog.models import Collection, EmbeddingModel
from search import serving
from search.indexing import rebuild_index
from tests.library import ready, squares

pytestmark = pytest.mark.django_db
RED = squares((20, 30, 40, "red"))


def said(path: Path, **options: object) -> str:
    out = StringIO()
    call_command("search", str(path), stdout=out, **options)
    return out.getvalue()


def test_it_says_how_the_answer_was_found_when_asked(shop: Collection, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(RED)
    ready(shop, RED)
    assert "compared exactly" not in said(photo)
    assert "Index: none: all vectors were compared, exactly" in said(photo, explain=True)
    generation = rebuild_index(EmbeddingModel.objects.get(pipeline="face"))
    serving.forget()
    ready(shop, squares((20, 30, 40, "blue")))
    lines = said(photo, explain=True).splitlines()
    assert f"Index: {generation.name}" in lines
    assert "Searched: each vector compared, exactly" in lines
    assert "May be found: 1 of its 1 vectors" in lines
    assert "Newer than the index: 1 vectors, compared exactly" in lines
    assert "Hits: 2 in the last of 1 asks, 0 not to be shown" in lines
