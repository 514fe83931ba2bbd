"""Everybody of the cast at every door: what one may not see is 404, what one may only see is 403 to change."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils.timezone import now

from catalog.models import Image, IntakeJob, IntakeLine, NearDuplicate, Person
from tests.cast import PEOPLE, Cast, make_face, make_image
from tests.drawn import image_file

pytestmark = pytest.mark.django_db
API = "/api/v1/"


def statuses(cast: Cast, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, int]:
    return {name: getattr(cast.client(name), method)(API + path, body).status_code for name in PEOPLE}


def expected(*answers: Any) -> dict[str, Any]:
    return dict(zip(PEOPLE, answers, strict=True))


def test_reading_one_object(cast: Cast) -> None:
    image = make_image(cast.private)
    face = make_face(image, Person.objects.create(name="Ada"))
    for path in (
        f"collections/{cast.private.pk}/",
        f"images/{image.pk}/",
        f"regions/{face.pk}/",
        f"people/{face.person_id}/",
    ):
        assert statuses(cast, "get", path) == expected(404, 200, 200, 404, 200), path


def test_reading_public_objects(cast: Cast) -> None:
    image = make_image(cast.public)
    for path in (f"collections/{cast.public.pk}/", f"images/{image.pk}/"):
        assert statuses(cast, "get", path) == expected(200, 200, 200, 200, 200), path


def test_faces_and_names_of_a_public_collection_are_for_its_groups(cast: Cast) -> None:
    face = make_face(make_image(cast.public), Person.objects.create(name="Ada"))
    frame = make_face(face.image, pipeline="image")
    assert statuses(cast, "get", f"regions/{face.pk}/") == expected(404, 200, 200, 404, 200)
    assert statuses(cast, "get", f"people/{face.person_id}/") == expected(404, 200, 200, 404, 200)
    assert statuses(cast, "get", f"regions/{frame.pk}/") == expected(200, 200, 200, 200, 200)


@pytest.mark.parametrize("state", [{"is_published": False}, {"status": "queued"}, {"status": "failed", "reason": "?"}])
def test_images_that_are_not_out_are_for_editors(cast: Cast, state: dict[str, Any]) -> None:
    image = make_image(cast.public, **state)
    assert statuses(cast, "get", f"images/{image.pk}/") == expected(404, 404, 200, 404, 200)


def test_what_a_shown_image_waits_for_is_for_its_editors(cast: Cast) -> None:
    """It was ready and is processed again: everybody sees it, as before."""
    facts = {"status": "queued", "processed_at": now(), "reason": "Waiting: no model."}
    image = make_image(cast.public, **facts)
    make_image(cast.foreign, **facts)
    told = {}
    for name in PEOPLE:
        body = cast.client(name).get(f"{API}images/{image.pk}/").json()
        told[name] = (body["status"], body["reason"])
        listed = cast.client(name).get(f"{API}images/").json()["results"]
        assert {each["reason"] for each in listed if each["id"] == str(image.pk)} == {body["reason"]}
    quiet, loud = ("queued", ""), ("queued", "Waiting: no model.")
    assert told == expected(quiet, quiet, loud, quiet, loud)


def test_changing_needs_an_editor(cast: Cast) -> None:
    face = make_face(make_image(cast.private), Person.objects.create(name="Ada"))
    assert statuses(cast, "patch", f"regions/{face.pk}/", {"dismissed": False}) == expected(401, 403, 200, 404, 200)
    assert statuses(cast, "patch", f"people/{face.person_id}/", {"name": "Ada"}) == expected(401, 403, 200, 404, 200)


def test_deleting_needs_an_editor(cast: Cast) -> None:
    found = {}
    for name in PEOPLE:
        image = make_image(cast.private)
        found[name] = cast.client(name).delete(f"{API}images/{image.pk}/").status_code
        assert Image.objects.filter(pk=image.pk).exists() == (found[name] != 204)
    assert found == expected(401, 403, 204, 404, 204)


def test_uploading_needs_an_editor(cast: Cast) -> None:
    found = {}
    for number, name in enumerate(PEOPLE):
        body = {"image": _upload((number, 0, 0)), "collection": "private"}
        found[name] = cast.client(name).post(f"{API}images/", body, format="multipart").status_code
    assert found == expected(401, 403, 202, 404, 202)
    assert Image.objects.count() == 2


def _upload(color: tuple[int, int, int]) -> Any:
    from django.core.files.uploadedfile import SimpleUploadedFile

    return SimpleUploadedFile("drawn.jpg", image_file(color))


def test_a_line_is_for_its_sender_and_the_editors(cast: Cast) -> None:
    job = IntakeJob.objects.create(collection=cast.private, source="api", started_by=cast.viewer)
    line = IntakeLine.objects.create(job=job, source="a.jpg", verdict="refused", code="empty-file", reason="Empty.")
    assert statuses(cast, "get", f"intake-lines/{line.pk}/") == expected(401, 200, 200, 404, 200)


def test_a_job_is_for_its_starter_and_the_editors(cast: Cast) -> None:
    job = IntakeJob.objects.create(collection=cast.private, source="urls", started_by=cast.viewer)
    for path in ("", "lines/", "lines.csv"):
        assert statuses(cast, "get", f"jobs/{job.pk}/{path}") == expected(401, 200, 200, 404, 200), path
    listed = {name: len(cast.client(name).get(f"{API}jobs/").json().get("results", ())) for name in PEOPLE}
    assert listed == expected(0, 1, 1, 0, 1)
    for action in ("pause", "resume", "retry", "cancel"):
        assert statuses(cast, "post", f"jobs/{job.pk}/{action}/") == expected(401, 403, 200, 404, 200), action


def test_beginning_a_job_needs_an_editor(cast: Cast) -> None:
    body = {"collection": "private", "urls": ["https://example.org/1.jpg"]}
    assert statuses(cast, "post", "jobs/", body) == expected(401, 403, 202, 404, 202)
    found = {}
    for number, name in enumerate(PEOPLE):
        body = {"image": [_upload((number, 0, 0)), _upload((number, 9, 9))], "collection": "private"}
        found[name] = cast.client(name).post(f"{API}images/", body, format="multipart").status_code
    assert found == expected(401, 403, 202, 404, 202)
    assert Image.objects.count() == 4


def test_near_duplicates_are_for_editors(cast: Cast) -> None:
    found = {}
    for name in PEOPLE:
        noted = NearDuplicate.objects.create(image=make_image(cast.private), other=make_image(cast.private), distance=1)
        path = f"{API}near-duplicates/{noted.pk}/"
        client = cast.client(name)
        read = client.get(path).status_code
        chosen = client.post(path, {"decision": "keep"}).status_code
        found[name] = (read, chosen, client.get(f"{API}near-duplicates/").status_code)
    nothing = (404, 404, 200)
    assert found == expected((401, 401, 401), nothing, (200, 200, 200), nothing, (200, 200, 200))
    counts = {name: len(cast.client(name).get(f"{API}near-duplicates/").json()["results"]) for name in PEOPLE[1:]}
    assert counts == {"viewer": 0, "editor": len(PEOPLE), "other_editor": 0, "superuser": len(PEOPLE)}


def test_lists_hold_what_each_may_see(cast: Cast) -> None:
    for collection in (cast.private, cast.public, cast.foreign):
        make_face(make_image(collection), Person.objects.create(name=f"Somebody in {collection}"))
    counts = {
        name: [
            len(cast.client(name).get(API + kind).json()["results"]) for kind in ("collections/", "images/", "people/")
        ]
        for name in PEOPLE
    }
    assert counts == {
        "anonymous": [1, 1, 0],
        "viewer": [2, 2, 2],
        "editor": [2, 2, 2],
        "other_editor": [2, 2, 1],
        "superuser": [3, 3, 3],
    }


@pytest.mark.parametrize(
    "path", ["collections/", "images/", "regions/", "people/", "intake-lines/", "jobs/", "near-duplicates/", "search/"]
)
@pytest.mark.parametrize("method", ["put", "delete"])
def test_what_a_list_cannot_do(cast: Cast, path: str, method: str) -> None:
    assert getattr(cast.client("superuser"), method)(API + path, {}).status_code in (404, 405)
