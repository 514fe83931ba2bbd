"""The corpus of tests/hostile.py, searched with: the same verdict as where it is put in, and nothing is kept of it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from django.contrib.auth.models import AnonymousUser

from catalog.exceptions import ImageRefused
from catalog.models import Collection
from search.querying import SearchOptions, search_by_image
from tests.hostile import CORPUS
from tests.library import files_in, ready, squares

pytestmark = pytest.mark.django_db


def test_each_is_refused_or_searched_with(shop: Collection, tmp_path: Path) -> None:
    stored = ready(shop, squares((20, 30, 40, "red")))
    before = files_in(tmp_path)
    wrong = {}
    for each in CORPUS:
        if each.is_slow:
            continue
        try:
            answer = search_by_image(
                io.BytesIO(each.make()), each.name, SearchOptions(AnonymousUser(), "image", beyond_near=True)
            )
            found = "" if [match.image for match in answer.results] == [stored] else "another answer"
        except ImageRefused as refusal:
            found = refusal.code
        if found != each.verdict:
            wrong[str(each)] = found
    assert not wrong
    assert files_in(tmp_path) == before
