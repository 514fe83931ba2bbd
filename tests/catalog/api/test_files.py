from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile

from catalog import storage
from catalog.models import Collection, Image
from tests.cast import PEOPLE, Cast, assert_problem, make_image
from tests.drawn import image_file

pytestmark = pytest.mark.django_db


def image_with_files(collection: Collection, **facts: Any) -> Image:
    image = make_image(collection, **facts)
    for size in storage.RENDITION_SIZES:
        storage.renditions().save(storage.rendition_key(image.pk, size), ContentFile(image_file(kind="WEBP")))
    storage.originals().save(storage.original_key(image.pk, image.format), ContentFile(image_file()))
    return image


def rendition(image: Image, size: int = 320) -> str:
    return f"/images/{image.pk}/rendition/{size}.webp"


def content(response: Any) -> bytes:
    return b"".join(response.streaming_content)


@pytest.mark.parametrize(
    ("name", "codes"), [("private", (404, 200, 200, 404, 200)), ("public", (200, 200, 200, 200, 200))]
)
def test_renditions_are_for_those_who_see_the_image(cast: Cast, name: str, codes: tuple[int, ...]) -> None:
    image = image_with_files(getattr(cast, name))
    for size in storage.RENDITION_SIZES:
        found = tuple(cast.client(who).get(rendition(image, size)).status_code for who in PEOPLE)
        assert found == codes


def test_originals_are_for_editors(cast: Cast) -> None:
    found = {}
    for name in ("private", "public"):
        image = image_with_files(getattr(cast, name))
        found[name] = [cast.client(who).get(f"/images/{image.pk}/original").status_code for who in PEOPLE]
    assert found == {"private": [404, 403, 200, 404, 200], "public": [401, 403, 200, 403, 200]}


def test_a_rendition_is_webp_and_kept_by_its_reader_alone(cast: Cast) -> None:
    image = image_with_files(cast.public)
    response = cast.client("anonymous").get(rendition(image), HTTP_ACCEPT="image/webp")
    assert content(response) == image_file(kind="WEBP")
    assert response.headers["Content-Type"] == "image/webp"
    assert response.headers["Cache-Control"] == "private, max-age=3600"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert {"Cookie", "Authorization"} <= set(response.headers["Vary"].split(", "))


def test_a_rendition_that_the_reader_has_is_not_sent_again(cast: Cast) -> None:
    image = image_with_files(cast.private)
    client = cast.client("viewer")
    tags = [client.get(rendition(image, size)).headers["ETag"] for size in storage.RENDITION_SIZES]
    assert len(set(tags)) == 2
    assert client.get(rendition(image), HTTP_IF_NONE_MATCH=tags[0]).status_code == 304
    assert client.get(rendition(image), HTTP_IF_NONE_MATCH=tags[1]).status_code == 200
    image.is_published = False
    image.save()
    assert client.get(rendition(image), HTTP_IF_NONE_MATCH=tags[0]).status_code == 404


def test_a_rendition_that_is_not_there_says_why(cast: Cast) -> None:
    image = make_image(cast.private, status="queued")
    body = assert_problem(cast.client("editor").get(rendition(image)), 404, "not-found")
    assert "queued" in body["detail"]
    assert "320" in assert_problem(cast.client("editor").get(rendition(image, 999)), 404, "not-found")["detail"]


@pytest.mark.parametrize("path", ["x/rendition/320.webp", "x/original", "../../etc/passwd"])
def test_addresses_of_no_file(cast: Cast, path: str) -> None:
    assert_problem(cast.client("anonymous").get(f"/images/{path}"), 404, "not-found")


@pytest.mark.parametrize(
    ("name", "sent_as"),
    [
        ("holiday.jpeg", 'attachment; filename="holiday.jpg"'),
        ("../../evil.exe", 'attachment; filename="evil.jpg"'),
        ('a"b\r\nSet-Cookie: x.jpg', 'attachment; filename="a_b_Set-Cookie_ x.jpg"'),
        ("Größe.jpg", "attachment; filename*=utf-8''Gr%C3%B6%C3%9Fe.jpg"),
    ],
)
def test_an_original_is_a_download_under_a_harmless_name(cast: Cast, name: str, sent_as: str) -> None:
    image = image_with_files(cast.private, original_name=name)
    response = cast.client("editor").get(f"/images/{image.pk}/original")
    assert content(response) == image_file()
    assert response.headers["Content-Disposition"] == sent_as
    assert response.headers["Content-Type"] == "image/jpeg"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] == "private, no-store"


def test_an_original_without_a_name_is_called_by_its_id(cast: Cast) -> None:
    image = image_with_files(cast.private)
    response = cast.client("editor").get(f"/images/{image.pk}/original")
    assert response.headers["Content-Disposition"] == f'attachment; filename="{image.pk}.jpg"'


def test_a_missing_original_says_what_to_do(cast: Cast) -> None:
    image = make_image(cast.private)
    response = cast.client("editor").get(f"/images/{image.pk}/original")
    assert "backup" in assert_problem(response, 404, "not-found")["detail"]


def test_a_file_that_cannot_be_read_is_the_operators_to_mend(cast: Cast) -> None:
    image = make_image(cast.private)
    for files, key in storage.file_keys(image.pk, image.format):
        Path(files.path(key)).mkdir(parents=True)  # opening it is an error, and not that of a missing file
    for address in (rendition(image), f"/images/{image.pk}/original"):
        response = cast.client("editor").get(address)
        assert_problem(response, 503, "storage-unavailable")
        assert response.headers["Retry-After"] == "60"
