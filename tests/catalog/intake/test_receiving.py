"""Receiving, whatever goes wrong: no line is written that is another's, no file holds up those behind it."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from django.core.files.storage import FileSystemStorage
from django.utils import timezone
from django_redis import get_redis_connection
from pytest_django import Settings

from catalog import bulk_uploads, checking, claims, storage
from catalog.exceptions import StorageUnavailable
from catalog.intake import files, jobs, lines
from catalog.intake.fetching_lines import take_in
from catalog.job_overview import recent_failures
from catalog.models import Collection, Image, IntakeJob, IntakeLine, Person, Region
from catalog.processing import process_batch
from catalog.tasks import sweep
from catalog.uploads import Arrival, ImageFacts, process_again, receive_many
from catalog.vision.helper import children
from tests.cast import Cast, make_face, make_image
from tests.catalog.intake.planned import let_all_rest_be_over, plan, verdicts
from tests.catalog.intake.web import Web
from tests.drawn import image_file, photo
from tests.library import InThread, files_in, process_all, put, put_image, ready, squares

pytestmark = pytest.mark.django_db(transaction=True)
SECONDS = 20.0


class Away(Exception):
    """As object storages have them: no OSError."""


@pytest.fixture
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "FIRST_REST", timedelta(0))
    monkeypatch.setattr(files, "LOOK_SECONDS", 0.02)


def away(patch: pytest.MonkeyPatch, method: str) -> None:
    def refuse(*_: object) -> None:
        raise Away("no such bucket")

    patch.setattr(FileSystemStorage if method == "_open" else type(storage.originals()), method, refuse)


def of_folder(shop: Collection, folder: Path, **data: bytes) -> IntakeJob:
    """A job of files with these names, ``_`` for the dot."""
    folder.mkdir(exist_ok=True)
    planned = []
    for number, (name, content) in enumerate(data.items(), start=1):
        path = folder / name.replace("_", ".")
        path.write_bytes(content)
        planned.append(jobs.PlannedLine(path.name, number, path=str(path)))
    return jobs.create(shop, IntakeJob.Source.FOLDER, planned)


def put_in(job: IntakeJob) -> dict[str, str]:
    """What the command hears of each file."""
    told: dict[str, str] = {}
    files.work(job, lambda line: told.update({line.source: line.verdict}), lambda _: None)
    return told


# --- Storages of clouds -----------------------------------------------------------------------------------------------


def test_a_storage_that_is_away_is_a_storage_that_is_away(shop: Collection, web: Web, media: Path) -> None:
    job = plan(shop, [web.put("/a.jpg", image_file())])
    with pytest.MonkeyPatch.context() as patch:
        away(patch, "_save")
        with pytest.raises(StorageUnavailable, match=r"could not be stored \(Away\)"):
            put(shop, image_file((1, 2, 3)))
        take_in(SECONDS)
    line = job.lines.get()
    assert (line.verdict, line.code, line.attempts, line.ended_at) == ("waiting", "storage-unavailable", 0, None)
    assert "bucket" not in line.reason
    let_all_rest_be_over()
    take_in(SECONDS)
    assert list(verdicts(job).values()) == [("stored", "")]


def test_images_wait_for_a_storage_that_is_away(shop: Collection) -> None:
    image = put_image(shop, photo())
    with pytest.MonkeyPatch.context() as patch:
        away(patch, "_open")
        process_batch()
    image.refresh_from_db()
    assert (image.status, image.attempts) == ("queued", 0)
    assert "its file cannot be read (Away)" in image.reason


def test_the_sweep_goes_on_where_the_storage_is_away(shop: Collection, settings: Settings) -> None:
    put_image(shop, photo())
    job = plan(shop, ["http://a.test/a.jpg"])
    begun = IntakeLine.objects.create(
        job=job, source="b", reserved_key="aa/b.jpg", received_at=timezone.now() - timedelta(days=1)
    )
    queues = (settings.CELERY_TASK_DEFAULT_QUEUE, "intake")
    redis = get_redis_connection("default")
    redis.delete(*queues)
    with pytest.MonkeyPatch.context() as patch:
        away(patch, "delete")
        patch.setattr("catalog.deletion.remove_doomed_files", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            sweep()
    assert all(redis.llen(queue) for queue in queues)
    begun.refresh_from_db()
    assert begun.verdict == "receiving"
    sweep()
    begun.refresh_from_db()
    assert begun.code == "interrupted"


# --- Somebody else has the line ---------------------------------------------------------------------------------------


def during(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> None:
    """Let something happen once, while a file is inspected."""
    inspect = checking.helper.inspect

    def inspect_slowly(*args: Any) -> Any:
        monkeypatch.setattr(checking.helper, "inspect", inspect)
        seen = inspect(*args)
        happens()
        return seen

    monkeypatch.setattr(checking.helper, "inspect", inspect_slowly)


def test_who_inspects_for_longer_than_the_lease_leaves_what_another_has_stored(
    shop: Collection, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = of_folder(shop, tmp_path / "photos", a_jpg=image_file())
    told: list[dict[str, str]] = []

    def another() -> None:
        let_all_rest_be_over()
        told.append(InThread(lambda: put_in(job)).outcome())

    during(monkeypatch, another)
    mine = put_in(job)
    line = job.lines.get()
    assert (line.verdict, line.image, line.reason) == ("stored", Image.objects.get(), "")
    assert (mine, told) == ({}, [{"a.jpg": "stored"}])
    assert len(files_in(media)) == 1


def test_what_was_cancelled_while_it_was_inspected_stays_so(
    shop: Collection, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = of_folder(shop, tmp_path / "photos", a_jpg=b"no image" * 50, b_jpg=image_file())

    def cancel() -> None:
        let_all_rest_be_over()
        InThread(lambda: jobs.cancel(job)).outcome()

    during(monkeypatch, cancel)
    with pytest.raises(jobs.JobError, match="cancelled"):
        put_in(job)
    assert verdicts(job) == {"a.jpg": ("cancelled", ""), "b.jpg": ("cancelled", "")}
    assert files_in(media) == []


def test_of_a_job_that_is_deleted_while_its_file_arrives_the_command_says_so(
    shop: Collection, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = of_folder(shop, tmp_path / "photos", a_jpg=image_file())
    during(monkeypatch, lambda: InThread(IntakeJob.objects.filter(pk=job.pk).delete).outcome())
    told: list[tuple[str, str]] = []
    with pytest.raises(jobs.JobError, match="The job was deleted"):
        files.work(job, lambda line: told.append((line.code, line.reason)), lambda _: None)
    [(code, reason)] = told
    assert code == "job-gone"
    assert "was deleted before this file was stored" in reason
    assert files_in(media) == []


def test_a_job_that_is_deleted_while_its_address_is_fetched_stops_no_other(
    shop: Collection, web: Web, media: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.VISEARCH_FETCH_AT_ONCE = 1
    going = plan(shop, [web.put("/a.jpg", image_file())])
    other = plan(shop, [web.put("/b.jpg", image_file((9, 9, 9)))])
    during(monkeypatch, lambda: InThread(IntakeJob.objects.filter(pk=going.pk).delete).outcome())
    take_in(SECONDS)
    assert list(verdicts(other).values()) == [("stored", "")]
    assert len(files_in(media)) == 1


def test_leases_are_renewed_between_the_files_of_a_batch(
    shop: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    job = of_folder(shop, tmp_path / "photos", a_jpg=image_file(), b_jpg=image_file((9, 9, 9)))
    settings.VISEARCH_LEASE_SECONDS = 100
    token = claims.new_token()
    [first, second] = lines.claim_files(job, token, 2).claimed
    clock = iter(range(0, 10_000, 30))
    monkeypatch.setattr(claims.time, "monotonic", lambda: float(next(clock)))
    for _ in lines.Leases([first, second]).kept([first, second]):
        assert job.lines.filter(lease_until__gt=timezone.now() + timedelta(seconds=50)).count() == 2
        job.lines.update(lease_until=timezone.now() + timedelta(seconds=1))


def test_what_an_earlier_try_of_a_request_is_receiving_is_not_said_to_have_failed(shop: Collection) -> None:
    job = IntakeJob.objects.create(collection=shop, source="api")
    for number, verdict in enumerate(["receiving", "failed", "stored"], start=1):
        IntakeLine.objects.create(job=job, number=number, source=str(number), verdict=verdict, reason="It is known.")
    sent = bulk_uploads.numbered([(io.BytesIO(), str(number)) for number in range(1, 5)])
    bulk_uploads.fail_batch(job, sent, "busy", "Too many at once.")
    assert verdicts(job) == {
        "1": ("receiving", ""),
        "2": ("failed", "busy"),
        "3": ("stored", ""),
        "4": ("failed", "busy"),
    }
    assert set(recent_failures(IntakeJob.objects.all())) == set(job.lines.filter(verdict="failed"))


# --- Files that cannot be read ----------------------------------------------------------------------------------------


class BadSector(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() > 1000:
            raise OSError(5, "Input/output error")
        return super().read(100 if size is None or size < 0 else min(size, 600))


@pytest.mark.usefixtures("no_rest")
def test_a_file_that_cannot_be_read_to_its_end_holds_up_no_other(
    shop: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = files._open

    def open_bad(line: IntakeLine) -> BinaryIO:
        with opened(line) as file:
            return (BadSector if line.source == "b.jpg" else io.BytesIO)(file.read())

    monkeypatch.setattr(files, "_open", open_bad)
    job = of_folder(shop, tmp_path / "photos", a_jpg=image_file(), b_jpg=photo(), c_jpg=image_file((9, 9, 9)))
    assert put_in(job) == {"a.jpg": "stored", "b.jpg": "failed", "c.jpg": "stored"}
    line = job.lines.get(source="b.jpg")
    assert (line.code, line.attempts) == ("file-unreadable", 3)
    assert "Reading the file broke off (Input/output error)" in line.reason
    assert line in recent_failures(IntakeJob.objects.all())


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever process is asked about a file gets no more time, as one that was taken over may do by itself."""
    ask = children.Child.ask

    def ask_stopped(self: children.Child, request: bytes, file: int) -> bytes:
        os.kill(self.pid, signal.SIGSTOP)
        return ask(self, request, file)

    monkeypatch.setattr(children, "SECONDS", 0.1)
    monkeypatch.setattr(children, "_PATIENCE", 0.2)
    monkeypatch.setattr(children.Child, "ask", ask_stopped)


@pytest.mark.usefixtures("stopped")
def test_an_address_whose_file_stops_its_decoder_fails_in_the_end(shop: Collection, web: Web) -> None:
    job = plan(shop, [web.put("/a.jpg", image_file())])
    for _ in range(4):
        take_in(SECONDS)
        let_all_rest_be_over()
    line = job.lines.get()
    assert (line.verdict, line.code, line.attempts) == ("failed", "decoder-starved", 3)
    assert web.asked["/a.jpg"] == 3


def let_images_rest_no_more() -> None:
    Image.objects.filter(status="queued").update(lease_until=None)


@pytest.mark.usefixtures("registered")
def test_an_image_that_stops_its_decoder_fails_in_the_end(shop: Collection, request: pytest.FixtureRequest) -> None:
    image = put_image(shop, squares((20, 30, 40, "red")))
    request.getfixturevalue("stopped")
    for _ in range(3):
        process_all()
        let_images_rest_no_more()
    image.refresh_from_db()
    assert (image.status, image.attempts) == ("failed", 3)
    assert "3 times" in image.reason and "Process it again" in image.reason


@pytest.mark.usefixtures("registered")
def test_an_original_that_alone_cannot_be_read_fails_in_the_end(shop: Collection, media: Path) -> None:
    ready(shop, squares((20, 30, 40, "red")))
    image = put_image(shop, squares((50, 30, 40, "red")))
    path = media / "originals" / storage.original_key(image.pk, image.format)
    path.unlink()
    path.mkdir()
    for _ in range(3):
        process_all()
        let_images_rest_no_more()
    image.refresh_from_db()
    assert image.status == "failed"
    assert "Reading its file failed (Is a directory) 3 times" in image.reason


@pytest.mark.usefixtures("no_rest")
def test_what_lies_in_a_folder_is_judged_as_it_is_when_it_is_opened(shop: Collection, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    image = image_file()
    job = of_folder(shop, folder, fifo_jpg=image, link_jpg=image, gone_jpg=image, a_jpg=image)
    for name in ("fifo", "link", "gone"):
        (folder / f"{name}.jpg").unlink()
    os.mkfifo(folder / "fifo.jpg")
    (folder / "link.jpg").symlink_to(folder / "a.jpg")
    InThread(lambda: put_in(job)).outcome()
    assert verdicts(job) == {
        "fifo.jpg": ("refused", "not-a-file"),
        "link.jpg": ("refused", "not-a-file"),
        "gone.jpg": ("refused", "unreadable"),
        "a.jpg": ("stored", ""),
    }
    assert job.lines.get(source="gone.jpg").reason == "This file is gone. Put it back and import again."


def test_a_file_that_was_given_up_is_told(shop: Collection, tmp_path: Path) -> None:
    job = of_folder(shop, tmp_path / "photos", a_jpg=image_file(), b_jpg=image_file((9, 9, 9)))
    past = timezone.now() - timedelta(seconds=1)
    job.lines.filter(source="a.jpg").update(attempts=3, claimed_by="dead", lease_until=past)
    assert put_in(job) == {"a.jpg": "failed", "b.jpg": "stored"}


# --- What is known of an image ----------------------------------------------------------------------------------------


def test_who_began_the_list_has_put_the_image_in_and_no_key_of_its_address_is_shown(web: Web, cast: Cast) -> None:
    url = web.put("/a.jpg?signature=secret", image_file())
    jobs.create(cast.private, "urls", [jobs.PlannedLine(url, 1, url=url)], user=cast.editor)
    take_in(SECONDS)
    image = Image.objects.get()
    assert image.uploader == cast.editor
    assert image.source_url == f"http://{web.host}/a.jpg"


def test_a_batch_brings_its_tags_in_as_many_queries_as_one_file(
    shop: Collection, django_assert_max_num_queries: Callable[[int], Any]
) -> None:
    job = IntakeJob.objects.create(collection=shop, source="api")

    def arrivals(first: int, count: int) -> list[Arrival]:
        tags = ("red", "a b", "a-b", "new", "red")
        return [
            Arrival(io.BytesIO(image_file((first, 20 * n, 0))), "a.jpg", ImageFacts(tags=tags)) for n in range(count)
        ]

    receive_many(job, arrivals(1, 1))
    with django_assert_max_num_queries(14):
        receive_many(job, arrivals(2, 9))
    assert {tuple(sorted(image.tags.names())) for image in Image.objects.all()} == {("a b", "a-b", "new", "red")}


def test_a_running_import_goes_by_what_the_collection_says_now(shop: Collection) -> None:
    put_image(shop, squares((20, 30, 40, "red"), (120, 60, 50, "blue")))
    job = IntakeJob.objects.create(collection=shop, source="api")
    Collection.objects.update(near_duplicates="hold")
    same = squares((20, 30, 40, "red"), (120, 60, 50, "blue"), size=(204, 153))
    [line] = receive_many(job, [Arrival(io.BytesIO(same), "b.png")])
    assert line.verdict == "stored"
    assert list(Image.objects.filter(held_for="near-duplicate")) == [line.image]


def test_what_fails_days_after_it_came_is_a_failure_of_today(shop: Collection) -> None:
    image = put_image(shop, photo())
    then = timezone.now() - timedelta(days=2)
    IntakeLine.objects.update(received_at=then, ended_at=then)
    token, _ = claims.claim(image.pk, 1)
    claims.fail(token, image.pk, "It cannot be read.")
    assert [line.image for line in recent_failures(IntakeJob.objects.all())] == [image]


# --- People -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(("who", "named"), [("editor", True), ("other_editor", False), (None, True)])
def test_a_list_names_nobody_whom_its_user_may_not_see(cast: Cast, who: str | None, named: bool) -> None:
    eve = Person.objects.create(name="Eve")
    make_face(make_image(cast.private), eve)
    Collection.objects.update(pipelines=["face"])
    user = getattr(cast, who) if who else None
    into = cast.private if who == "editor" else cast.foreign
    job = IntakeJob.objects.create(collection=into, source="csv", started_by=user, begun_on="" if who else "shop-1")
    [line] = receive_many(job, [Arrival(io.BytesIO(squares((20, 30, 40, "red"))), "a.png", person_name=" Eve ")])
    process_all()
    assert Region.objects.get(image=line.image).person == (eve if named else None)
    line.refresh_from_db()
    assert line.verdict == "stored"
    assert ("This name cannot be used here" in line.reason) is not named
    if who == "other_editor":
        assert not Person.objects.visible_to(cast.other_editor).exists()


@pytest.mark.usefixtures("registered")
def test_who_has_no_account_any_more_is_not_the_operator(cast: Cast) -> None:
    """Their list names nobody, and what its line says already stays there, however often its image is processed."""
    make_face(make_image(cast.private), Person.objects.create(name="Eve"))
    Collection.objects.update(pipelines=["face"])
    job = IntakeJob.objects.create(collection=cast.foreign, source="csv", started_by=cast.other_editor)
    here = put_image(cast.foreign, squares((20, 30, 40, "red")))
    again = io.BytesIO(squares((20, 30, 40, "red")))
    [line] = receive_many(job, [Arrival(again, "a.png", person_name="Eve")])
    assert line.verdict == "duplicate"
    cast.other_editor.delete()
    for _ in range(2):
        process_all()
        process_again([here.pk])
    assert Region.objects.get(image=here).person is None
    said = line.reason
    line.refresh_from_db()
    why = "Whoever began this job has no account any more. Name it in the admin."
    assert line.reason == f"{said} Its face was not named Eve. {why}"
