"""The sample *Digits* from loading to the page, with the real model: a photo of a digit finds those that mean the same.

On a site that has no other pipeline.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.test import Client
from PIL import Image as Pillow
from pytest_django import Settings

from catalog.embedding_models import register_models
from catalog.models import Collection, Image
from catalog.vision import networks
from search import serving
from tests.catalog.vision.test_digits import PHOTOS
from tests.library import process_all
from tests.search.test_views import found, html, put_in, words

pytestmark = [pytest.mark.models, pytest.mark.django_db(transaction=True)]
LOADED = 60


@pytest.fixture
def digits(media: Path, settings: Settings, tmp_path: Path) -> Collection:
    """The first sixty of the sample, ready."""
    settings.VISEARCH_PIPELINES = {"digit": settings.VISEARCH_PIPELINES["digit"]}
    settings.VISEARCH_MODELS_DIR = tmp_path / "models"
    networks.build(networks.DIGIT_CNN, tmp_path / "models")
    settings.VISEARCH_INDEXES_DIR = tmp_path / "indexes"
    serving.forget()
    cache.delete_pattern("*")  # type: ignore[attr-defined]  # throttles and labels
    register_models()
    call_command("load_samples", "digits", "--at-most", str(LOADED), "--no-wait", stdout=io.StringIO())
    process_all()
    collection = Collection.objects.get(name="Digits")
    assert collection.images.filter(status="ready").count() == LOADED
    return collection


def photo(kind: str, digit: str) -> bytes:
    out = io.BytesIO()
    Pillow.fromarray(PHOTOS[kind](digit).clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=90)
    return out.getvalue()


def labels(keys: list[str]) -> list[str]:
    by_key = {str(image.pk): image.label for image in Image.objects.filter(pk__in=keys)}
    return [by_key[key] for key in keys]


def test_photos_and_samples_find_their_digit(digits: Collection) -> None:
    for kind, digit in (("slanting light", "4"), ("light on dark", "7"), ("on a sheet that lies askew", "2")):
        page = html(put_in(photo(kind, digit), "photo.jpg", collection="Digits"))
        assert labels(found(page)[:5]) == [digit] * 5
        assert words(page)[0] == "likely the same digit"
    sent = {"image": SimpleUploadedFile("photo.jpg", photo("red on green", "3")), "collection": "Digits", "k": 5}
    answer = Client().post("/api/v1/search/", sent).json()
    assert (answer["pipeline"], [each["image"]["label"] for each in answer["results"]]) == ("digit", ["3"] * 5)

    start = html(Client().get("/"))
    first = digits.images.order_by("id").first()
    assert first is not None
    assert f"/search/image/{first.pk}/" in start
    results = found(html(Client().get(f"/search/image/{first.pk}/")))
    assert labels(results[:5]) == [first.label] * 5
    assert str(first.pk) not in results
