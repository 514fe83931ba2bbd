"""CSV files that come by the API and the admin: what a user may not do there, and requests that broke off."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse
from django.utils import timezone

from catalog.models import IdempotencyKey, IntakeJob, IntakeLine, Person
from tests.cast import Cast, assert_problem, make_face, make_image
from tests.catalog.admin.staff import staff_client

pytestmark = pytest.mark.django_db
JOBS = "/api/v1/jobs/"
PEOPLE = "url,collection,person\nhttp://a.test/1,private,Ada\nhttp://a.test/2,private,Eve\n"


def file_of(text: str) -> SimpleUploadedFile:
    return SimpleUploadedFile("list.csv", text.encode(), "text/csv")


def post(cast: Cast, text: str, **headers: str) -> Any:
    body = {"collection": "private", "csv": file_of(text)}
    return cast.client("editor").post(JOBS, body, format="multipart", **headers)


def test_a_face_is_not_named_as_somebody_whom_the_editor_may_not_see(cast: Cast) -> None:
    make_face(make_image(cast.foreign), Person.objects.create(name="Eve"))
    errors = assert_problem(post(cast, PEOPLE), 400, "invalid")["errors"]
    assert [said.partition(". ")[0] for said in errors["csv"]] == ["line 3: person: This name cannot be used here"]
    page = staff_client(cast, "editor").post(reverse("admin:catalog_intakejob_csv_list"), {"file": file_of(PEOPLE)})
    assert "This name cannot be used here" in page.content.decode()
    assert not IntakeJob.objects.exists()
    make_face(make_image(cast.private), Person.objects.get(name="Eve"))
    assert post(cast, PEOPLE).status_code == 202


def test_a_request_with_a_key_that_broke_off_makes_no_second_job(cast: Cast) -> None:
    """Its process died after the commit; by the time it is sent again all that it asked for has ended."""
    first = post(cast, PEOPLE, HTTP_IDEMPOTENCY_KEY="k")
    IdempotencyKey.objects.update(status=None, answer=None, lease_until=timezone.now())
    IntakeLine.objects.update(verdict="failed", reason="404")
    again = post(cast, PEOPLE, HTTP_IDEMPOTENCY_KEY="k")
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json()["id"] == first.json()["id"]
    assert IntakeJob.objects.count() == 1
