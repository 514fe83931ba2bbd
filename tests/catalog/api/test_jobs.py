"""Jobs through the API: begun by a list or by several files, followed, paused, cancelled, tried again."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.utils import timezone

from catalog.api import decoding
from catalog.models import Image, IntakeJob, IntakeLine, NearDuplicate
from tests.cast import Cast, assert_problem, make_image
from tests.drawn import image_file

pytestmark = pytest.mark.django_db
JOBS, IMAGES = "/api/v1/jobs/", "/api/v1/images/"
URLS = ["https://example.org/1.jpg", "https://example.org/2.jpg", "https://example.net/3.jpg"]


def begin(cast: Cast, who: str = "editor", **body: Any) -> Any:
    said = {"collection": "private", "urls": URLS, **body}
    return cast.client(who).post(JOBS, {name: value for name, value in said.items() if value is not None})


def begun(cast: Cast, **body: Any) -> str:
    response = begin(cast, **body)
    assert response.status_code == 202, response.content
    return str(response.json()["id"])


def line(job: IntakeJob, verdict: str = "stored", image: Image | None = None, **facts: Any) -> IntakeLine:
    reason = "It is broken." if verdict in ("refused", "failed") else ""
    return IntakeLine.objects.create(
        job=job, verdict=verdict, image=image, **{"source": "a.jpg", "reason": reason, **facts}
    )


# --- Begun by a list --------------------------------------------------------------------------------------------------


def test_a_list_of_addresses_becomes_a_job(cast: Cast) -> None:
    response = begin(cast, name="shoes", normalise="square:512")
    assert response.status_code == 202
    body = response.json()
    assert (body["state"], body["source"], body["name"], body["normalise"]) == (
        "running",
        "urls",
        "shoes",
        "square:512",
    )
    assert body["collection"] == {"id": str(cast.private.pk), "name": "private"}
    assert body["progress"] == {
        "total": 3,
        "finished": 0,
        "waiting": 3,
        "verdicts": {"waiting": 3},
        "images": {},
        "rate": None,
        "seconds_left": None,
    }
    job = IntakeJob.objects.get(pk=body["id"])
    assert (job.started_by, job.normalise) == (cast.editor, "square:512")
    assert list(job.lines.values_list("number", "url")) == [*enumerate(URLS, start=1)]
    lines = cast.client("editor").get(body["lines"]).json()["results"]
    assert [(each["number"], each["source"], each["verdict"]) for each in lines] == [
        (number, url, "waiting") for number, url in enumerate(URLS, start=1)
    ]


def test_a_list_may_be_a_file(cast: Cast) -> None:
    file = SimpleUploadedFile("shoes.txt", "\n".join(["# shoes", "", *URLS]).encode())
    response = cast.client("editor").post(JOBS, {"collection": "private", "list": file}, format="multipart")
    assert response.status_code == 202, response.content
    assert (response.json()["name"], response.json()["total"]) == ("shoes.txt", 3)
    assert IntakeLine.objects.order_by("id").values_list("number", flat=True)[0] == 3


def test_a_csv_says_what_is_known(cast: Cast) -> None:
    content = f"url,label,tags\n{URLS[0]},4711,red\n{URLS[1]},4712,\n"
    file = SimpleUploadedFile("shoes.csv", content.encode())
    response = cast.client("editor").post(JOBS, {"collection": "private", "csv": file}, format="multipart")
    assert response.status_code == 202, response.content
    assert (response.json()["source"], response.json()["total"]) == ("csv", 2)
    assert IntakeLine.objects.order_by("id")[0].facts["label"] == "4711"


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("url,labl\nhttps://example.org/1.jpg,x\n", "labl"),
        ("url,label\nhttps://example.org/1.jpg,x\nnowhere,y\n", "line 3"),
        ("path,label\n/etc/passwd,x\n", "import_csv"),
        ("url,collection\nhttps://example.org/1.jpg,public\n", "public"),
    ],
)
def test_a_csv_with_anything_wrong_stores_nothing(cast: Cast, content: str, named: str) -> None:
    file = SimpleUploadedFile("shoes.csv", content.encode())
    response = cast.client("editor").post(JOBS, {"collection": "private", "csv": file}, format="multipart")
    body = assert_problem(response, 400, "invalid")
    assert named in " ".join(body["errors"]["csv"])
    assert not IntakeJob.objects.exists()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"urls": ["ftp://example.org/2.jpg"]}, "urls"),
        ({"urls": ["# no comment here"]}, "urls"),
        ({"urls": ["https://a.example/1.jpg\nhttps://a.example/2.jpg"]}, "urls"),
        ({"urls": []}, "urls"),
        ({"urls": None}, "non_field_errors"),
        ({"normalise": "square:9"}, "normalise"),
        ({"url": URLS[0]}, "url"),
        ({"collection": None}, "collection"),
    ],
)
def test_what_cannot_be_a_job_is_refused_by_name(cast: Cast, body: dict[str, Any], field: str) -> None:
    assert list(assert_problem(begin(cast, **body), 400, "invalid")["errors"]) == [field]
    assert not IntakeJob.objects.exists()


def test_an_address_that_is_never_fetched_keeps_no_other_waiting(cast: Cast) -> None:
    job = begin(cast, urls=[URLS[0], "http://0177.0.0.1/"]).json()
    found = cast.client("editor").get(f"{JOBS}{job['id']}/lines/").json()["results"]
    assert [(line["verdict"], line["code"]) for line in found] == [("waiting", ""), ("refused", "ip-ambiguous")]


def test_bad_addresses_are_named_by_their_line(cast: Cast) -> None:
    errors = assert_problem(begin(cast, urls=[URLS[0], "nowhere", "https://a.example:99999/"]), 400, "invalid")[
        "errors"
    ]
    assert [message.partition(":")[0] for message in errors["urls"]] == ["line 2", "line 3"]
    urls = ["# a comment", URLS[0], "https://a.example/1 2.jpg", f"{URLS[0]}\n{URLS[1]}", "nowhere"]
    errors = assert_problem(begin(cast, urls=urls), 400, "invalid")["errors"]
    assert [message.partition(":")[0] for message in errors["urls"]] == ["line 1", "line 3", "line 4", "line 5"]


def test_the_same_list_again_goes_on_with_the_job(cast: Cast) -> None:
    assert begun(cast) == begun(cast)
    assert IntakeJob.objects.count() == 1


def test_the_same_list_again_tries_again_what_failed_and_says_so(cast: Cast) -> None:
    job = IntakeJob.objects.get(pk=begun(cast))
    failed = job.lines.first()
    assert failed is not None
    job.lines.filter(pk=failed.pk).update(verdict="failed", reason="It was slow.")
    again = begin(cast).json()
    assert (again["id"], again["tried_again"]) == (str(job.pk), 1)
    assert job.lines.filter(verdict="waiting").count() == job.lines.count()


def test_a_key_makes_one_job_of_a_request_that_is_sent_again(cast: Cast) -> None:
    client, body = cast.client("editor"), {"collection": "private", "urls": URLS}
    first = client.post(JOBS, body, HTTP_IDEMPOTENCY_KEY="k")
    IntakeLine.objects.update(verdict="failed", reason="404")  # finished: the list alone would begin anew
    again = client.post(JOBS, body, HTTP_IDEMPOTENCY_KEY="k")
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert IntakeJob.objects.count() == 1


# --- Begun by several files -------------------------------------------------------------------------------------------


def send(cast: Cast, contents: list[bytes], **facts: Any) -> Any:
    files = [SimpleUploadedFile(f"{number}.jpg", content) for number, content in enumerate(contents, start=1)]
    body = {"image": files, "collection": "private", **facts}
    return cast.client("editor").post(IMAGES, body, format="multipart")


def test_several_files_are_answered_with_their_job(cast: Cast, settings: Any) -> None:
    settings.VISEARCH_BATCH = 2
    red, blue = image_file((200, 0, 0)), image_file((0, 0, 200))
    response = send(cast, [red, b"no image", red, blue], label="4711", tags=["x", "y"])
    assert response.status_code == 202
    body = response.json()
    assert (body["source"], body["total"]) == ("api", 4)
    lines = cast.client("editor").get(body["lines"]).json()["results"]
    assert [(each["number"], each["source"], each["verdict"], each["code"]) for each in lines] == [
        (1, "1.jpg", "stored", ""),
        (2, "2.jpg", "refused", "not-an-image"),
        (3, "3.jpg", "duplicate", ""),
        (4, "4.jpg", "stored", ""),
    ]
    assert lines[2]["image"] == lines[0]["image"]
    assert {image.label for image in Image.objects.all()} == {"4711"}
    assert sorted(tag.name for tag in Image.objects.get(pk=lines[3]["image"]).tags.all()) == ["x", "y"]


def test_too_many_files_are_refused_before_any_is_stored(cast: Cast) -> None:
    errors = assert_problem(send(cast, [b"x"] * 101), 400, "invalid")["errors"]
    assert "100" in errors["image"][0]
    assert not IntakeJob.objects.exists()


@contextmanager
def no_turn_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Others have every turn to read images, and nobody waits long for one."""
    monkeypatch.setattr(decoding, "PATIENCE", 0.01)
    with ExitStack() as others:
        for _ in range(decoding.AT_ONCE):
            others.enter_context(decoding.decoding_slot())
        yield


def test_files_that_no_turn_was_left_for_say_so(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    renewals = []

    def between_two_files(execute: Any, sql: str, *rest: Any) -> Any:
        """Before the second file others come, and none of the rest waits for them to go."""
        if sql.startswith('UPDATE "catalog_idempotencykey" SET "lease_until"'):
            renewals.append(sql)
            others.enter_context(no_turn_left(monkeypatch)) if len(renewals) == 1 else others.close()
        return execute(sql, *rest)

    files = [SimpleUploadedFile(f"{number}.jpg", image_file((60 * number, 0, 0))) for number in range(3)]
    with ExitStack() as others, connection.execute_wrapper(between_two_files):
        body = {"image": files, "collection": "private"}
        answer = cast.client("editor").post(IMAGES, body, format="multipart", HTTP_IDEMPOTENCY_KEY="k")
    lines = cast.client("editor").get(answer.json()["lines"]).json()["results"]
    assert [(each["verdict"], each["code"]) for each in lines] == [
        ("stored", ""),
        ("failed", "busy"),
        ("failed", "busy"),
    ]
    assert all("send it again" in line["reason"] for line in lines[1:])


def test_where_no_turn_comes_nothing_is_begun(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    with no_turn_left(monkeypatch):
        assert_problem(send(cast, [image_file((60 * number, 0, 0)) for number in range(3)]), 503, "busy")
    assert not IntakeJob.objects.exists()


# --- Followed ---------------------------------------------------------------------------------------------------------


def test_jobs_are_listed_with_their_state(cast: Cast) -> None:
    client = cast.client("editor")
    assert client.get(JOBS).json()["results"] == []
    waiting = begun(cast)
    over = IntakeJob.objects.create(collection=cast.private, source="admin")
    line(over, image=make_image(cast.private))
    IntakeJob.objects.create(collection=cast.foreign, source="admin")
    found = {each["id"]: (each["state"], each["total"], each["waiting"]) for each in client.get(JOBS).json()["results"]}
    assert found == {waiting: ("running", 3, 3), str(over.pk): ("finished", 1, 0)}
    assert [each["id"] for each in client.get(JOBS, {"source": "urls"}).json()["results"]] == [waiting]
    assert [each["id"] for each in client.get(JOBS, {"state": "running"}).json()["results"]] == [waiting]
    assert [each["id"] for each in client.get(JOBS, {"state": "finished"}).json()["results"]] == [str(over.pk)]
    assert_problem(client.get(JOBS, {"state": "lost"}), 400, "invalid")
    assert client.get(JOBS, {"collection": "public"}).json()["results"] == []
    assert_problem(client.get(JOBS, {"colection": "x"}), 400, "invalid")


def test_a_list_of_jobs_costs_no_query_more_for_each(cast: Cast, django_assert_max_num_queries: Any) -> None:
    for _ in range(20):
        line(IntakeJob.objects.create(collection=cast.private, source="api"))
    client = cast.client("editor")
    with django_assert_max_num_queries(8):
        assert len(client.get(JOBS).json()["results"]) == 20


def test_a_job_that_is_over_is_deleted_and_its_images_stay(cast: Cast) -> None:
    key = begun(cast)
    assert_problem(cast.client("editor").delete(f"{JOBS}{key}/"), 409, "job-error")
    for who, status in (("anonymous", 401), ("viewer", 404), ("other_editor", 404)):
        assert cast.client(who).delete(f"{JOBS}{key}/").status_code == status
    image = make_image(cast.private)
    IntakeLine.objects.filter(job=key).update(verdict="stored", image=image)
    assert cast.client("editor").delete(f"{JOBS}{key}/").status_code == 204
    assert cast.client("editor").get(f"{JOBS}{key}/").status_code == 404
    assert not IntakeLine.objects.exists()
    assert Image.objects.filter(pk=image.pk).exists()


def test_lines_come_in_pages_in_their_order_and_by_verdict(cast: Cast) -> None:
    job = IntakeJob.objects.create(collection=cast.private, source="urls")
    IntakeLine.objects.bulk_create(
        IntakeLine(job=job, number=number, source=f"{number}.jpg", verdict="waiting") for number in range(1, 131)
    )
    line(job, "failed", number=131, code="timed-out")
    client, numbers = cast.client("editor"), []
    page = client.get(f"{JOBS}{job.pk}/lines/", {"page_size": 100}).json()
    while True:
        numbers += [each["number"] for each in page["results"]]
        if page["next"] is None:
            break
        page = client.get(page["next"]).json()
    assert numbers == list(range(1, 132))
    failed = client.get(f"{JOBS}{job.pk}/lines/", {"verdict": "failed"}).json()["results"]
    assert [(each["number"], each["code"], each["reason"]) for each in failed] == [(131, "timed-out", "It is broken.")]
    assert_problem(client.get(f"{JOBS}{job.pk}/lines/", {"page_size": 101}), 400, "invalid")
    assert_problem(client.get(f"{JOBS}{job.pk}/lines/", {"verdict": "lost"}), 400, "invalid")


def test_a_line_that_rests_says_until_when(cast: Cast) -> None:
    job = IntakeJob.objects.get(pk=begun(cast))
    until = timezone.now() + timedelta(minutes=5)
    first = job.lines.order_by("id")[0]
    IntakeLine.objects.filter(pk=first.pk).update(lease_until=until, reason="The server asked for a pause.")
    rests, waits, _ = cast.client("editor").get(f"{JOBS}{job.pk}/lines/").json()["results"]
    assert (rests["reason"], waits["waits_until"]) == ("The server asked for a pause.", None)
    assert rests["waits_until"].startswith(f"{until:%Y-%m-%dT%H:%M}")


def alike(job: IntakeJob, **facts: Any) -> NearDuplicate:
    """A line of an image that looks like one that is there."""
    image = make_image(job.collection)
    line(job, image=image)
    return NearDuplicate.objects.create(image=image, other=make_image(job.collection), **{"distance": 3, **facts})


def test_a_job_says_what_looks_like_others(cast: Cast, django_assert_num_queries: Any) -> None:
    job = IntakeJob.objects.create(collection=cast.private, source="urls", started_by=cast.viewer)
    noted, chosen = alike(job), alike(job, decision="keep")
    farther = NearDuplicate.objects.create(image=noted.image, other=chosen.other, distance=9)
    line(job, "duplicate", noted.image)  # whose choice is another line's
    alike(IntakeJob.objects.create(collection=cast.private, source="urls"))
    client = cast.client("editor")
    said = [each["near_duplicate"] for each in client.get(f"{JOBS}{job.pk}/lines/").json()["results"]]
    assert said == [
        {"id": str(noted.pk), "other": str(noted.other_id), "distance": 3, "is_mirrored": False},
        None,
        None,
    ]
    assert client.get(f"{JOBS}{job.pk}/").json()["near_duplicates"] == 1
    asked = client.get("/api/v1/near-duplicates/", {"job": str(job.pk), "open": "true"}).json()["results"]
    assert [each["id"] for each in asked] == [str(farther.pk), str(noted.pk)]
    content = b"".join(client.get(f"{JOBS}{job.pk}/lines.csv").streaming_content)
    rows = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
    assert [(row["looks_like"], row["distance"]) for row in rows] == [(str(noted.other_id), "3"), ("", ""), ("", "")]

    viewer = cast.client("viewer")  # who began it, but does not choose
    assert {each["near_duplicate"] for each in viewer.get(f"{JOBS}{job.pk}/lines/").json()["results"]} == {None}
    assert viewer.get(f"{JOBS}{job.pk}/").json()["near_duplicates"] == 0

    for _ in range(2):
        with django_assert_num_queries(6):  # token, other tokens, groups, job, lines, choices
            client.get(f"{JOBS}{job.pk}/lines/")
        for _ in range(5):
            alike(job)


def test_lines_as_csv(cast: Cast) -> None:
    job = IntakeJob.objects.create(collection=cast.private, source="urls")
    image = make_image(cast.private)
    line(job, image=image, number=1, source="a, b.jpg")
    line(job, "refused", number=2, source="=cmd|' /C calc'!A0", code="empty-file", reason='It is "empty".\nReally.')
    response = cast.client("editor").get(f"{JOBS}{job.pk}/lines.csv", HTTP_ACCEPT="text/csv")
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert response.headers["Content-Disposition"].startswith('attachment; filename="job-')
    text = b"".join(response.streaming_content).decode()  # type: ignore[attr-defined]
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [(row["line"], row["source"], row["verdict"]) for row in rows] == [
        ("1", "a, b.jpg", "stored"),
        ("2", "'=cmd|' /C calc'!A0", "refused"),  # no spreadsheet runs it
    ]
    assert (rows[0]["image"], rows[0]["image_status"]) == (str(image.pk), "ready")
    assert (rows[1]["code"], rows[1]["reason"]) == ("empty-file", 'It is "empty".\nReally.')


# --- Paused, cancelled, tried again -----------------------------------------------------------------------------------


def do(cast: Cast, job: str, action: str) -> Any:
    return cast.client("editor").post(f"{JOBS}{job}/{action}/")


def test_a_job_is_paused_and_resumed(cast: Cast) -> None:
    job = begun(cast)
    assert do(cast, job, "pause").json()["state"] == "paused"
    assert do(cast, job, "pause").status_code == 200  # safe to send twice
    assert do(cast, job, "resume").json()["state"] == "running"


def test_a_cancelled_job_is_taken_up_by_retry_alone(cast: Cast) -> None:
    job = begun(cast)
    body = do(cast, job, "cancel").json()
    assert (body["state"], body["progress"]["verdicts"]) == ("cancelled", {"cancelled": 3})
    for action in ("pause", "resume"):
        assert_problem(do(cast, job, action), 409, "job-error")
    body = do(cast, job, "retry").json()
    assert (body["state"], body["progress"]["verdicts"]) == ("running", {"waiting": 3})


def test_what_a_job_cannot_do(cast: Cast) -> None:
    job = begun(cast)
    assert cast.client("editor").post(f"{JOBS}{job}/explode/").status_code == 404
    assert_problem(cast.client("editor").get(f"{JOBS}{job}/pause/"), 405, "method-not-allowed")
