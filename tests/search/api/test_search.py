"""The search door with the real search behind it, on images of coloured squares (tests.fakes): a colour is a face."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from django.contrib.auth.models import Group, User
from django.core.files.uploadedfile import SimpleUploadedFile
from knox.models import AuthToken
from rest_framework.test import APIClient
from rest_framework.throttling import SimpleRateThrottle

from catalog.models import Collection, Embedding, EmbeddingModel, Image, IntakeJob, Person
from search import serving
from search.indexing import rebuild_index
from tests.cast import PEOPLE, Cast, assert_problem, make_image
from tests.drawn import BAD_FILES, png_claiming
from tests.fakes import MeanColour
from tests.library import files_in, put_image, ready, squares

pytestmark = pytest.mark.django_db
SEARCH = "/api/v1/search/"
RED, BLUE = squares((20, 30, 40, "red")), squares((90, 60, 50, "blue"))
ELSEWHERE_RED = squares((100, 50, 60, "red"))
GREY = squares()
# may faces be searched; the serving models, what is new since the index; in which collections, are these all;
# the hits with image, collection and person
QUERIES_OF_A_SEARCH = 6


def post_file(data: bytes, name: str = "query.png", client: APIClient | None = None, **options: Any) -> Any:
    body = {"image": SimpleUploadedFile(name, data), **options}
    return (client or APIClient()).post(SEARCH, body, format="multipart")


def post_json(client: APIClient | None = None, /, **options: Any) -> Any:
    return (client or APIClient()).post(SEARCH, options, format="json")


def ids(response: Any) -> list[str]:
    assert response.status_code == 200, response.content
    return [result["image"]["id"] for result in response.json()["results"]]


def editor_of(collection: Collection) -> APIClient:
    group = Group.objects.create(name=f"editors of {collection}")
    collection.editors.add(group)
    user = User.objects.create_user(f"editor of {collection}")
    user.groups.add(group)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {AuthToken.objects.create(user=user)[1]}")
    return client


def test_the_answer_has_the_promised_shape(shop: Collection) -> None:
    image = ready(shop, RED, label="4711", title="A shoe", link="https://shop.example/4711")
    image.regions.filter(pipeline="face").update(person=Person.objects.create(name="Ada"))
    body = post_file(RED).json()
    model = EmbeddingModel.objects.get(pipeline="face")
    assert body == {
        "pipeline": "face",
        "model": f"face-colours {model.fingerprint[:12]}",
        "generation": None,
        "query": {
            "width": 200,
            "height": 150,
            "regions": [
                {"pipeline": "face", "box": {"x": 20.0, "y": 30.0, "width": 40.0, "height": 40.0}, "score": 1.0}
            ],
        },
        "results": [
            {
                "image": {
                    "id": str(image.pk),
                    "label": "4711",
                    "title": "A shoe",
                    "collection": {"id": str(shop.pk), "name": "shop"},
                    "link": "https://shop.example/4711",
                    "renditions": {
                        size: f"http://testserver/images/{image.pk}/rendition/{size}.webp" for size in ("320", "1280")
                    },
                },
                "region": {
                    "box": {"x": 20.0, "y": 30.0, "width": 40.0, "height": 40.0},
                    "person": {"id": str(Person.objects.get().pk), "name": "Ada"},
                },
                "distance": 0.0,
                "similarity": None,
            }
        ],
    }


def test_similarity_comes_from_the_measured_distances(shop: Collection) -> None:
    EmbeddingModel.objects.filter(pipeline="face").update(same_distance=1.0, near_distance=2.0)
    red, blue = ready(shop, RED), ready(shop, BLUE)
    near = post_file(RED).json()["results"]
    assert [(result["image"]["id"], result["similarity"]) for result in near] == [(str(red.pk), 1.0)]
    far = post_file(RED, beyond_near="1").json()["results"]
    assert [(result["image"]["id"], result["similarity"]) for result in far] == [
        (str(red.pk), 1.0),
        (str(blue.pk), 0.0),
    ]


def test_a_stored_region_and_a_stored_image_find_the_others_like_them(shop: Collection) -> None:
    red, other, blue = ready(shop, RED), ready(shop, ELSEWHERE_RED), ready(shop, BLUE)
    region = red.regions.get(pipeline="face")
    for response in (post_json(region=str(region.pk)), post_json(image_id=str(red.pk), pipeline="face")):
        assert ids(response) == [str(other.pk), str(blue.pk)]
        assert response.json()["query"]["regions"][0]["box"]["x"] == 20.0


def test_without_a_face_the_whole_image_is_searched(shop: Collection) -> None:
    grey = ready(shop, GREY)
    body = post_file(GREY).json()
    assert body["pipeline"] == "image"
    assert body["results"][0]["image"]["id"] == str(grey.pk)


def test_no_face_where_faces_were_asked_for_is_an_empty_answer(shop: Collection) -> None:
    ready(shop, RED)
    body = post_file(GREY, pipeline="face").json()
    assert (body["query"]["regions"], body["results"]) == ([], [])


def test_each_face_of_the_query_can_be_searched(shop: Collection) -> None:
    red, blue = ready(shop, RED), ready(shop, BLUE)
    both = squares((20, 30, 60, "red"), (120, 30, 40, "blue"))
    assert ids(post_file(both)) == ids(post_file(both, face=0)) == [str(red.pk), str(blue.pk)]
    assert ids(post_file(both, face=1)) == [str(blue.pk), str(red.pk)]
    assert_problem(post_file(both, face=2), 400, "face-out-of-range")


def test_k_counts_images(shop: Collection) -> None:
    twins = squares((20, 30, 40, "red"), (120, 30, 40, "red"))
    images = [ready(shop, data) for data in (twins, RED, BLUE)]
    assert len(ids(post_file(RED, k=2))) == 2
    assert set(ids(post_file(RED, k=100))) == {str(image.pk) for image in images}
    assert len(ids(post_json(image_id=str(images[0].pk), k=1))) == 1


def test_collections_are_named_by_id_or_name_once_or_often(shop: Collection) -> None:
    annex = Collection.objects.create(name="annex", pipelines=["face"], is_public=True, face_search="everyone")
    here, there = str(ready(shop, RED).pk), str(ready(annex, RED).pk)
    for collection in ("annex", str(annex.pk), ["annex"]):
        assert ids(post_file(ELSEWHERE_RED, collection=collection)) == [there]
    assert set(ids(post_file(ELSEWHERE_RED, collection=["annex", "shop"]))) == {here, there}
    assert ids(post_json(image_id=here, pipeline="face", collection="annex")) == [there]
    assert set(ids(post_file(ELSEWHERE_RED))) == {here, there}


def test_what_is_deleted_or_hidden_is_found_no_more(shop: Collection) -> None:
    client = editor_of(shop)
    red, blue = ready(shop, RED), ready(shop, BLUE)
    assert ids(post_file(RED)) == [str(red.pk), str(blue.pk)]
    assert client.delete(f"/api/v1/images/{red.pk}/").status_code == 204
    assert ids(post_file(RED)) == [str(blue.pk)]
    Image.objects.update(is_published=False)
    assert ids(post_file(RED)) == []
    assert ids(post_file(RED, client=client)) == [str(blue.pk)]


def test_a_dismissed_face_is_found_no_more(shop: Collection) -> None:
    region = ready(shop, RED).regions.get(pipeline="face")
    response = editor_of(shop).patch(f"/api/v1/regions/{region.pk}/", {"dismissed": True})
    assert response.status_code == 200
    assert ids(post_file(RED, pipeline="face")) == []
    assert_problem(post_json(region=str(region.pk)), 404, "not-found")


def test_private_images_are_found_by_their_groups_alone(shop: Collection) -> None:
    vault = Collection.objects.create(name="vault", pipelines=["face"])
    client = editor_of(vault)
    hidden = ready(vault, RED)
    region = hidden.regions.get()
    assert ids(post_file(RED)) == []
    assert ids(post_file(RED, client=client)) == [str(hidden.pk)]
    for asked in ({"region": str(region.pk)}, {"image_id": str(hidden.pk)}):
        assert_problem(post_json(**asked), 404, "not-found")
        assert post_json(client, **asked).status_code == 200
    assert_problem(post_file(RED, collection="vault"), 404, "not-found")


def test_everybody_searches_with_what_they_see(cast: Cast) -> None:
    image = make_image(cast.private)
    asked = {"image_id": str(image.pk)}
    answers = {name: post_json(cast.client(name), **asked).status_code for name in PEOPLE}
    assert answers == {"anonymous": 404, "viewer": 409, "editor": 409, "other_editor": 404, "superuser": 409}


def test_faces_of_a_public_collection_are_searched_by_whom_it_says(shop: Collection) -> None:
    Collection.objects.update(face_search="staff")
    client = editor_of(shop)
    image = ready(shop, RED)
    assert_problem(post_file(RED, pipeline="face"), 403, "faces-not-allowed")
    assert post_file(RED).json()["pipeline"] == "image"
    assert_problem(post_json(region=str(image.regions.get(pipeline="face").pk)), 404, "not-found")
    assert ids(post_file(RED, client=client, pipeline="face")) == [str(image.pk)]


def test_an_image_that_waits_cannot_be_searched_with_yet(shop: Collection) -> None:
    client = editor_of(shop)
    waiting = put_image(shop, RED)
    assert_problem(post_json(client, image_id=str(waiting.pk)), 409, "not-searchable")


def test_nothing_of_a_query_is_kept(shop: Collection, media: Path) -> None:
    ready(shop, RED)
    before = (files_in(media), Image.objects.count(), IntakeJob.objects.count())
    assert post_file(BLUE).status_code == 200
    assert (files_in(media), Image.objects.count(), IntakeJob.objects.count()) == before


def test_a_search_costs_the_same_for_one_result_and_for_many(shop: Collection, django_assert_num_queries: Any) -> None:
    for count in (1, 7):
        while Image.objects.count() < count:
            ready(shop, squares((5 + Image.objects.count(), 5, 30, "red")))
        post_file(RED)  # brings this process's copy of the index up to date
        with django_assert_num_queries(QUERIES_OF_A_SEARCH):
            assert len(ids(post_file(RED))) == count


# --- What bad input gets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "data", "status", "code"), BAD_FILES)
def test_a_file_that_cannot_be_searched_with(shop: Collection, name: str, data: bytes, status: int, code: str) -> None:
    assert_problem(post_file(data, name), status, code)


@pytest.mark.parametrize("value", [0.0, 1e16])
def test_an_image_of_which_the_model_makes_nothing(
    shop: Collection, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    """An operator's network may give zeros for what is all black; put in, such an image fails."""
    image = ready(shop, RED)
    monkeypatch.setattr(MeanColour, "embed", lambda self, crops: np.full((len(crops), self.dimension), value, "f4"))
    body = assert_problem(post_file(GREY, pipeline="image"), 422, "no-embedding")
    assert "nothing in it to compare" in body["detail"]
    region = image.regions.get(pipeline="image")
    Embedding.objects.filter(region=region).update(vector=np.full(8, value, "<f4").tobytes())
    assert_problem(post_json(region=str(region.pk)), 422, "no-embedding")


def test_limits_that_were_hit_are_told(shop: Collection) -> None:
    body = assert_problem(post_file(png_claiming(9_000, 8_000)), 422, "too-many-pixels")
    assert (body["limit"], body["actual"]) == (64_000_000, 72_000_000)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("k", 0),
        ("k", -1),
        ("k", 10**9),
        ("k", "many"),
        ("face", -1),
        ("face", "left"),
        ("beyond_near", "perhaps"),
        ("collections", "shop"),
        ("collection", "\x00"),
        ("pipeline", "a\x00"),
    ],
)
def test_options_that_cannot_be(shop: Collection, option: str, value: Any) -> None:
    body = assert_problem(post_file(RED, **{option: value}), 400, "invalid")
    assert option in body["errors"]
    assert option in body["detail"]


def test_unknown_pipelines_and_collections_are_named(shop: Collection) -> None:
    body = assert_problem(post_file(RED, pipeline="paws"), 400, "unknown-pipeline")
    assert "paws" in body["detail"]
    assert "face, image" in body["detail"]
    body = assert_problem(post_file(RED, collection="nowhere"), 404, "not-found")
    assert "nowhere" in body["detail"]


@pytest.mark.parametrize("asked", [{}, {"k": 5}, {"region": str(uuid4()), "image_id": str(uuid4())}])
def test_a_search_with_nothing_or_with_too_much(shop: Collection, asked: dict[str, Any]) -> None:
    body = assert_problem(post_json(**asked), 400, "invalid")
    assert "exactly one of image" in body["detail"]


@pytest.mark.parametrize("asked", [{"image": "query.png"}, {"region": "x"}, {"image_id": ["x"]}, {"region": None}])
def test_a_search_with_something_else(shop: Collection, asked: dict[str, Any]) -> None:
    assert list(assert_problem(post_json(**asked), 400, "invalid")["errors"]) == list(asked)


def test_a_search_with_two_files(shop: Collection) -> None:
    files = [SimpleUploadedFile("red.png", RED), SimpleUploadedFile("blue.png", BLUE)]
    response = APIClient().post(SEARCH, {"image": files}, format="multipart")
    assert assert_problem(response, 400, "invalid")["errors"] == {"image": ["Send one file a request."]}


def test_a_form_without_a_file(shop: Collection) -> None:
    assert_problem(APIClient().post(SEARCH, {"k": 5}, format="multipart"), 400, "invalid")


@pytest.mark.parametrize("asked", ["region", "image_id"])
def test_a_search_with_what_is_not_there(shop: Collection, asked: str) -> None:
    assert_problem(post_json(**{asked: str(uuid4())}), 404, "not-found")


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"{", "application/json", 400, "parse-error"),
        (b"[" * 100_000, "application/json", 400, "parse-error"),
        (b'{"k": 1e999}', "application/json", 400, "invalid"),
        (b"[1]", "application/json", 400, "invalid"),
        (b"\xff\xfe", "application/json", 400, "parse-error"),
        (b"x", "multipart/form-data", 400, "parse-error"),
        (RED, "image/png", 415, "unsupported-media-type"),
        (b" " * 6_000_000, "application/json", 413, "body-too-large"),
    ],
)
def test_bodies_that_cannot_be_read(shop: Collection, body: bytes, content_type: str, status: int, code: str) -> None:
    assert_problem(APIClient().post(SEARCH, body, content_type=content_type), status, code)


def test_options_in_the_address_are_not_passed_over(shop: Collection) -> None:
    response = APIClient().post(f"{SEARCH}?k=5", {"image": SimpleUploadedFile("a.png", RED)}, format="multipart")
    assert list(assert_problem(response, 400, "invalid")["errors"]) == ["k"]


def test_getting_is_no_searching(shop: Collection) -> None:
    assert_problem(APIClient().get(SEARCH), 405, "method-not-allowed")


def test_without_a_model_the_operator_is_told_what_to_do(shop: Collection) -> None:
    EmbeddingModel.objects.update(state="retired")
    response = post_file(RED)
    body = assert_problem(response, 503, "no-serving-model")
    assert "manage.py models build" in body["detail"]
    assert response.headers["Retry-After"] == "60"


def test_anonymous_searches_are_counted(shop: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SimpleRateThrottle.THROTTLE_RATES, "search", "2/min")
    image = make_image(shop)
    answers = [post_json(image_id=str(image.pk)) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [409, 409, 429]
    assert_problem(answers[2], 429, "throttled")
    assert 0 < int(answers[2].headers["Retry-After"]) <= 60
    assert post_json(editor_of(shop), image_id=str(image.pk)).status_code == 409
    assert APIClient().get("/api/v1/collections/").status_code == 200


# --- How it was found -------------------------------------------------------------------------------------------------


def test_staff_may_ask_how_an_answer_was_found(shop: Collection) -> None:
    ready(shop, RED)
    ready(shop, BLUE).delete()
    staff = APIClient()
    staff.force_authenticate(User.objects.create_user("staff", is_staff=True))
    body = post_file(RED, client=staff, explain="1", pipeline="face").json()
    told = body.pop("explanation")
    assert told.pop("index_milliseconds") <= told.pop("milliseconds")
    assert told == {
        "strategy": "",
        "rows": 0,
        "allowed": 0,
        "nodes": 0,
        "rounds": 0,
        "scanned": 0,
        "delta": 1,
        "asks": 1,
        "hits": 1,
        "dropped": 0,
    }
    assert body == post_file(RED, client=staff, pipeline="face").json()
    rebuild_index(EmbeddingModel.objects.get(pipeline="face"))
    serving.forget()
    ready(shop, BLUE)
    told = post_file(RED, client=staff, explain="1", pipeline="face").json()["explanation"]
    assert (told["strategy"], told["rows"], told["allowed"], told["scanned"]) == ("scan", 1, 1, 1)
    assert (told["delta"], told["hits"]) == (1, 2)


def test_how_an_answer_was_found_is_for_staff_only(shop: Collection) -> None:
    ready(shop, RED)
    shopper = APIClient()
    shopper.force_authenticate(User.objects.create_user("shopper"))
    for client in (APIClient(), shopper, editor_of(shop)):
        assert_problem(post_file(RED, client=client, explain="true"), 403, "permission-denied")
        assert "explanation" not in post_file(RED, client=client, explain="false").json()
