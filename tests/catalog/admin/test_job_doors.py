"""Jobs begun by a list in the admin, and paused, resumed, cancelled and tried again on their page."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from catalog import queues
from catalog.models import Image, IntakeJob, IntakeLine
from tests.cast import Cast, make_image
from tests.catalog.admin.staff import staff_client, told
from tests.catalog.api.conftest import cast
from tests.stack import free_port

__all__ = ["cast"]
pytestmark = pytest.mark.django_db
URLS = ["https://example.org/1.jpg", "https://example.org/2.jpg"]
ADDRESSES, CSV = (reverse(f"admin:catalog_intakejob_{name}") for name in ("addresses", "csv_list"))


@pytest.fixture
def editor(cast: Cast) -> Client:
    return staff_client(cast, "editor")


@pytest.fixture
def job(cast: Cast) -> IntakeJob:
    """One whose lines wait for workers."""
    job = IntakeJob.objects.create(collection=cast.private, source="urls", name="shoes.txt", started_by=cast.editor)
    for number, url in enumerate(URLS, start=1):
        IntakeLine.objects.create(job=job, number=number, source=url, url=url, host="example.org", verdict="waiting")
    return job


def page_of(job: IntakeJob) -> str:
    return reverse("admin:catalog_intakejob_change", args=[job.pk])


def do(job: IntakeJob, action: str) -> str:
    return reverse("admin:catalog_intakejob_do", args=[job.pk, action])


def addresses(cast: Cast, **said: Any) -> dict[str, Any]:
    return {"job": str(uuid4()), "collection": str(cast.private.pk), "addresses": "\n".join(URLS), **said}


# --- Begun ------------------------------------------------------------------------------------------------------------


def test_addresses_that_are_pasted_become_a_job(cast: Cast, editor: Client) -> None:
    said = addresses(cast, addresses="# shoes\n\n" + "\n".join(URLS), normalise="longest:1024")
    answer = editor.post(ADDRESSES, said)
    job = IntakeJob.objects.get()
    assert answer["Location"] == page_of(job)
    assert (str(job.pk), job.collection, job.source, job.normalise) == (
        said["job"],
        cast.private,
        "urls",
        "longest:1024",
    )
    assert job.started_by == cast.editor
    assert list(job.lines.order_by("id").values_list("number", "source")) == [(3, URLS[0]), (4, URLS[1])]
    assert editor.post(ADDRESSES, said)["Location"] == page_of(job)  # the button was pressed twice
    assert IntakeJob.objects.count() == 1


def test_of_very_many_bad_lines_the_rest_is_counted(cast: Cast, editor: Client) -> None:
    page = editor.post(ADDRESSES, addresses(cast, addresses="nowhere\n" * 103)).content.decode()
    assert "103 lines cannot be taken" in page
    assert "and 3 more." in page


def test_a_list_that_is_given_again_says_how_many_it_tries_again(cast: Cast, editor: Client) -> None:
    editor.post(ADDRESSES, addresses(cast))
    IntakeLine.objects.filter(url=URLS[0]).update(verdict="failed", reason="It was slow.")
    page = editor.post(ADDRESSES, addresses(cast), follow=True).content.decode()
    assert "1 line that had failed is tried again" in page
    assert set(IntakeLine.objects.values_list("verdict", flat=True)) == {"waiting"}


def test_addresses_may_be_a_file(cast: Cast, editor: Client) -> None:
    file = SimpleUploadedFile("shoes.txt", "\ufeff".encode() + "\n".join(URLS).encode())
    editor.post(ADDRESSES, addresses(cast, addresses="", file=file))
    job = IntakeJob.objects.get()
    assert (job.name, job.lines.count()) == ("shoes.txt", 2)


def test_bad_addresses_are_shown_by_number_and_nothing_is_stored(cast: Cast, editor: Client) -> None:
    answer = editor.post(
        ADDRESSES, addresses(cast, addresses=f"{URLS[0]}\n<script>alert(1)</script>\nhttp://a b.example/")
    )
    page = answer.content.decode()
    assert "2 lines cannot be taken" in page
    assert "Line 2" in page
    assert "Line 3" in page
    assert "<script>alert(1)" not in page
    assert URLS[0] in page  # what was pasted is still there
    assert not IntakeJob.objects.exists()


@pytest.mark.parametrize("said", [{"addresses": ""}, {"collection": ""}, {"normalise": "square:9"}, {"job": "7"}])
def test_a_form_that_lacks_something_says_so(cast: Cast, editor: Client, said: dict[str, str]) -> None:
    answer = editor.post(ADDRESSES, addresses(cast, **said))
    assert answer.status_code == 200
    assert answer.context["form"].errors
    assert not IntakeJob.objects.exists()


def test_a_file_beside_what_is_pasted_is_one_too_many(cast: Cast, editor: Client) -> None:
    answer = editor.post(ADDRESSES, addresses(cast, file=SimpleUploadedFile("a.txt", b"https://example.org/3.jpg")))
    assert b"not both" in answer.content
    assert not IntakeJob.objects.exists()


def test_nothing_begins_in_a_collection_of_others(cast: Cast, editor: Client) -> None:
    answer = editor.post(ADDRESSES, addresses(cast, collection=str(cast.foreign.pk)))
    assert b"Select a valid choice" in answer.content
    file = SimpleUploadedFile("a.csv", f"url,collection\n{URLS[0]},foreign\n".encode())
    assert b"Line 2" in editor.post(CSV, {"file": file}).content
    assert not IntakeJob.objects.exists()


def test_a_list_that_is_too_large_is_refused_in_words(cast: Cast, editor: Client, settings: Any) -> None:
    settings.VISEARCH_LIMITS = {**settings.VISEARCH_LIMITS, "bytes": 10}
    file = SimpleUploadedFile("a.txt", b"x" * 1_100_000)
    page = editor.post(ADDRESSES, addresses(cast, addresses="", file=file)).content.decode()
    assert "are the most that a file may have" in page
    assert "This field is required" not in page


def test_a_csv_becomes_a_job_for_each_collection(cast: Cast, editor: Client) -> None:
    rows = f"url,label,collection\n{URLS[0]},4711,\n{URLS[1]},4712,public\n"
    answer = editor.post(
        CSV, {"file": SimpleUploadedFile("a.csv", rows.encode()), "collection": str(cast.private.pk)}, follow=True
    )
    assert "2 jobs" in told(answer)
    assert {str(job.collection) for job in IntakeJob.objects.all()} == {"private", "public"}
    assert {line.facts["label"] for line in IntakeLine.objects.all()} == {"4711", "4712"}


def test_a_csv_with_paths_is_told_which_command_takes_it(cast: Cast, editor: Client) -> None:
    file = SimpleUploadedFile("a.csv", b"path\n/etc/passwd\n")
    page = editor.post(CSV, {"file": file, "collection": str(cast.private.pk)}).content.decode()
    assert "Nothing was stored" in page
    assert "manage.py import_csv" in page.partition("Nothing was stored")[2].partition("<form")[0]
    assert not IntakeJob.objects.exists()


def test_the_pages_are_reached_from_where_images_are_put_in(cast: Cast, editor: Client) -> None:
    for name, key in (("catalog_collection_change", cast.private.pk), ("catalog_collection_upload", cast.private.pk)):
        page = editor.get(reverse(f"admin:{name}", args=[key])).content.decode()
        assert f"{ADDRESSES}?collection={key}" in page
        assert f"{CSV}?collection={key}" in page
    page = editor.get(reverse("admin:catalog_intakejob_changelist")).content.decode()
    assert ADDRESSES in page
    assert CSV in page
    form = editor.get(ADDRESSES, {"collection": str(cast.private.pk)}).context["form"]
    assert str(form["collection"].value()) == str(cast.private.pk)


# --- Paused, resumed, cancelled, tried again --------------------------------------------------------------------------


def buttons(editor: Client, job: IntakeJob) -> list[str]:
    return list(editor.get(page_of(job)).context["possible"])


def test_buttons_are_those_that_do_anything(job: IntakeJob, editor: Client) -> None:
    assert buttons(editor, job) == ["pause", "cancel"]
    editor.post(do(job, "pause"))
    assert buttons(editor, job) == ["resume", "cancel"]
    assert b"Paused" in editor.get(page_of(job)).content
    editor.post(do(job, "resume"))
    assert buttons(editor, job) == ["pause", "cancel"]
    editor.post(do(job, "cancel"))
    assert buttons(editor, job) == ["retry", "delete"]
    assert "2 lines are tried again." in told(editor.post(do(job, "retry"), follow=True))
    assert buttons(editor, job) == ["pause", "cancel"]
    job.lines.update(verdict="duplicate")
    assert buttons(editor, job) == ["delete"]
    assert b"Finished" in editor.get(page_of(job)).content


def test_what_the_state_does_not_allow_is_said(job: IntakeJob, editor: Client) -> None:
    editor.post(do(job, "cancel"))
    assert "cancelled" in told(editor.post(do(job, "resume"), follow=True))
    job.refresh_from_db()
    assert job.state == "cancelled"


def test_looking_changes_nothing_and_cancelling_asks_first(job: IntakeJob, editor: Client) -> None:
    for action in ("pause", "resume", "retry"):
        assert editor.get(do(job, action))["Location"] == page_of(job)
    assert b"Cancel the job" in editor.get(do(job, "cancel")).content
    assert editor.post(do(job, "explode")).status_code == 404
    job.refresh_from_db()
    assert job.state == "running"
    assert set(job.lines.values_list("verdict", flat=True)) == {"waiting"}


def test_a_job_that_is_over_is_deleted_after_a_yes_and_its_images_stay(
    job: IntakeJob, cast: Cast, editor: Client
) -> None:
    image = make_image(cast.private)
    job.lines.update(verdict="stored", image=image)
    assert b"2 lines" in editor.get(do(job, "delete")).content
    assert job.lines.count() == 2
    answer = editor.post(do(job, "delete"), follow=True)
    assert answer.redirect_chain[-1][0] == reverse("admin:catalog_intakejob_changelist")
    assert "The images that it put in are kept" in told(answer)
    assert not IntakeJob.objects.exists()
    assert Image.objects.filter(pk=image.pk).exists()
    assert LogEntry.objects.get(object_id=str(job.pk)).is_deletion()


def test_what_is_not_over_is_not_deleted(job: IntakeJob, editor: Client) -> None:
    assert "Cancel it first" in told(editor.post(do(job, "delete"), follow=True))
    assert job.lines.count() == 2


def test_deleting_needs_its_own_permission(job: IntakeJob, cast: Cast, editor: Client) -> None:
    job.lines.update(verdict="duplicate")
    group = cast.editor.groups.get()
    group.permissions.remove(*group.permissions.filter(codename="delete_intakejob"))
    assert editor.post(do(job, "delete")).status_code == 403
    assert "delete" not in editor.get(page_of(job)).context["actions"]
    assert staff_client(cast, "other_editor").post(do(job, "delete")).status_code == 404
    assert IntakeJob.objects.filter(pk=job.pk).exists()


def test_files_of_a_folder_wait_for_their_command_and_the_page_says_so(cast: Cast, editor: Client) -> None:
    job = IntakeJob.objects.create(collection=cast.private, source="folder", begun_on="shop-1")
    facts = {"job": job, "source": "a.jpg", "path": "/photos/a.jpg", "reason": "It cannot be read."}
    line = IntakeLine.objects.create(**facts, verdict="refused", code="unreadable")
    assert "import_folder" not in editor.get(page_of(job)).context["progress"]["notice"]
    said = told(editor.post(do(job, "retry"), follow=True))
    assert "1 line is tried again. Files that lie in a folder come in when" in said
    assert "manage.py import_folder" in said
    assert "on shop-1" in said
    assert "import_folder" in editor.get(page_of(job)).context["progress"]["notice"]  # also later, and after a death
    IntakeLine.objects.filter(pk=line.pk).update(claimed_by="it", lease_until=timezone.now() + timedelta(minutes=1))
    assert editor.get(page_of(job)).context["progress"]["notice"] == ""  # the command is at it


def test_a_change_needs_the_token_of_its_page(job: IntakeJob, cast: Cast) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(cast.superuser)
    assert strict.post(do(job, "pause")).status_code == 403
    job.refresh_from_db()
    assert job.state == "running"


def test_progress_says_the_state_and_what_can_be_done(job: IntakeJob, editor: Client) -> None:
    editor.post(do(job, "pause"))
    said = editor.get(reverse("admin:catalog_intakejob_lines", args=[job.pk])).json()["progress"]
    assert said["state"] == "paused"
    assert said["may"] == {"pause": False, "resume": True, "cancel": True, "retry": False, "delete": False}


# --- Lines ------------------------------------------------------------------------------------------------------------


def test_a_line_says_its_number_and_until_when_it_rests(job: IntakeJob, editor: Client) -> None:
    until = timezone.now() + timedelta(minutes=5)
    first, second = job.lines.order_by("id")
    IntakeLine.objects.filter(pk=first.pk).update(lease_until=until, reason="The server asked for a pause.")
    IntakeLine.objects.filter(pk=second.pk).update(lease_until=until, claimed_by="a worker")
    rows = editor.get(page_of(job)).context["rows"]
    assert [(row["number"], row["says"], row["finished"]) for row in rows] == [
        (1, f"waits until {until:%H:%M:%S}", False),
        (2, "fetching", False),
    ]
    assert rows[0]["why"] == "The server asked for a pause."


def test_images_of_a_paused_job_say_so(job: IntakeJob, cast: Cast, editor: Client) -> None:
    image = make_image(cast.private, status="queued")
    IntakeLine.objects.create(job=job, source="a.jpg", verdict="stored", image=image)
    editor.post(do(job, "pause"))
    assert editor.get(page_of(job), {"verdict": "stored"}).context["rows"][0]["says"] == "stored, paused"
    editor.post(do(job, "resume"))
    assert Image.objects.get(pk=image.pk).status == "queued"


@pytest.mark.parametrize("verdict", ["waiting", "stored", "duplicate", "refused", "failed", "cancelled"])
def test_lines_of_each_verdict_alone(job: IntakeJob, editor: Client, verdict: str) -> None:
    job.lines.all().delete()
    for each in IntakeLine.Verdict.values:
        IntakeLine.objects.create(job=job, source=f"{each}.jpg", verdict=each, reason="So.")
    rows = editor.get(page_of(job), {"verdict": verdict}).context["rows"]
    assert [row["source"] for row in rows] == [f"{verdict}.jpg"]


def test_lines_are_downloaded_as_csv(job: IntakeJob, editor: Client) -> None:
    answer = editor.get(reverse("admin:catalog_intakejob_csv", args=[job.pk]))
    assert answer["Content-Disposition"].startswith("attachment")
    rows = b"".join(answer.streaming_content).decode().splitlines()  # type: ignore[attr-defined]
    assert rows[0].startswith("line,source,verdict")
    assert [row.split(",")[1] for row in rows[1:]] == URLS


# --- All jobs ---------------------------------------------------------------------------------------------------------


def overview(editor: Client) -> dict[str, Any]:
    found: dict[str, Any] = editor.get(reverse("admin:catalog_intakejob_changelist")).context["overview"]
    return found


@pytest.fixture
def quiet_redis() -> None:
    from django_redis import get_redis_connection

    get_redis_connection("default").delete(queues.ALIVE, *queues.names())


def test_depths_of_queues_and_workers_alive(editor: Client, quiet_redis: None) -> None:
    from django_redis import get_redis_connection

    get_redis_connection("default").lpush("vision", "{}", "{}")
    queues.say_alive("celery@a", ["vision", "index", queues.SWEEP])
    queues.say_alive("celery@b", ["vision"])
    queues.say_gone("celery@b")
    found = overview(editor)["queues"]
    assert found.depths["vision"] == 2
    assert set(found.depths) >= {"vision", "index", "intake"}
    assert [worker.name for worker in found.workers] == ["celery@a"]
    assert found.unserved == ["intake"]
    page = editor.get(reverse("admin:catalog_intakejob_changelist")).content.decode()
    assert "celery@a (vision, index, sweep)" in page
    assert "No worker takes messages from intake" in page


def test_a_worker_that_says_nothing_more_is_gone(
    editor: Client, quiet_redis: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    queues.say_alive("celery@a", ["vision"])
    now = queues.time.time()
    monkeypatch.setattr(queues.time, "time", lambda: now + queues.BELIEVED + 1)
    assert overview(editor)["queues"].workers == []


def test_without_redis_the_page_says_so(editor: Client, job: IntakeJob, settings: Any) -> None:
    nobody_there = f"redis://127.0.0.1:{free_port()}/0"
    settings.CACHES = {**settings.CACHES, "default": {**settings.CACHES["default"], "LOCATION": nobody_there}}
    answer = editor.get(reverse("admin:catalog_intakejob_changelist"))
    assert answer.status_code == 200
    assert b"Redis does not answer" in answer.content
    assert len(answer.context["cl"].result_list) == 1


def test_what_waits_and_what_failed_within_a_day(job: IntakeJob, cast: Cast, editor: Client) -> None:
    make_image(cast.private, status="queued")
    now = timezone.now()
    foreign = IntakeJob.objects.create(collection=cast.foreign, source="api")
    for owner, source, ago in ((job, "now.jpg", 0), (job, "long ago.jpg", 25), (foreign, "secret.jpg", 0)):
        IntakeLine.objects.create(
            job=owner,
            source=source,
            verdict="failed",
            reason="The server <b>said</b> 500.",
            ended_at=now - timedelta(hours=ago),
        )
    make_image(cast.foreign, status="queued")
    IntakeLine.objects.create(job=foreign, source=URLS[0], url=URLS[0], verdict="waiting")
    paused = IntakeJob.objects.create(collection=cast.private, source="urls", state="paused")
    IntakeLine.objects.create(job=paused, source=URLS[0], url=URLS[0], verdict="waiting")
    IntakeLine.objects.create(job=job, source="a.jpg", path="/a.jpg", verdict="waiting")
    found = overview(editor)
    assert (found["waiting"].images, found["waiting"].addresses) == (1, 2)
    assert found["failure_count"] == 1
    [failure] = found["failures"]
    assert failure["line"].source == "now.jpg"
    assert failure["url"] == f"{page_of(job)}?verdict=failed"
    page = editor.get(reverse("admin:catalog_intakejob_changelist")).content.decode()
    assert failure["url"] in page
    assert "secret.jpg" not in page
    assert "<b>said" not in page


def test_the_list_says_the_state(job: IntakeJob, cast: Cast, editor: Client) -> None:
    over = IntakeJob.objects.create(collection=cast.private, source="csv")
    IntakeLine.objects.create(job=over, source="a.jpg", verdict="refused", reason="Empty.")
    page = editor.get(reverse("admin:catalog_intakejob_changelist"))
    admin = page.context["cl"].model_admin
    assert {row.pk: admin.state_(row) for row in page.context["cl"].result_list} == {
        job.pk: "running",
        over.pk: "finished",
    }
    processed = IntakeJob.objects.create(collection=cast.private, source="api")
    IntakeLine.objects.create(
        job=processed, source="a.jpg", verdict="stored", image=make_image(cast.private, status="queued")
    )
    empty = IntakeJob.objects.create(collection=cast.private, source="api")
    for state, expected in (("running", [empty, processed, job]), ("finished", [over]), ("paused", [])):
        shown = editor.get(reverse("admin:catalog_intakejob_changelist"), {"state": state}).context["cl"].result_list
        assert list(shown) == expected
