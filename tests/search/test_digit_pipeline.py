"""A collection whose images are compared as digits, beside others: on the page, through the API, and by what is stored.

The embedders are fakes, so that what is tested is which pipeline searches, not how well.
"""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from pytest_django import Settings

from catalog.embedding_models import register_models
from catalog.models import Collection, EmbeddingModel, Image
from search.querying import Answer, SearchOptions, search_by_image, search_by_stored_image
from tests.library import ready, squares
from tests.search.test_views import address, found, html, ids, measured, picks, put_in, words

pytestmark = pytest.mark.django_db
NOBODY = AnonymousUser()
RED, BLUE, GREY = squares((20, 30, 40, "red")), squares((90, 60, 50, "blue")), squares()


@pytest.fixture(autouse=True)
def fresh_cache() -> None:
    cache.delete_pattern("*")  # type: ignore[attr-defined]  # throttles and labels


@pytest.fixture
def digits(fakes: None, settings: Settings) -> Collection:
    """Public, and of the pipeline digit alone."""
    settings.VISEARCH_EMBEDDERS = {
        **settings.VISEARCH_EMBEDDERS,
        "digit-colours": {"BACKEND": "tests.fakes.MeanColour"},
    }
    settings.VISEARCH_PIPELINES = {
        **settings.VISEARCH_PIPELINES,
        "digit": {"DETECTOR": "frame", "EMBEDDERS": ["digit-colours"]},
    }
    settings.VISEARCH_INDEXES = {**settings.VISEARCH_INDEXES, "digit": {"ENGINE": "exact", "METRIC": "cosine"}}
    register_models()
    return Collection.objects.create(name="digits", pipelines=["digit"], is_public=True)


@pytest.fixture
def things(digits: Collection) -> Collection:
    return Collection.objects.create(name="things", pipelines=["image"], is_public=True)


def search(data: bytes, *collections: Collection, **what: Any) -> Answer:
    options = SearchOptions(NOBODY, collections=collections or None, **what)
    return search_by_image(io.BytesIO(data), "query", options)


def images(answer: Answer) -> list[Image]:
    return [match.image for match in answer.results]


# --- Which pipeline ---------------------------------------------------------------------------------------------------


def test_in_a_collection_of_digits_a_photo_is_searched_as_a_digit(digits: Collection, things: Collection) -> None:
    red, blue = ready(digits, RED), ready(digits, BLUE)
    ready(things, RED)
    answer = search(RED, digits)
    assert (answer.pipeline, answer.model.embedder, images(answer)) == ("digit", "digit-colours", [red, blue])
    (region,) = answer.regions
    assert (region.pipeline, region.box.width, region.box.height) == ("digit", 200, 150)


def test_without_a_collection_pipelines_are_not_mixed(digits: Collection, things: Collection) -> None:
    thing, digit = ready(things, RED), ready(digits, RED)
    answer = search(RED)
    assert (answer.pipeline, images(answer)) == ("image", [thing])
    answer = search(RED, pipeline="digit")
    assert (answer.pipeline, images(answer)) == ("digit", [digit])
    assert images(search(RED, digits, things)) == [thing]


def test_where_there_are_only_digits_no_collection_has_to_be_named(digits: Collection) -> None:
    digit = ready(digits, RED)
    answer = search(RED)
    assert (answer.pipeline, images(answer)) == ("digit", [digit])


def test_faces_still_come_first_where_they_may_be_searched(shop: Collection, digits: Collection) -> None:
    face, grey = ready(shop, RED), ready(shop, GREY)
    ready(digits, RED)
    answer = search(RED)
    assert (answer.pipeline, images(answer)) == ("face", [face])
    assert images(search(GREY))[0] == grey


def test_a_private_collection_of_digits_is_searched_by_nobody_else(digits: Collection, things: Collection) -> None:
    ready(digits, RED)
    Collection.objects.filter(name="digits").update(is_public=False)
    assert images(search(RED)) == []
    assert images(search(RED, pipeline="digit")) == []


def test_a_stored_digit_finds_others_without_a_pipeline_being_named(digits: Collection, things: Collection) -> None:
    red, blue = ready(digits, RED), ready(digits, BLUE)
    ready(things, RED)
    answer = search_by_stored_image(red, SearchOptions(NOBODY))
    assert (answer.pipeline, images(answer)) == ("digit", [blue])


# --- The page ---------------------------------------------------------------------------------------------------------


def test_the_page_searches_a_photo_as_a_digit(shop: Collection, digits: Collection) -> None:
    red, _ = ready(digits, RED), ready(shop, RED)
    measured("digit", 0.05, 0.2)
    page = html(put_in(RED, collection="digits"))
    assert found(page) == ids(red)
    assert words(page) == ["the same photo"]
    assert "No face was found" not in page
    assert 'class="match"' not in page
    assert list(picks(page)) == ["Face 1", "Whole image", "Digit"]
    again = html(Client().get(address(page)))
    assert found(again) == ids(red)


def test_the_page_says_how_alike_digits_are(digits: Collection) -> None:
    near = ready(digits, squares((20, 30, 70, "red")))
    measured("digit", 0.5, 0.9)
    page = html(put_in(RED, collection="digits"))
    assert (found(page), words(page)) == (ids(near), ["likely the same digit"])
    german = html(Client(headers={"Accept-Language": "de"}).get(address(page)))
    assert words(german) == ["wohl dieselbe Ziffer"]


def test_the_first_page_leads_from_a_stored_digit_to_others(digits: Collection) -> None:
    red, blue = ready(digits, RED), ready(digits, BLUE)
    page = html(Client().get("/"))
    assert f"/search/image/{red.pk}/" in page
    results = html(Client().get(f"/search/image/{red.pk}/"))
    assert found(results) == ids(blue)
    assert found(html(Client().get(f"/images/{red.pk}/"))) == ids(blue)


def test_another_pipeline_can_be_picked_without_the_photo(digits: Collection, things: Collection) -> None:
    thing, digit = ready(things, RED), ready(digits, RED)
    page = html(put_in(RED))
    assert found(page) == ids(thing)
    assert found(html(Client().get(picks(page)["Digit"]))) == ids(digit)


def test_a_missing_model_of_digits_is_said_and_leaves_the_rest(digits: Collection, things: Collection) -> None:
    thing, _ = ready(things, RED), ready(digits, RED)
    EmbeddingModel.objects.filter(pipeline="digit").update(state="retired")
    assert "What searches here is not working at the moment" in html(put_in(RED, collection="digits"))
    assert found(html(put_in(RED))) == ids(thing)


# --- The API ----------------------------------------------------------------------------------------------------------


def test_the_api_searches_digits_by_their_collection(digits: Collection, things: Collection) -> None:
    digit, _ = ready(digits, RED), ready(things, RED)
    sent = {"image": SimpleUploadedFile("a.png", RED), "collection": "digits"}
    response = Client().post("/api/v1/search/", sent)
    assert response.status_code == 200, response.content
    body = response.json()
    assert body["pipeline"] == "digit"
    assert [each["image"]["id"] for each in body["results"]] == ids(digit)
    stored = Client().post(
        "/api/v1/search/", {"image_id": str(digit.pk), "beyond_near": True}, content_type="application/json"
    )
    assert (stored.status_code, stored.json()["pipeline"]) == (200, "digit")
