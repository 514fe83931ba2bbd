"""`Idempotency-Key`: a request that is sent twice is carried out once, whoever dies in between."""

from __future__ import annotations

import io
import signal
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import IntegrityError
from django.utils import timezone
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.test import APIClient, APIRequestFactory

from catalog import bulk_uploads, idempotency, storage, tasks
from catalog.api.idempotency import fingerprint_of
from catalog.idempotency import Turn
from catalog.models import Collection, IdempotencyKey, Image, IntakeJob, IntakeLine
from catalog.uploads import ImageFacts
from tests.cast import Cast, assert_problem, make_cast
from tests.drawn import image_file
from tests.library import InThread, run_python
from tests.library_fixtures import media

__all__ = ["media"]
pytestmark = pytest.mark.django_db
IMAGES, JOBS = "/api/v1/images/", "/api/v1/jobs/"
RED, BLUE = (200, 0, 0), (0, 0, 200)


def send(client: APIClient, key: str, *contents: bytes, **facts: Any) -> Any:
    files = [SimpleUploadedFile(f"{number}.jpg", content) for number, content in enumerate(contents)]
    body = {"image": files, "collection": "private", **facts}
    return client.post(IMAGES, body, format="multipart", HTTP_IDEMPOTENCY_KEY=key)


def test_the_same_request_again_is_answered_the_same_and_done_once(cast: Cast) -> None:
    client = cast.client("editor")
    first = send(client, "k-1", image_file())
    again = send(client, "k-1", image_file())
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (IntakeJob.objects.count(), IntakeLine.objects.count(), Image.objects.count()) == (1, 1, 1)
    other = send(client, "k-2", image_file())
    assert (other.status_code, other.json()["verdict"]) == (200, "duplicate")
    assert IntakeJob.objects.count() == 2


def test_a_refusal_is_told_again_with_the_same_line(cast: Cast) -> None:
    client = cast.client("editor")
    first, again = send(client, "k", b"no image"), send(client, "k", b"no image")
    assert assert_problem(again, 415, "not-an-image") == first.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert IntakeLine.objects.count() == 1


@pytest.mark.parametrize(
    "other",
    [
        {"contents": [image_file(BLUE)]},
        {"contents": [image_file(RED)], "title": "Red"},
        {"contents": [image_file(RED), image_file(BLUE)]},
    ],
)
def test_the_key_of_another_request_is_refused(cast: Cast, other: dict[str, Any]) -> None:
    client = cast.client("editor")
    send(client, "k", image_file(RED))
    assert_problem(send(client, "k", *other.pop("contents"), **other), 422, "idempotency-key-reused")
    urls = {"collection": "private", "urls": ["https://example.org/a.jpg"]}
    assert_problem(client.post(JOBS, urls, HTTP_IDEMPOTENCY_KEY="k"), 422, "idempotency-key-reused")
    assert IntakeJob.objects.count() == 1


def test_what_is_said_counts_and_not_the_bytes_that_say_it(cast: Cast) -> None:
    """Another boundary, another order of fields, with and without the quotes of a structured field."""
    client = cast.client("editor")
    file = image_file()
    parts = [
        'Content-Disposition: form-data; name="collection"\r\n\r\nprivate',
        'Content-Disposition: form-data; name="label"\r\n\r\n4711',
        'Content-Disposition: form-data; name="image"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n',
    ]
    answers = []
    for boundary, order, key in (("one", (0, 1, 2), "k"), ("two", (2, 1, 0), '"k"')):
        body = b""
        for number in order:
            body += f"--{boundary}\r\n{parts[number]}".encode() + (file if number == 2 else b"") + b"\r\n"
        kind = f"multipart/form-data; boundary={boundary}"
        answers.append(
            client.generic(
                "POST", IMAGES, body + f"--{boundary}--\r\n".encode(), content_type=kind, HTTP_IDEMPOTENCY_KEY=key
            )
        )
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json() == answers[1].json()
    assert IntakeJob.objects.count() == 1


def test_a_key_belongs_to_its_user(cast: Cast) -> None:
    mine, theirs = send(cast.client("editor"), "k", image_file()), send(cast.client("superuser"), "k", image_file())
    assert (mine.status_code, theirs.status_code) == (202, 200)
    assert IdempotencyKey.objects.count() == 2


def test_whoever_is_not_logged_in_uses_up_no_key(cast: Cast) -> None:
    assert_problem(send(cast.client("anonymous"), "k", image_file()), 401, "not-authenticated")
    assert not IdempotencyKey.objects.exists()


@pytest.mark.parametrize("key", ["", " ", "x" * 201, "two words", "Schlüssel", '"open', '""', "tab\tbed"])
def test_what_is_no_key(cast: Cast, key: str) -> None:
    body = assert_problem(send(cast.client("editor"), key, image_file()), 400, "invalid")
    assert list(body["errors"]) == ["Idempotency-Key"]
    assert not Image.objects.exists()


def test_a_request_that_did_nothing_leaves_the_key_free(cast: Cast) -> None:
    client = cast.client("editor")
    assert_problem(send(client, "k", image_file(), titel="x"), 400, "invalid")
    assert_problem(send(client, "k", image_file(), collection="nowhere"), 404, "not-found")
    assert send(client, "k", image_file()).status_code == 202


def test_after_an_error_of_ours_the_same_request_goes_on(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    client = cast.client("editor")
    with monkeypatch.context() as broken:
        broken.setattr(storage, "save_original", _disk_is_full)
        assert_problem(send(client, "k", image_file()), 507, "disk-full")
    done = send(client, "k", image_file())
    assert done.status_code == 202
    line = IntakeLine.objects.get()  # the same one, in the same job
    assert (str(line.pk), line.verdict, IntakeJob.objects.count()) == (done.json()["id"], "stored", 1)


def _disk_is_full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_what_nobody_foresaw_does_not_burn_the_key(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    client = cast.client("editor")
    client.raise_request_exception = False
    with monkeypatch.context() as broken:
        broken.setattr(bulk_uploads, "receive_batch", lambda *_: 1 / 0)
        assert send(client, "k", image_file()).status_code == 500
    assert send(client, "k", image_file()).status_code == 202
    assert IntakeJob.objects.count() == 1


def test_while_the_first_is_under_way_the_second_waits(cast: Cast) -> None:
    client = cast.client("editor")
    send(client, "k", image_file())
    IdempotencyKey.objects.update(status=None, lease_until=timezone.now() + timedelta(seconds=60))
    answer = send(client, "k", image_file())
    assert_problem(answer, 409, "idempotency-key-in-use")
    assert int(answer.headers["Retry-After"]) > 0
    IdempotencyKey.objects.update(lease_until=timezone.now())  # whoever was at it is dead
    assert send(client, "k", image_file()).status_code == 202
    assert (IntakeJob.objects.count(), IntakeLine.objects.count()) == (1, 1)


def test_whoever_was_taken_over_changes_nothing_more(cast: Cast) -> None:
    slow = idempotency.take(cast.editor.pk, "k", "f" * 64)
    assert isinstance(slow, Turn)
    IdempotencyKey.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    fast = idempotency.take(cast.editor.pk, "k", "f" * 64)
    assert isinstance(fast, Turn)
    assert fast.id == slow.id
    idempotency.answered(slow, 500, {"whose": "slow"})
    idempotency.give_back(slow)
    with pytest.raises(idempotency.KeyInUse):
        idempotency.renew(slow)
    idempotency.answered(fast, 202, {"whose": "fast"})
    assert idempotency.take(cast.editor.pk, "k", "f" * 64) == idempotency.Answered(202, {"whose": "fast"})


def test_keys_are_kept_for_a_day(cast: Cast, settings: Any) -> None:
    client = cast.client("editor")
    send(client, "old", image_file())
    send(client, "young", image_file())
    IdempotencyKey.objects.filter(key="old").update(
        created_at=timezone.now() - timedelta(hours=25), lease_until=timezone.now() - timedelta(hours=24)
    )
    tasks.sweep()
    assert [row.key for row in IdempotencyKey.objects.all()] == ["young"]
    settings.VISEARCH_IDEMPOTENCY_HOURS = 0
    IdempotencyKey.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    again = send(client, "young", image_file())  # before any sweep, too
    assert "Idempotency-Replayed" not in again.headers
    assert IntakeJob.objects.count() == 3


class Watched(io.BytesIO):
    """Knows the most bytes that were read of it at once."""

    most = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.most = max(self.most, len(data))
        return data


def test_a_fingerprint_reads_files_in_chunks_and_to_their_end() -> None:
    def fingerprint(content: bytes) -> tuple[str, int]:
        sent = APIRequestFactory().post(IMAGES, {"image": SimpleUploadedFile("a.jpg", b"x")}, format="multipart")
        request = Request(sent, parsers=[MultiPartParser()])
        file = request.FILES["image"].file = Watched(content)
        return fingerprint_of(request), file.most

    content = b"\x00" * (5 * storage.HASH_CHUNK)
    one, most = fingerprint(content + b"1")
    assert 0 < most <= storage.HASH_CHUNK
    assert one == fingerprint(content + b"1")[0]
    assert one != fingerprint(content + b"2")[0]


# --- At once, and dying -----------------------------------------------------------------------------------------------


@pytest.fixture
def shop(transactional_db: None) -> Iterator[Cast]:
    cast = make_cast()
    Collection.objects.filter(pk=cast.private.pk).update(name="shop")
    yield cast
    IntakeJob.objects.all().delete()


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_one_is_carried_out(shop: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()
    real = bulk_uploads.receive_batch

    def slowly(*args: Any) -> Any:
        begun.set()
        assert go_on.wait(30)
        return real(*args)

    monkeypatch.setattr(bulk_uploads, "receive_batch", slowly)
    files = [image_file(RED), image_file(BLUE)]
    clients = [shop.client("editor") for _ in range(6)]
    first = InThread(lambda: send(clients[0], "k", *files, collection="shop"))
    assert begun.wait(30)
    others = [InThread(lambda client=client: send(client, "k", *files, collection="shop")) for client in clients[1:]]
    for other in others:
        assert_problem(other.outcome(), 409, "idempotency-key-in-use")
    go_on.set()
    done = first.outcome()
    assert done.status_code == 202
    again = send(clients[1], "k", *files, collection="shop")
    assert (again.status_code, again.json()) == (202, done.json())
    assert (IntakeJob.objects.count(), IntakeLine.objects.count(), Image.objects.count()) == (1, 2, 2)


@pytest.mark.django_db(transaction=True)
def test_all_that_begin_in_the_same_moment_make_one_job(shop: Cast) -> None:
    clients = [shop.client("editor") for _ in range(6)]
    start = threading.Barrier(6)

    def once(client: APIClient) -> Any:
        start.wait(30)
        return send(client, "k", image_file(), collection="shop")

    answers = [each.outcome() for each in [InThread(lambda client=client: once(client)) for client in clients]]
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 202}) == 1
    assert (IntakeJob.objects.count(), Image.objects.count()) == (1, 1)


DIES_AFTER_TWO = """
from django.core.files.uploadedfile import SimpleUploadedFile
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.test import APIClient, APIRequestFactory
from django.contrib.auth.models import User
count = 0
real = storage.save_original
def save(*args):
    global count
    count += 1
    if count == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    real(*args)
storage.save_original = save
client = APIClient()
client.force_authenticate(User.objects.get(username="editor"))
files = [SimpleUploadedFile(f"{n}.jpg", image_file((40 * n, 0, 0))) for n in range(4)]
body = {"image": files, "collection": "shop"}
client.post("/api/v1/images/", body, format="multipart", HTTP_IDEMPOTENCY_KEY="k", HTTP_HOST="localhost")
"""


@pytest.mark.django_db(transaction=True)
def test_a_process_that_is_killed_in_the_middle_is_gone_on_with(shop: Cast, media: Path) -> None:
    done = run_python(DIES_AFTER_TWO, media, VISEARCH_BATCH="1")
    assert done.returncode == -signal.SIGKILL, done.stderr
    files = [image_file((40 * number, 0, 0)) for number in range(4)]
    client = shop.client("editor")
    assert_problem(send(client, "k", *files, collection="shop"), 409, "idempotency-key-in-use")
    IdempotencyKey.objects.update(lease_until=timezone.now())  # its lease is over
    answer = send(client, "k", *files, collection="shop")
    assert answer.status_code == 202, answer.content
    job = IntakeJob.objects.get()
    assert answer.json()["id"] == str(job.pk)
    assert list(job.lines.order_by("number").values_list("number", "verdict")) == [(n, "stored") for n in (1, 2, 3, 4)]
    stored = {storage.original_key(image.pk, image.format) for image in Image.objects.all()}
    kept = {str(path.relative_to(media / "originals")) for path in (media / "originals").glob("*/*.jpg")}
    assert (len(stored), kept) == (4, stored)


def test_facts_hold_for_what_is_gone_on_with(cast: Cast) -> None:
    """A line of an earlier try that failed is tried again, one that came to its end is not."""
    job = bulk_uploads.job_of(Turn.without_key().id, cast.private, cast.editor.pk)
    batch = bulk_uploads.numbered([(io.BytesIO(image_file(RED)), "1.jpg"), (io.BytesIO(image_file(BLUE)), "2.jpg")])
    bulk_uploads.receive_batch(job, batch[:1], ImageFacts(label="x"))
    bulk_uploads.fail_batch(job, batch, "busy", "Too many.")
    lines = bulk_uploads.receive_batch(job, batch, ImageFacts(label="x"))
    assert [(line.number, line.verdict) for line in lines] == [(1, "stored"), (2, "stored")]
    assert job.lines.count() == 2
    assert set(Image.objects.values_list("label", flat=True)) == {"x"}


def test_where_somebody_was_faster_in_the_middle_the_same_request_goes_on_with_the_same_job(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = bulk_uploads.receive_batch
    calls: list[IntakeJob] = []

    def break_off_once(job: IntakeJob, *args: Any) -> list[IntakeLine]:
        calls.append(job)
        if len(calls) == 2:
            raise IntegrityError("an image that it was compared with is gone")
        return receive(job, *args)

    monkeypatch.setattr(bulk_uploads, "receive_batch", break_off_once)
    files = [image_file(RED), image_file(BLUE)]
    client = cast.client("editor")
    assert_problem(send(client, "k", *files), 409, "conflict")
    assert send(client, "k", *files).status_code == 202
    assert {job.pk for job in calls} == {IntakeJob.objects.get().pk}
    assert list(IntakeLine.objects.order_by("number").values_list("verdict", flat=True)) == ["stored", "stored"]
