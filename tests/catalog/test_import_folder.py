"""The command that puts a folder into a collection: nothing is skipped silently, a second run adds nothing."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from catalog import folders
from catalog.models import Collection, Image, IntakeJob, IntakeLine
from tests.catalog.test_uploads import small_disk
from tests.drawn import image_file, photo
from tests.library import InThread, files_in, process_all, run_python, squares

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


def test_an_empty_folder_is_said(tmp_path: Path) -> None:
    assert "0 stored, 0 duplicate, 0 refused" in run(tmp_path, wait=True)


def test_a_full_disk_ends_the_import_and_another_run_goes_on(folder: Path, small_disk: Path) -> None:
    fill(folder, a_jpg=image_file(), b_jpg=photo(), c_png=RED)
    with pytest.raises(CommandError, match=r"No space left.*Run this command again"):
        run(folder)
    assert lines() == {"a.jpg": ("stored", ""), "b.jpg": ("failed", "disk-full"), "c.png": ("stored", "")}
    fill(folder, b_jpg=image_file((9, 9, 9)))
    assert "1 stored, 2 duplicate" in run(folder)


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
    assert folders.progress(job) == {"queued": 3}
    process_all()
    assert folders.progress(job) == {"ready": 2, "failed": 1}
    assert copy.image is not None
    said = run(folder, wait=True)
    assert "4 duplicate" in said
    assert "nothing new" in said
    assert folders.progress(job) == {"ready": 2, "queued": 1}  # what a later job has again is still its own


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("shop")
def test_it_tells_what_became_of_its_images(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(folder, a_jpg=image_file(), b_png=RED)
    monkeypatch.setattr(folders, "progress", processed_before(folders.progress))
    assert "2 ready" in run(folder, wait=True)


def processed_before(progress: Callable[[IntakeJob], object]) -> Callable[[IntakeJob], object]:
    """As if a worker had been quick."""

    def processed(job: IntakeJob) -> object:
        InThread(process_all).outcome()
        return progress(job)

    return processed


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

    job = folders.import_folder(folders.FolderImport(folder, collection), on_line)
    connection.close()
    assert verdicts == ["stored"] * 3
    assert folders.progress(job) == {"queued": 3}


def break_all_connections_but_mine() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
