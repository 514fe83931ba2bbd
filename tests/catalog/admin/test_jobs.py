"""A job's page: what became of every file, how far it is, how fast, and for how long still."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from catalog.models import Image, IntakeJob, IntakeLine, NearDuplicate
from catalog.overview import progress_of
from tests.cast import Cast, make_image
from tests.catalog.admin.staff import staff_client
from tests.catalog.api.conftest import cast

__all__ = ["cast"]
pytestmark = pytest.mark.django_db


@pytest.fixture
def editor(cast: Cast) -> Client:
    return staff_client(cast, "editor")


@pytest.fixture
def job(cast: Cast) -> IntakeJob:
    return IntakeJob.objects.create(collection=cast.private, source="admin", started_by=cast.editor)


def line(job: IntakeJob, verdict: str = "stored", image: Image | None = None, **facts: Any) -> IntakeLine:
    reason = "It is broken." if verdict in ("refused", "failed") else ""
    return IntakeLine.objects.create(
        job=job, verdict=verdict, image=image, **{"source": "a.jpg", "reason": reason, **facts}
    )


def ready_after(job: IntakeJob, seconds: float) -> None:
    line(job, image=make_image(job.collection, processed_at=job.created_at + timedelta(seconds=seconds)))


def url(job: IntakeJob, kind: str = "change") -> str:
    return reverse(f"admin:catalog_intakejob_{kind}", args=[job.pk])


def later(job: IntakeJob, seconds: float) -> datetime:
    return job.created_at + timedelta(seconds=seconds)


def test_rate_and_time_left(job: IntakeJob) -> None:
    for number in range(1, 5):
        ready_after(job, number)
    for _ in range(6):
        line(job, image=make_image(job.collection, status="queued"))
    line(job, "refused")
    progress = progress_of(job, now=later(job, 8))
    assert (progress.total, progress.finished, progress.waiting) == (11, 5, 6)
    assert progress.rate == pytest.approx(0.5)
    assert progress.seconds_left == pytest.approx(12)


def test_a_job_that_rested_goes_by_what_it_did_lately(job: IntakeJob, editor: Client) -> None:
    ready_after(job, 1)
    line(job, image=make_image(job.collection, status="queued"))
    resting = progress_of(job, now=later(job, 100_000))
    assert (resting.rate, resting.seconds_left) == (None, None)
    for second in range(60):
        ready_after(job, 100_000 - second)
    line(job, "duplicate", make_image(job.collection, processed_at=later(job, 100_000)))  # another's work
    progress = progress_of(job, now=later(job, 100_000))
    assert progress.rate == pytest.approx(0.5)
    assert progress.seconds_left == pytest.approx(2)


def test_a_job_that_rests_does_not_say_that_it_did_not_begin(job: IntakeJob, editor: Client) -> None:
    line(job, image=make_image(job.collection, status="queued"))
    assert editor.get(url(job)).context["progress"]["pace"] == "not begun"
    line(job, image=make_image(job.collection, processed_at=timezone.now() - timedelta(days=1)))
    assert editor.get(url(job)).context["progress"]["pace"] == "nothing was processed in the last minutes"


def test_a_job_that_is_through_has_no_time_left(job: IntakeJob) -> None:
    for number in range(1, 5):
        ready_after(job, number)
    progress = progress_of(job, now=later(job, 4))
    assert progress.rate == pytest.approx(1)
    assert progress.seconds_left is None


def test_nobody_knows_before_the_first(job: IntakeJob) -> None:
    line(job, image=make_image(job.collection, status="queued"))
    progress = progress_of(job)
    assert (progress.rate, progress.seconds_left) == (None, None)


def test_the_page_says_it_of_every_line(job: IntakeJob, editor: Client) -> None:
    here = make_image(job.collection)
    ready_after(job, 1)
    line(job, "duplicate", here, reason="This collection already has the very same file.")
    line(job, "refused", source="<script>alert(1)</script>.png", reason="The file is empty.")
    line(job, "failed", make_image(job.collection, status="failed", reason="It is broken."))
    page = editor.get(url(job)).content.decode()
    for words in ("4 of 4 finished", "1 ready", "1 already here", "1 refused", "1 failed", "The file is empty."):
        assert words in page
    assert reverse("admin:catalog_image_change", args=[here.pk]) in page
    assert "<script>alert(1)" not in page


def test_what_looks_like_others_is_said_with_a_link_to_the_choice(job: IntakeJob, cast: Cast, editor: Client) -> None:
    old, new = make_image(job.collection, title="old shoe"), make_image(job.collection, title="new shoe")
    noted = NearDuplicate.objects.create(image=new, other=old, distance=3)
    mine = line(job, image=new)
    elsewhere = make_image(job.collection)
    NearDuplicate.objects.create(image=elsewhere, other=old, distance=3)
    page = editor.get(url(job)).content.decode()
    choices = reverse("admin:catalog_nearduplicate_changelist")
    assert f'href="{choices}?job={job.pk}">1 looks like another: choose</a>' in page
    assert "It looks like old shoe (nearly the same)." in page
    said = editor.get(url(job, "lines"), {"lines": str(mine.pk)}).json()
    assert said["lines"][0]["choose"] == f"{choices}?image={new.pk}"
    for address in (said["lines"][0]["choose"], said["progress"]["counts"][-1]["url"]):
        assert list(editor.get(address).context["page"].object_list) == [noted]
    answer = editor.post(f"{choices}?job={job.pk}", {"one": f"keep {noted.pk}"})
    assert answer.headers["Location"] == f"{choices}?job={job.pk}"
    said = editor.get(url(job, "lines"), {"lines": str(mine.pk)}).json()
    assert (said["lines"][0]["choose"], said["lines"][0]["why"]) == ("", "")
    assert [count["name"] for count in said["progress"]["counts"]] == ["ready"]


def test_who_may_not_choose_is_told_without_a_link(job: IntakeJob, cast: Cast, editor: Client) -> None:
    cast.editor.groups.get(name="editors").permissions.clear()
    cast.editor.user_permissions.add(Permission.objects.get(codename="view_intakejob"))
    image = make_image(job.collection)
    NearDuplicate.objects.create(image=image, other=make_image(job.collection, title="old shoe"), distance=3)
    line(job, image=image)
    page = editor.get(url(job))
    assert "It looks like old shoe" in page.content.decode()
    assert page.context["rows"][0]["choose"] == page.context["progress"]["counts"][-1]["url"] == ""


def test_lines_cost_the_same_for_one_and_for_many(job: IntakeJob, editor: Client) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            assert editor.get(url(job)).status_code == 200
        return len(asked)

    few = 0
    for _ in range(2):
        for _ in range(6):
            image = make_image(job.collection)
            NearDuplicate.objects.create(image=image, other=make_image(job.collection), distance=3)
            line(job, image=image)
        few = few or queries()
    assert queries() == few


def test_what_waits_is_told_by_stage_with_its_reason_and_the_latest_failure(job: IntakeJob, editor: Client) -> None:
    why = "The model face is not loaded."
    for verdict in ("waiting", "waiting", "receiving"):
        line(job, verdict)
    line(job, image=make_image(job.collection, status="queued", reason=why))
    line(job, image=make_image(job.collection, status="processing", lease_until=timezone.now()))
    page = editor.get(url(job)).context["progress"]
    counts = {count["name"]: count["number"] for count in page["counts"]}
    assert counts == {"to fetch": 2, "arriving": 1, "to process": 1, "processing": 1}
    assert (page["reasons"], page["failure"]) == ([why], None)
    now = timezone.now()
    line(job, "failed", source="<b>late</b>.jpg", ended_at=now)
    line(job, "refused", source="early.jpg", ended_at=now - timedelta(minutes=1))
    page = editor.get(url(job)).content.decode()
    assert f'href="{url(job)}?verdict=failed">&lt;b&gt;late&lt;/b&gt;.jpg: It is broken.</a>' in page
    assert why in page


def test_files_that_a_command_brings_are_not_to_be_fetched(job: IntakeJob, editor: Client) -> None:
    IntakeJob.objects.update(source="folder", begun_on="a.test")
    line(job, "waiting", path="/photos/a.jpg")
    assert editor.get(url(job)).context["progress"]["counts"] == [{"name": "to take in", "number": 1}]


def test_lines_come_in_pages_and_by_verdict(job: IntakeJob, editor: Client) -> None:
    IntakeLine.objects.bulk_create(IntakeLine(job=job, source=f"{number}.jpg") for number in range(130))
    line(job, "refused", source="last.png")
    assert len(editor.get(url(job)).context["rows"]) == 100
    assert [row["source"] for row in editor.get(url(job), {"page": 2}).context["rows"]][-1] == "last.png"
    assert [row["source"] for row in editor.get(url(job), {"verdict": "refused"}).context["rows"]] == ["last.png"]


def test_what_is_asked_for_while_it_goes_on(job: IntakeJob, editor: Client) -> None:
    mine = line(job, image=make_image(job.collection, status="queued"))
    other = line(job, image=make_image(job.collection, status="processing", lease_until=timezone.now()))
    asked = {"lines": f"{mine.pk},nonsense,{job.pk}"}
    said = editor.get(url(job, "lines"), asked).json()
    assert [(each["id"], each["state"], each["finished"]) for each in said["lines"]] == [
        (str(mine.pk), "queued", False)
    ]
    Image.objects.update(status="ready", processed_at=timezone.now())
    said = editor.get(url(job, "lines"), {"lines": f"{mine.pk},{other.pk}"}).json()
    assert {each["state"] for each in said["lines"]} == {"ready"}
    assert all(each["finished"] and each["thumbnail"] for each in said["lines"])
    assert (said["progress"]["finished"], said["progress"]["total"]) == (2, 2)


def test_lines_that_came_since(job: IntakeJob, cast: Cast, editor: Client) -> None:
    first, second = line(job, source="1.jpg"), line(job, source="2.jpg")
    line(IntakeJob.objects.create(collection=cast.private, source="api"), source="of another job.jpg")
    for after, expected in ((first.pk, ["2.jpg"]), (second.pk, []), ("", ["1.jpg", "2.jpg"])):
        said = editor.get(url(job, "lines"), {"after": str(after)}).json()
        assert [each["source"] for each in said["new"]] == expected
    assert "new" not in editor.get(url(job, "lines")).json()


def test_a_young_job_is_followed_while_nothing_waits(job: IntakeJob, editor: Client) -> None:
    line(job, "refused")
    page = editor.get(url(job)).context
    assert 500 < page["seconds_young"] <= 600
    assert page["takes_new"]
    assert not editor.get(url(job), {"verdict": "refused"}).context["takes_new"]
    IntakeJob.objects.update(created_at=timezone.now() - timedelta(hours=1))
    assert editor.get(url(job)).context["seconds_young"] == 0
    IntakeLine.objects.bulk_create(IntakeLine(job=job, source=f"{number}.jpg") for number in range(100))
    assert not editor.get(url(job), {"page": 2}).context["takes_new"]  # the lines of the first page are not new


def test_lines_of_another_job_are_not_told(job: IntakeJob, cast: Cast, editor: Client) -> None:
    foreign = IntakeJob.objects.create(collection=cast.foreign, source="admin")
    theirs = line(foreign, source="secret.jpg")
    assert editor.get(url(job, "lines"), {"lines": str(theirs.pk)}).json()["lines"] == []


def test_the_list_counts_in_the_same_number_of_queries(job: IntakeJob, cast: Cast, editor: Client) -> None:
    address = reverse("admin:catalog_intakejob_changelist")
    line(job, "refused")
    line(job, image=make_image(job.collection, status="queued"))
    line(job, "duplicate", make_image(job.collection))
    [row] = editor.get(address).context["cl"].result_list
    assert (row.line_count, row.waiting_count, row.duplicate_count, row.refused_count) == (3, 1, 1, 1)
    with CaptureQueriesContext(connection) as few:
        editor.get(address)
    for _ in range(5):
        line(IntakeJob.objects.create(collection=cast.private, source="api", started_by=cast.superuser))
    with CaptureQueriesContext(connection) as many:
        editor.get(address)
    assert len(many) == len(few)


def test_a_record_is_not_written_by_hand(job: IntakeJob, cast: Cast) -> None:
    client = staff_client(cast, "superuser")
    client.post(url(job), {"source": "api"})
    client.post(
        reverse("admin:catalog_intakejob_changelist"), {"action": "delete_selected", "_selected_action": job.pk}
    )
    job.refresh_from_db()
    assert job.source == "admin"
