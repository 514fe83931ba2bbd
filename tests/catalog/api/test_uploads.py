from __future__ import annotations

import errno
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from catalog import storage
from catalog.models import Collection, Image, IntakeLine, NearDuplicate
from tests.cast import Cast, assert_problem
from tests.drawn import BAD_FILES, image_file, padded, photo

pytestmark = pytest.mark.django_db
IMAGES = "/api/v1/images/"
LINE_KEYS = {"id", "source", "verdict", "code", "reason", "image", "near_duplicate"}


def upload(cast: Cast, content: bytes, name: str = "drawn.jpg", who: str = "editor", **facts: Any) -> Any:
    body = {"image": SimpleUploadedFile(name, content), "collection": "private", **facts}
    return cast.client(who).post(IMAGES, body, format="multipart")


def test_an_upload_is_stored_and_answered_with_its_line(cast: Cast) -> None:
    response = upload(cast, image_file())
    assert response.status_code == 202
    line = response.json()
    assert set(line) == LINE_KEYS
    assert (line["source"], line["verdict"], line["code"], line["reason"]) == ("drawn.jpg", "stored", "", "")
    image = Image.objects.get(pk=line["image"])
    assert (image.collection, image.uploader, image.status) == (cast.private, cast.editor, "queued")
    assert storage.originals().exists(storage.original_key(image.pk, "JPEG"))
    assert cast.client("editor").get(f"/api/v1/intake-lines/{line['id']}/").json() == line
    assert cast.client("editor").get(f"{IMAGES}{line['image']}/").json()["status"] == "queued"


def test_who_uploads_is_told_what_it_looks_like_and_that_it_is_held(cast: Cast) -> None:
    Collection.objects.filter(pk=cast.private.pk).update(near_duplicates="hold")
    first = upload(cast, photo(1), "first.jpg").json()
    assert first["near_duplicate"] is None
    line = upload(cast, padded(photo(1), len(photo(1)) + 100), "second.jpg").json()
    noted = NearDuplicate.objects.get()
    said = {"id": str(noted.pk), "other": first["image"], "distance": 0, "is_mirrored": False}
    assert (line["verdict"], line["near_duplicate"]) == ("stored", said)
    client = cast.client("editor")
    assert client.get(f"/api/v1/intake-lines/{line['id']}/").json() == line
    image = client.get(f"{IMAGES}{line['image']}/").json()
    assert (image["status"], image["held_for"]) == ("held", "near-duplicate")
    assert client.post(f"/api/v1/near-duplicates/{noted.pk}/", {"decision": "keep"}).status_code == 200
    assert client.get(f"/api/v1/intake-lines/{line['id']}/").json()["near_duplicate"] is None
    assert client.get(f"{IMAGES}{line['image']}/").json()["held_for"] == ""


def test_what_is_known_of_an_image_is_kept(cast: Cast) -> None:
    facts = {
        "title": "A shoe",
        "label": "4711",
        "external_id": "x-1",
        "link": "https://shop.example/4711",
        "source_url": "https://maker.example/4711.jpg",
        "licence": "CC0",
    }
    response = upload(cast, image_file(), tags=["red", "leather"], is_published="false", **facts)
    body = cast.client("editor").get(f"{IMAGES}{response.json()['image']}/").json()
    assert {key: body[key] for key in facts} == facts
    assert body["tags"] == ["leather", "red"]
    assert body["is_published"] is False


def test_an_image_is_published_unless_somebody_says_otherwise(cast: Cast) -> None:
    assert Image.objects.get(pk=upload(cast, image_file()).json()["image"]).is_published


def test_the_same_file_again_is_answered_with_the_one_that_is_here(cast: Cast) -> None:
    first = upload(cast, image_file()).json()
    again = upload(cast, image_file(), name="other.jpg")
    assert again.status_code == 200
    assert (again.json()["verdict"], again.json()["image"]) == ("duplicate", first["image"])
    assert Image.objects.count() == 1


@pytest.mark.parametrize(("name", "content", "status", "code"), BAD_FILES)
def test_a_refused_file_is_answered_with_the_reason_and_its_line(
    cast: Cast, name: str, content: bytes, status: int, code: str
) -> None:
    body = assert_problem(upload(cast, content, name), status, code)
    assert set(body["line"]) == LINE_KEYS
    assert (body["line"]["verdict"], body["line"]["code"], body["line"]["image"]) == ("refused", code, None)
    assert body["detail"] == body["line"]["reason"]
    assert cast.client("editor").get(f"/api/v1/intake-lines/{body['line']['id']}/").json() == body["line"]
    assert not Image.objects.exists()


def test_a_file_above_the_limit_is_refused_with_its_size(cast: Cast, settings: Any) -> None:
    settings.VISEARCH_LIMITS = {**settings.VISEARCH_LIMITS, "bytes": 500}
    body = assert_problem(upload(cast, image_file(size=(400, 300))), 413, "too-many-bytes")
    assert body["line"]["verdict"] == "refused"


@pytest.mark.parametrize(
    ("facts", "field"),
    [
        ({"titel": "A shoe"}, "titel"),
        ({"link": "javascript:alert(1)"}, "link"),
        ({"title": "x" * 301}, "title"),
        ({"label": "a\x00b"}, "label"),
        ({"tags": ["x"] * 51}, "tags"),
        ({"is_published": "perhaps"}, "is_published"),
        ({"collection": ""}, "collection"),
        ({"image": "drawn.jpg"}, "image"),
    ],
)
def test_facts_that_cannot_be_are_refused_by_name(cast: Cast, facts: dict[str, Any], field: str) -> None:
    body = assert_problem(upload(cast, image_file(), **facts), 400, "invalid")
    assert list(body["errors"]) == [field]
    assert not IntakeLine.objects.exists()


def test_an_unknown_collection_and_one_that_is_not_shown_are_the_same(cast: Cast) -> None:
    for name in ("foreign", str(cast.foreign.pk), "nowhere"):
        body = assert_problem(upload(cast, image_file(), collection=name), 404, "not-found")
        assert name in body["detail"]


def test_a_name_with_a_path_and_bad_characters_is_only_data(cast: Cast) -> None:
    response = upload(cast, image_file(), name="../../etc/pass\x00wd\n.jpg")
    assert response.status_code == 202
    assert Image.objects.get(pk=response.json()["image"]).original_name.endswith(".jpg")


def test_json_is_no_way_to_send_a_file(cast: Cast) -> None:
    response = cast.client("editor").post(IMAGES, {"collection": "private"}, format="json")
    assert_problem(response, 415, "unsupported-media-type")


def test_a_body_that_is_no_multipart(cast: Cast) -> None:
    for content_type in ("multipart/form-data", "multipart/form-data; boundary=x"):
        response = cast.client("editor").post(IMAGES, b"nonsense", content_type=content_type)
        assert response.status_code == 400
        assert response.json()["code"] in ("parse-error", "invalid")


@pytest.mark.parametrize(
    ("number", "status", "code"), [(errno.ENOSPC, 507, "disk-full"), (errno.EROFS, 503, "storage-unavailable")]
)
def test_a_disk_that_takes_nothing(
    cast: Cast, monkeypatch: pytest.MonkeyPatch, number: int, status: int, code: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(storage, "save_original", refuse)
    response = upload(cast, image_file())
    assert_problem(response, status, code)
    assert response.headers["Retry-After"] == "60"
    assert IntakeLine.objects.get().verdict == "failed"
    assert not Image.objects.exists()
