"""The command that puts a folder into a collection: nothing is skipped silently, a second run adds nothing."""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from pytest_django import Settings

from catalog import recovery
from catalog.intake import files, folders, jobs
from catalog.intake.errors import JobError
from catalog.management import following
from catalog.models import Collection, Image, IntakeJob, IntakeLine, NearDuplicate
from catalog.overview import image_statuses
from tests.catalog.test_uploads import small_disk
from tests.drawn import image_file, padded, photo
from tests.library import (
    InThread,
    files_in,
    process_all,
    run_python,
    squares,
    wait_until_somebody_waits_for_a_lock,
)

__all__ = ["small_disk"]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("registered")]
RED = squares((20, 30, 40, "red"))


def fill(folder: Path, **files: bytes) -> Path:
    """A folder with these files; in their names ``__`` stands for a slash and ``_`` for a dot."""
    for name, data in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "photos"


def run(folder: Path, *options: str, wait: bool = False) -> str:
    """What the command says on both streams."""
    out = io.StringIO()
    command = ["import_folder", str(folder), "--collection", "shop", *options, *([] if wait else ["--no-wait"])]
    call_command(*command, stdout=out, stderr=out)
    return out.getvalue()


def lines() -> dict[str, tuple[str, str]]:
    job = IntakeJob.objects.latest("id")
    return {line.source: (line.verdict, line.code) for line in job.lines.all()}


def test_every_file_gets_its_verdict(folder: Path) -> None:
    fill(
        folder,
        a_jpg=image_file(),
        deep__er__b_png=RED,
        deep__copy_jpg=image_file(),
        text_jpg=b"This is a text.",
        empty_png=b"",
        wrong_png=image_file((1, 2, 3)),
        _hidden_jpg=image_file((4, 5, 6)),
    )
    (folder / ".git").mkdir()
    (folder / ".git" / "c.jpg").write_bytes(image_file())
    (folder / "link.jpg").symlink_to(folder / "a.jpg")
    (folder / "linked").symlink_to(folder / "deep")
    os.mkfifo(folder / "pipe.jpg")
    said = run(folder)
    assert lines() == {
        "a.jpg": ("stored", ""),
        "deep/copy.jpg": ("duplicate", ""),
        "deep/er/b.png": ("stored", ""),
        "empty.png": ("refused", "empty-file"),
        "link.jpg": ("refused", "not-a-file"),
        "linked": ("refused", "not-a-file"),
        "pipe.jpg": ("refused", "not-a-file"),
        "text.jpg": ("refused", "not-an-image"),
        "wrong.png": ("refused", "format-mismatch"),
    }
    assert "New collection 'shop': private, image" in said
    assert "2 stored, 1 duplicate, 6 refused" in said
    assert Image.objects.count() == 2


def test_a_second_run_adds_nothing(folder: Path, media: Path) -> None:
    fill(folder, a_jpg=image_file(), b_png=RED)
    run(folder)
    before = files_in(media)
    assert "0 stored, 2 duplicate, 0 refused" in run(folder)
    assert Image.objects.count() == 2
    assert files_in(media) == before


@pytest.mark.usefixtures("shop")
def test_a_second_run_of_what_is_not_finished_looks_again_at_what_was_refused(folder: Path, media: Path) -> None:
    fill(folder, a_jpg=image_file(), b_png=b"no image", c_png=b"no image either")
    run(folder)
    fill(folder, b_png=RED)
    left = {"verdict": "waiting", "claimed_by": "", "lease_until": None}  # as if it had been killed before this one
    IntakeLine.objects.filter(source="a.jpg").update(**left)
    said = run(folder)
    assert "3 of 3 are left" in said
    assert "2 had failed or were refused, and are tried again" in said
    assert IntakeJob.objects.count() == 1
    assert lines()["b.png"] == ("stored", "")
    assert lines()["c.png"][0] == "refused"


def test_a_path_of_any_length_is_planned(folder: Path) -> None:
    """Of bytes that are no UTF-8 each is written as four characters."""
    deep = os.fsencode(folder)
    for _ in range(5):
        deep += b"/" + b"\xe9" * 250
    os.makedirs(deep)  # noqa: PTH103 - a name that is no text
    with open(deep + b"/a.png", "wb") as file:  # noqa: PTH123
        file.write(RED)
    run(folder)
    [(verdict, _)] = lines().values()
    assert verdict == "stored"


def test_labels_and_people_from_the_names_of_folders(folder: Path) -> None:
    fill(folder, top_png=squares((9, 9, 40, "red")), Ada__x__a_png=RED, Grace__b_png=squares((1, 1, 40, "blue")))
    run(folder, "--label-from-folder", "--person-from-folder", "--pipelines", "face")
    process_all()
    told = {
        image.label: [region.person.name for region in image.regions.all() if region.person]
        for image in Image.objects.all()
    }
    assert told == {"photos": ["photos"], "x": ["x"], "Grace": ["Grace"]}


def test_without_asking_there_are_neither_labels_nor_people(folder: Path) -> None:
    fill(folder, Ada__a_png=RED)
    run(folder, "--pipelines", "face")
    process_all()
    image = Image.objects.get()
    assert image.label == ""
    assert image.regions.get().person is None


def test_a_new_collection_is_made_as_asked(folder: Path) -> None:
    run(fill(folder, a_jpg=image_file()), "--pipelines", " face, image", "--public", "--face-search", "everyone")
    shop = Collection.objects.get()
    assert (shop.pipelines, shop.is_public, shop.face_search) == (["face", "image"], True, "everyone")


def test_a_collection_that_exists_keeps_its_settings(folder: Path) -> None:
    Collection.objects.create(name="shop", pipelines=["image"])
    said = run(fill(folder, a_jpg=image_file()), "--pipelines", "face", "--public", "--face-search", "everyone")
    shop = Collection.objects.get()
    assert (shop.pipelines, shop.is_public, shop.face_search) == (["image"], False, "staff")
    assert "Collection 'shop': private, image" in said
    assert "New" not in said


def test_names_that_are_not_utf_8_are_only_data(folder: Path) -> None:
    fill(folder, a_jpg=image_file())
    strange = os.fsencode(folder) + b"/caf\xe9"
    os.mkdir(strange)  # noqa: PTH102 - a name that is no text
    (folder / "a.jpg").rename(os.fsdecode(strange) + "/caf\udce9.jpg")
    run(folder, "--label-from-folder")
    assert lines() == {"caf?/caf?.jpg": ("stored", "")}
    assert Image.objects.get().label == "caf?"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--pipelines", "face,faces"], "No such pipeline: faces. There are: face, image."),
        (["--collection", ""], "A collection's name has 1 to 200 characters"),
        (["--collection", "n" * 201], "A collection's name has 1 to 200 characters"),
    ],
)
def test_bad_options_are_refused_before_anything_is_made(folder: Path, options: list[str], says: str) -> None:
    fill(folder, a_jpg=image_file())
    with pytest.raises(CommandError, match=says):
        run(folder, *options)
    assert not Collection.objects.exists()


def test_what_is_not_a_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", fill(tmp_path, a_jpg=image_file()) / "a.jpg"):
        with pytest.raises(CommandError, match="is not a folder"):
            run(path)
    assert not Collection.objects.exists()


def test_an_empty_folder_is_said_and_begins_no_job(folder: Path) -> None:
    fill(folder, _hidden_jpg=image_file())
    assert f"There is no file in {folder}" in run(folder, wait=True)
    assert not IntakeJob.objects.exists()


def test_the_exit_status_says_that_not_all_is_in_where_that_was_asked_for(folder: Path) -> None:
    fill(folder, a_jpg=image_file(), b_jpg=b"This is a text.")
    assert "1 refused" in run(folder)
    with pytest.raises(CommandError, match=r"Not all of it is in: 1 refused \(--strict\)"):
        run(folder, "--strict")
    (folder / "b.jpg").unlink()
    assert "1 duplicate, 0 refused" in run(folder, "--strict")


def test_what_a_new_collection_does_about_near_duplicates_is_an_option(folder: Path) -> None:
    fill(folder, a_jpg=photo(1), b_jpg=padded(photo(1), len(photo(1)) + 100))
    run(folder, "--near-duplicates", "off")
    shop = Collection.objects.get()
    assert (shop.near_duplicates, NearDuplicate.objects.count()) == ("off", 0)
    run(folder, "--near-duplicates", "hold")
    shop.refresh_from_db()
    assert shop.near_duplicates == "off"  # it has settings of its own by now


def test_what_looks_like_another_is_said(folder: Path) -> None:
    fill(folder, a_jpg=photo(1), b_jpg=padded(photo(1), len(photo(1)) + 100))
    said = run(folder, "--near-duplicates", "hold")
    job = IntakeJob.objects.get()
    assert f"1 looks like another: choose in the admin, /admin/catalog/nearduplicate/?job={job.pk}" in said


def test_a_full_disk_ends_the_import_and_another_run_goes_on(folder: Path, small_disk: Path) -> None:
    fill(folder, a_jpg=image_file(), b_jpg=photo(), c_png=RED)
    with pytest.raises(CommandError, match=r"No space left.*Run this command again"):
        run(folder)
    assert lines() == {"a.jpg": ("stored", ""), "b.jpg": ("waiting", "disk-full"), "c.png": ("stored", "")}
    fill(folder, b_jpg=image_file((9, 9, 9)))
    said = run(folder)
    assert "Going on with job" in said
    assert "1 stored, 0 duplicate" in said
    assert lines()["b.jpg"] == ("stored", "")
    assert "0 stored, 3 duplicate" in run(folder)


# --- What may not be read ---------------------------------------------------------------------------------------------

AS_SOMEBODY_ELSE = """
from django.core.management import call_command
from catalog.management.commands.import_folder import Command  # now: the checkout may be closed to somebody else
put(shop, image_file((1, 2, 3)), "first.jpg")  # loads all that an upload needs
for path in Path(os.environ["VISEARCH_MEDIA"]).rglob("*"):
    path.chmod(0o777)
Path(os.environ["VISEARCH_MEDIA"]).chmod(0o777)
me = os.geteuid()
if me == 0:
    os.seteuid(65534)  # root ignores modes
call_command(Command(), os.environ["PHOTOS"], "--collection", "shop", "--no-wait")
os.seteuid(me)
"""


@pytest.fixture
def everybodys_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="visearch-test-"))
    folder.chmod(0o755)
    yield folder
    for path in folder.rglob("*"):
        path.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("shop")
def test_what_may_not_be_read_is_refused_line_by_line(everybodys_folder: Path) -> None:
    photos, media = everybodys_folder / "photos", everybodys_folder / "media"
    fill(photos, closed__b_jpg=image_file((9, 9, 9)), listed__c_jpg=image_file((8, 8, 8)), d_jpg=RED, e_png=RED)
    (photos / "d.jpg").chmod(0)
    (photos / "closed").chmod(0)
    (photos / "listed").chmod(0o444)  # its names can be read, its files cannot
    media.mkdir()
    done = run_python(AS_SOMEBODY_ELSE, media, PHOTOS=str(photos))
    assert done.returncode == 0, done.stderr
    assert lines() == {
        "closed": ("refused", "unreadable"),
        "d.jpg": ("refused", "unreadable"),
        "e.png": ("stored", ""),
        "listed/c.jpg": ("refused", "unreadable"),
    }
    line = IntakeLine.objects.get(source="d.jpg")
    assert "Permission denied" in line.reason
    assert "import again" in line.reason


# --- Following --------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("shop")
def test_it_follows_its_images_until_they_are_ready_or_failed(folder: Path, media: Path) -> None:
    fill(folder, a_jpg=image_file(), b_png=RED, c_png=RED, d_jpg=photo())
    run(folder)
    copy = IntakeLine.objects.get(verdict="duplicate")
    (damaged,) = Image.objects.filter(original_name="d.jpg")
    (media / "originals" / damaged.pk.hex[-2:] / f"{damaged.pk}.jpg").write_bytes(b"\xff\xd8\xff")
    job = IntakeJob.objects.get()
    assert image_statuses(job) == {"queued": 3}
    process_all()
    assert image_statuses(job) == {"ready": 2, "failed": 1}
    assert copy.image is not None
    said = run(folder, wait=True)
    assert "4 duplicate" in said
    assert "nothing new" in said
    assert image_statuses(job) == {"ready": 2, "queued": 1}  # what a later job has again is still its own


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("shop")
def test_it_tells_what_became_of_its_images(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(folder, a_jpg=image_file(), b_png=RED)
    monkeypatch.setattr(following, "progress_of", processed_before(following.progress_of))
    assert "2 ready" in run(folder, wait=True)


def processed_before(progress: Callable[[IntakeJob], object]) -> Callable[[IntakeJob], object]:
    """As if a worker had been quick."""

    def processed(job: IntakeJob) -> object:
        InThread(process_all).outcome()
        return progress(job)

    return processed


# --- Killed, paused, cancelled ---------------------------------------------------------------------------------------

IMPORTS = """
from django.core.management import call_command
save = storage.save_original
stored = []
def dies_at_the_fourth(key, file):
    stored.append(key)
    if len(stored) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    save(key, file)
storage.save_original = dies_at_the_fourth
call_command("import_folder", os.environ["PHOTOS"], "--collection", "shop", "--no-wait")
"""


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("shop")
def test_an_import_that_was_killed_goes_on_where_it_was(folder: Path, media: Path, settings: Settings) -> None:
    fill(folder, **{f"{number}_png": squares((number, 9, 30, "red")) for number in range(7)})
    done = run_python(IMPORTS, media, PHOTOS=str(folder), VISEARCH_BATCH="2")
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert sorted(verdict for verdict, _ in lines().values()) == ["receiving"] * 2 + ["stored"] * 2 + ["waiting"] * 3
    settings.VISEARCH_LEASE_SECONDS = -1  # the dead one's
    recovery.finish_interrupted_uploads()
    settings.VISEARCH_LEASE_SECONDS = 60
    fill(folder, new_png=squares((50, 9, 30, "red")))
    said = run(folder / ".." / folder.name, "--label-from-folder")
    assert "Going on with job" in said and "are left" in said
    assert "6 stored, 0 duplicate" in said
    assert set(lines().values()) == {("stored", "")}
    assert Image.objects.count() == len(files_in(media)) == 8
    assert Image.objects.filter(label="photos").count() == 6
    assert IntakeJob.objects.count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("shop")
def test_a_pause_makes_a_running_import_wait_and_a_cancel_ends_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.VISEARCH_BATCH = 1
    monkeypatch.setattr(files, "LOOK_SECONDS", 0.05)
    fill(folder, **{f"{number}_png": squares((number, 9, 30, "red")) for number in range(4)})
    job, _ = folders.begin(folders.FolderImport(folder, Collection.objects.get()))
    acts = {1: jobs.pause, 2: jobs.cancel}
    said: list[str] = []
    put_in: list[IntakeLine] = []

    def on_line(line: IntakeLine) -> None:
        put_in.append(line)
        if len(put_in) in acts:
            acts[len(put_in)](job)

    def on_wait(why: str) -> None:
        said.append(why)
        jobs.resume(job)

    with pytest.raises(JobError, match="was cancelled"):
        files.work(job, on_line, on_wait)
    assert said == [files.PAUSED]
    assert sorted(lines().values()) == [("cancelled", "")] * 2 + [("stored", "")] * 2
    assert set(Image.objects.values_list("status", "held_for")) == {("held", "cancel")}
    assert jobs.retry_failed(job) == 4
    assert "2 stored, 0 duplicate" in run(folder)
    assert Image.objects.filter(status="queued").count() == 4


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("shop")
def test_two_imports_of_a_folder_at_once_share_its_files(folder: Path, media: Path) -> None:
    fill(folder, **{f"{number}_png": squares((number, 9, 30, "red")) for number in range(20)})
    plan = folders.FolderImport(folder, Collection.objects.get())
    put_in: list[str] = []

    def work() -> None:
        job, _ = folders.begin(plan)
        files.work(job, lambda line: put_in.append(line.source), lambda why: None)

    both = [InThread(work), InThread(work)]
    for each in both:
        each.outcome()
    assert sorted(put_in) == sorted(f"{number}.png" for number in range(20))
    assert IntakeJob.objects.count() == 1
    assert Image.objects.count() == len(files_in(media)) == 20


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("shop")
def test_two_that_find_new_files_at_once_plan_them_once(folder: Path) -> None:
    fill(folder, a_png=RED)
    plan = folders.FolderImport(folder, Collection.objects.get())
    first, _ = folders.begin(plan)
    fill(folder, **{f"{number}_png": squares((number, 9, 30, "red")) for number in range(5)})
    with transaction.atomic():
        assert folders.begin(plan) == (first, False)
        other = InThread(lambda: folders.begin(plan))
        wait_until_somebody_waits_for_a_lock()
    assert other.outcome() == (first, False)
    assert first.lines.count() == 6


# --- Where it lies ----------------------------------------------------------------------------------------------------


def begin(folder: Path) -> tuple[IntakeJob, bool]:
    return folders.begin(folders.FolderImport(folder, Collection.objects.get()))


@pytest.mark.usefixtures("shop")
def test_another_folder_of_the_same_path_is_another_job(folder: Path) -> None:
    """As on another host, or after another disk was mounted there."""
    fill(folder, a_png=RED, b_jpg=image_file())
    first, _ = begin(folder)
    folder.rename(folder.with_name("away"))
    fill(folder, c_png=squares((50, 9, 30, "red")))
    said = run(folder)
    assert f"job {first.pk}" in said and "not finished" in said and first.begun_on in said
    assert "1 stored, 0 duplicate, 0 refused" in said
    assert lines() == {"c.png": ("stored", "")}
    assert set(first.lines.values_list("verdict", flat=True)) == {"waiting"}
    shutil.rmtree(folder)
    folder.with_name("away").rename(folder)
    assert "2 stored, 0 duplicate, 0 refused" in run(folder)
    assert {line.verdict for line in first.lines.all()} == {"stored"}


@pytest.mark.usefixtures("shop")
def test_it_goes_on_where_the_same_files_lie_whatever_the_host_calls_itself(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container has a name of its own each time it starts; two hosts may have the same disk."""
    fill(folder, a_png=RED, b_jpg=image_file())
    first, _ = begin(folder)
    monkeypatch.setattr(socket, "gethostname", lambda: "another")
    fill(folder, new_png=squares((50, 9, 30, "red")))
    assert begin(folder) == (first, False)
    (folder / "a.png").unlink()  # a camera's folder elsewhere: some of the names are the same
    second, is_new = begin(folder)
    assert is_new
    assert (second.begun_on, second.lines.count()) == ("another", 2)


@pytest.mark.usefixtures("shop")
def test_a_file_that_was_taken_away_on_the_same_host_is_no_reason_to_begin_anew(folder: Path) -> None:
    fill(folder, a_png=RED, b_jpg=image_file())
    first, _ = begin(folder)
    (folder / "a.png").unlink()
    assert begin(folder) == (first, False)


@pytest.mark.usefixtures("shop")
def test_editors_are_not_told_where_on_the_server_a_folder_lies(folder: Path) -> None:
    job, _ = begin(fill(folder, a_png=RED))
    assert job.name == "photos"


def test_images_are_made_smaller_where_that_is_asked_for(folder: Path) -> None:
    fill(folder, a_jpg=photo())
    run(folder, "--square", "64")
    image = Image.objects.get()
    assert (image.width, image.height) == (64, 64)
    with pytest.raises(CommandError, match="longest:1024"):
        run(folder, "--longest-side", "7", "--collection", "another")
    assert not Collection.objects.filter(name="another").exists()


# --- A database that is away for a moment -----------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("shop")
def test_a_connection_that_breaks_costs_no_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(folder, a_jpg=image_file(), b_png=RED, c_jpg=photo())
    collection = Collection.objects.get()
    verdicts = []

    def on_line(line: IntakeLine) -> None:
        verdicts.append(line.verdict)
        InThread(break_all_connections_but_mine).outcome()

    job, _ = folders.begin(folders.FolderImport(folder, collection))
    files.work(job, on_line, lambda why: None)
    connection.close()
    assert verdicts == ["stored"] * 3
    assert image_statuses(job) == {"queued": 3}


def break_all_connections_but_mine() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
