from __future__ import annotations

from typing import Any

import pytest

from catalog.models import Image, Person
from tests.cast import Cast, assert_problem, make_face, make_image

pytestmark = pytest.mark.django_db
IMAGES = "/api/v1/images/"
# token and its user, the user's other tokens, groups, images with their collection, tags
QUERIES_OF_A_LIST = 5


def listed(cast: Cast, query: str = "", who: str = "editor") -> list[dict[str, Any]]:
    response = cast.client(who).get(IMAGES + query)
    assert response.status_code == 200, response.content
    return list(response.json()["results"])


def test_one_image_says_all_that_is_known(cast: Cast) -> None:
    image = make_image(cast.private, title="A shoe", label="4711", external_id="x-1", link="https://shop.example/4711")
    image.tags.add("red", "leather")
    face = make_face(image, Person.objects.create(name="Ada"), landmarks=[[1, 2]] * 5)
    body = cast.client("editor").get(f"{IMAGES}{image.pk}/").json()
    assert body["collection"] == {"id": str(cast.private.pk), "name": "private"}
    assert [body[key] for key in ("title", "label", "external_id", "link")] == [
        "A shoe",
        "4711",
        "x-1",
        "https://shop.example/4711",
    ]
    assert body["tags"] == ["leather", "red"]
    assert body["renditions"] == {
        size: f"http://testserver/images/{image.pk}/rendition/{size}.webp" for size in ("320", "1280")
    }
    (region,) = body["regions"]
    assert region["box"] == {"x": 10.0, "y": 20.0, "width": 30.0, "height": 40.0}
    assert region["person"] == {"id": str(face.person_id), "name": "Ada"}


def test_faces_are_left_out_where_they_may_not_be_searched(cast: Cast) -> None:
    image = make_image(cast.public)
    make_face(image, Person.objects.create(name="Ada"))
    make_face(image, pipeline="image")
    for who, pipelines in (("anonymous", ["image"]), ("viewer", ["face", "image"])):
        body = cast.client(who).get(f"{IMAGES}{image.pk}/").json()
        assert sorted(region["pipeline"] for region in body["regions"]) == pipelines
        assert ("Ada" in str(body)) == ("face" in pipelines)


def test_a_dismissed_face_is_for_editors(cast: Cast) -> None:
    image = make_image(cast.private)
    make_face(image, dismissed=True)
    for who, count in (("viewer", 0), ("editor", 1)):
        assert len(cast.client(who).get(f"{IMAGES}{image.pk}/").json()["regions"]) == count


def test_filters(cast: Cast) -> None:
    ada = Person.objects.create(name="Ada")
    shoe = make_image(cast.private, label="shoe", external_id="1")
    hat = make_image(cast.public, label="hat", external_id="2", status="failed", reason="No.")
    hat.tags.add("red")
    make_face(shoe, ada)
    for query, found in (
        ("?label=shoe", shoe),
        ("?external_id=2", hat),
        ("?status=failed", hat),
        ("?tag=red", hat),
        ("?person=Ada", shoe),
        (f"?person={ada.pk}", shoe),
        ("?collection=public", hat),
        (f"?collection={cast.private.pk}", shoe),
    ):
        assert [row["id"] for row in listed(cast, query)] == [str(found.pk)], query
    assert listed(cast, "?label=sho") == []


def test_a_filter_tells_nothing_of_what_one_may_not_see(cast: Cast) -> None:
    make_face(make_image(cast.public), Person.objects.create(name="Ada"))
    anonymous = cast.client("anonymous")
    unseen = assert_problem(anonymous.get(f"{IMAGES}?person=Ada"), 404, "not-found")
    unknown = assert_problem(anonymous.get(f"{IMAGES}?person=Eve"), 404, "not-found")
    assert unseen["detail"].replace("Ada", "Eve") == unknown["detail"]
    assert_problem(anonymous.get(f"{IMAGES}?collection=private"), 404, "not-found")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?colour=red", "colour"),
        ("?status=done", "status"),
        ("?label=%00", "label"),
        ("?collection=%00", "collection"),
        ("?page_size=0", "page_size"),
        ("?page_size=101", "page_size"),
        ("?page_size=²", "page_size"),
        ("?page_size=000000001999999", "page_size"),
        ("?page_size=" + "9" * 5_000, "page_size"),
        ("?cursor=cD1ub3QrYW4raWQ=", "cursor"),
    ],
)
def test_a_parameter_that_cannot_be(cast: Cast, query: str, field: str) -> None:
    body = assert_problem(cast.client("anonymous").get(IMAGES + query), 400, "invalid")
    assert list(body["errors"]) == [field]


def test_pages_are_walked_without_losing_or_doubling(cast: Cast) -> None:
    made = {str(make_image(cast.public).pk) for _ in range(7)}
    seen: list[str] = []
    address: str | None = f"{IMAGES}?page_size=3"
    while address:
        page = cast.client("anonymous").get(address).json()
        assert len(page["results"]) <= 3
        seen += [row["id"] for row in page["results"]]
        make_image(cast.public)  # somebody uploads meanwhile: pages do not shift
        address = page["next"]
    assert len(seen) == 7
    assert set(seen) == made


def test_a_list_costs_the_same_for_one_image_and_for_many(cast: Cast, django_assert_num_queries: Any) -> None:
    client = cast.client("editor")
    for count in (1, 20):
        while Image.objects.count() < count:
            image = make_image(cast.private)
            image.tags.add("a", "b")
            make_face(image, Person.objects.get_or_create(name="Ada")[0])
        with django_assert_num_queries(QUERIES_OF_A_LIST):
            assert len(client.get(IMAGES).json()["results"]) == count


def test_a_detail_costs_the_same_for_one_face_and_for_many(cast: Cast, django_assert_num_queries: Any) -> None:
    client = cast.client("editor")
    image = make_image(cast.private)
    for number in range(5):
        make_face(image, Person.objects.create(name=f"Number {number}"))
    with django_assert_num_queries(QUERIES_OF_A_LIST + 2):  # regions; versions
        assert len(client.get(f"{IMAGES}{image.pk}/").json()["regions"]) == 5


def test_addresses_answer_with_and_without_the_last_slash(cast: Cast) -> None:
    image = make_image(cast.public)
    for path in ("images", f"images/{image.pk}", "collections", "regions", "people"):
        assert cast.client("anonymous").get(f"/api/v1/{path}").status_code == 200
        assert cast.client("anonymous").get(f"/api/v1/{path}/").status_code == 200


@pytest.mark.parametrize("key", ["x", "-" * 36, "0" * 32, "0" * 37])
def test_a_key_that_is_none_is_not_found(cast: Cast, key: str) -> None:
    assert_problem(cast.client("anonymous").get(f"{IMAGES}{key}/"), 404, "not-found")


def test_a_deleted_image_takes_its_files_along_after_the_commit(
    cast: Cast, django_capture_on_commit_callbacks: Any
) -> None:
    from django.core.files.base import ContentFile

    from catalog import storage

    image = make_image(cast.private)
    keys = storage.file_keys(image.pk, image.format)
    for files, key in keys:
        files.save(key, ContentFile(b"content"))
    with django_capture_on_commit_callbacks(execute=True):
        assert cast.client("editor").delete(f"{IMAGES}{image.pk}/").status_code == 204
        assert all(files.exists(key) for files, key in keys)
    assert not any(files.exists(key) for files, key in keys)
    assert_problem(cast.client("editor").get(f"{IMAGES}{image.pk}/"), 404, "not-found")
