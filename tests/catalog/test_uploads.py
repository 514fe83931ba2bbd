"""Putting images in: what is stored, what is refused, and what happens when the disk or Redis is away."""

from __future__ import annotations

import io
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Barrier

import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from catalog import storage
from catalog.exceptions import StorageUnavailable
from catalog.models import Collection, Image, IntakeJob, IntakeLine
from catalog.tasks import sweep
from catalog.uploads import Arrival, ImageFacts, process_again, receive, receive_many
from tests.drawn import SVG, image_file, photo, png_claiming, turned_photo
from tests.library import InThread, files_in, put, put_image, run_python
from tests.library_fixtures import use_media
from visearch_site.local.redis import start_redis

pytestmark = pytest.mark.django_db
EVERYBODY_MAY_ENTER = 0o755
Arrange = Callable[[Callable[[], object]], None]


def queued_nudges() -> int:
    from visearch_site.celery import app

    with app.connection_for_read() as broker:
        redis = broker.default_channel.client  # type: ignore[attr-defined]  # kombu's Redis channel has one
        return int(redis.llen(django_settings.CELERY_TASK_DEFAULT_QUEUE))


@pytest.fixture
def job(shop: Collection) -> IntakeJob:
    return IntakeJob.objects.create(collection=shop, source=IntakeJob.Source.FOLDER)


@pytest.fixture
def before_the_first_row(monkeypatch: pytest.MonkeyPatch) -> Arrange:
    """Has something happen when the first file is stored, and its row not yet."""
    save = storage.save_original

    def arrange(happens: Callable[[], object]) -> None:
        def save_then_happen(key: str, file: io.BytesIO) -> None:
            monkeypatch.setattr(storage, "save_original", save)
            save(key, file)
            happens()

        monkeypatch.setattr(storage, "save_original", save_then_happen)

    return arrange


# --- Stored -----------------------------------------------------------------------------------------------------------


def test_a_stored_image_has_a_row_a_file_and_a_line(shop: Collection, media: Path) -> None:
    line = put(shop, image_file(), "shoes/red.jpg", label="4711", tags=["red", "leather"])
    image = line.image
    assert image is not None
    assert (line.verdict, line.source, line.reason) == ("stored", "shoes/red.jpg", "")
    assert (image.status, image.format, image.width, image.height) == ("queued", "JPEG", 64, 48)
    assert (image.original_name, image.label, image.byte_size) == ("red.jpg", "4711", len(image_file()))
    assert sorted(tag.name for tag in image.tags.all()) == ["leather", "red"]
    (file,) = files_in(media)
    assert file == f"originals/{image.pk.hex[-2:]}/{image.pk}.jpg"
    assert (media / file).read_bytes() == image_file()
    stored = IntakeLine.objects.get()
    assert (stored.verdict, stored.image) == ("stored", image)


def test_width_height_and_time_are_what_a_person_sees(shop: Collection) -> None:
    image = put_image(shop, turned_photo(), "a.jpg")
    assert (image.width, image.height) == (40, 60)
    assert image.taken_at is not None
    assert image.taken_at.isoformat() == "2012-12-06T10:30:00+00:00"


def test_the_same_file_again_is_a_duplicate(shop: Collection, media: Path) -> None:
    first = put_image(shop, image_file())
    again = put(shop, image_file(), "another name.jpg")
    assert (again.verdict, again.image) == ("duplicate", first)
    assert "already has" in again.reason
    assert len(files_in(media)) == Image.objects.count() == 1
    assert put(Collection.objects.create(name="another"), image_file(), "a.jpg").verdict == "stored"


@pytest.mark.django_db(transaction=True)
def test_a_stored_image_nudges_the_workers(shop: Collection) -> None:
    before = queued_nudges()
    put(shop, image_file(), "a.jpg")
    assert queued_nudges() == before + 1
    put(shop, image_file(), "a.jpg")
    put(shop, b"text", "a.jpg")
    assert queued_nudges() == before + 1


# --- Refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data", "code", "says"),
    [
        ("a.jpg", b"This is a text. " * 40, "not-an-image", "Send a JPEG"),
        ("a.jpg", image_file(size=(600, 400))[:-900], "truncated-image", "save it anew"),
        ("a.jpg", b"", "empty-file", "empty"),
        ("a.png", png_claiming(60_000, 60_000), "too-many-pixels", "Send a smaller one"),
        ("a.svg", SVG, "format-not-supported", "SVG"),
        ("a.png", image_file(), "format-mismatch", "Rename it"),
        ("a.jpg", photo(), "too-many-bytes", "Send a smaller image"),
    ],
    ids=lambda value: value if isinstance(value, str) and "-" in value else "",
)
def test_what_is_refused(  # noqa: PLR0917
    shop: Collection, media: Path, settings: Settings, name: str, data: bytes, code: str, says: str
) -> None:
    settings.VISEARCH_LIMITS = {**settings.VISEARCH_LIMITS, "bytes": 50_000}
    line = put(shop, data, name)
    assert (line.verdict, line.code, line.image) == ("refused", code, None)
    assert says in line.reason
    assert IntakeLine.objects.get().reason == line.reason
    assert not Image.objects.exists()
    assert files_in(media) == []


def test_too_many_frames_are_refused(shop: Collection, settings: Settings) -> None:
    settings.VISEARCH_LIMITS = {**settings.VISEARCH_LIMITS, "frames": 2}
    from PIL import Image as PILImage

    frames = [PILImage.new("RGB", (8, 8), (shade, 0, 0)) for shade in (0, 100, 200)]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    assert put(shop, out.getvalue(), "a.gif").code == "too-many-frames"


# --- Names are data ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd.jpg", "passwd.jpg"),
        ("/etc/passwd.jpg", "passwd.jpg"),
        ("nul\0.jpg", "nul.jpg"),
        ("n" * 300 + ".jpg", "n" * 255),
        ("n" * 998 + ".jpg", "n" * 255),
        ("caf\udce9.jpg", "caf?.jpg"),  # what Python makes of a Latin-1 name on a disk
        ("", ""),
    ],
    ids=["up", "absolute", "nul", "300", "1002", "not UTF-8", "empty"],
)
def test_names_are_only_data(shop: Collection, media: Path, name: str, kept: str) -> None:
    image = put_image(shop, image_file(), name)
    image.refresh_from_db()
    assert image.original_name == kept
    assert files_in(media) == [f"originals/{image.pk.hex[-2:]}/{image.pk}.jpg"]


def test_a_refusal_repeats_a_name_without_its_nul(shop: Collection) -> None:
    line = put(shop, image_file(), "a.p\0ng")
    assert (line.code, "\0" in line.reason) == ("format-mismatch", False)


# --- At the same time -------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("times", [2, 6])
def test_the_same_file_at_once_is_stored_once(job: IntakeJob, media: Path, times: int) -> None:
    ready = Barrier(times)

    def upload() -> str:
        ready.wait()
        return receive(job, io.BytesIO(photo()), "a.jpg").verdict

    threads = [InThread(upload) for _ in range(times)]
    verdicts = sorted(thread.outcome() for thread in threads)
    assert verdicts == ["duplicate"] * (times - 1) + ["stored"]
    image = Image.objects.get()
    assert files_in(media) == [f"originals/{image.pk.hex[-2:]}/{image.pk}.jpg"]
    lines = IntakeLine.objects.all()
    assert sorted(line.verdict for line in lines) == verdicts
    assert {line.image for line in lines} == {image}


@pytest.mark.django_db(transaction=True)
def test_an_upload_into_a_collection_that_is_deleted_meanwhile_leaves_no_file(
    shop: Collection, media: Path, before_the_first_row: Arrange
) -> None:
    before_the_first_row(Collection.objects.all().delete)
    with pytest.raises(StorageUnavailable):
        put(shop, image_file(), "a.jpg")
    assert files_in(media) == []


# --- Several at once --------------------------------------------------------------------------------------------------


def arrival(data: bytes, name: str = "a.jpg") -> Arrival:
    return Arrival(io.BytesIO(data), name)


def test_a_batch_costs_the_same_for_two_files_and_for_many(job: IntakeJob, media: Path) -> None:
    """Twins, what was discarded, lines; then at once the job's state, images, verdicts, what the collection says."""
    for count in (2, 9):
        files = [image_file((count, 20 * number, 0)) for number in range(count)]
        with CaptureQueriesContext(connection) as captured:
            verdicts = [line.verdict for line in receive_many(job, [arrival(data) for data in files])]
        assert verdicts == ["stored"] * count
        assert len([query for query in captured if "SAVEPOINT" not in query["sql"]]) == 7


def test_a_batch_keeps_its_order_whatever_becomes_of_each(job: IntakeJob, media: Path) -> None:
    here = receive(job, io.BytesIO(photo()), "here.jpg").image
    twice = image_file((7, 7, 7))
    batch = [twice, b"a text", photo(), twice, photo()[:-500], image_file((8, 8, 8)), twice]
    lines = receive_many(job, [arrival(data) for data in batch])
    assert [line.verdict for line in lines] == [
        "stored",
        "refused",
        "duplicate",
        "duplicate",
        "refused",
        "stored",
        "duplicate",
    ]
    assert lines[2].image == here
    assert lines[3].image == lines[6].image == Image.objects.get(pk=lines[0].image_id)
    assert [line.code for line in lines] == ["", "not-an-image", "", "", "truncated-image", "", ""]
    kept = {line.pk: (line.verdict, line.code, line.image_id) for line in job.lines.exclude(source="here.jpg")}
    assert kept == {line.pk: (line.verdict, line.code, line.image_id) for line in lines}
    assert len(files_in(media)) == Image.objects.count() == 3


@pytest.mark.django_db(transaction=True)
def test_one_of_a_batch_that_somebody_else_stores_meanwhile_is_a_duplicate(
    job: IntakeJob, media: Path, before_the_first_row: Arrange
) -> None:
    files = [image_file((80 * number, 0, 0)) for number in range(3)]
    before_the_first_row(lambda: receive(job, io.BytesIO(files[1]), "theirs.jpg"))
    lines = receive_many(job, [arrival(data) for data in files])
    assert [line.verdict for line in lines] == ["stored", "duplicate", "stored"]
    assert len(files_in(media)) == Image.objects.count() == 3


@pytest.mark.django_db(transaction=True)
def test_one_of_a_batch_that_the_sweep_gave_up_costs_the_others_nothing(
    job: IntakeJob, media: Path, before_the_first_row: Arrange
) -> None:
    before_the_first_row(lambda: IntakeLine.objects.filter(source="1.jpg").update(verdict="failed", reason="given up"))
    lines = receive_many(job, [arrival(image_file((80 * number, 0, 0)), f"{number}.jpg") for number in range(3)])
    assert [line.verdict for line in lines] == ["stored", "failed", "stored"]
    assert "Send the file again" in lines[1].reason
    assert len(files_in(media)) == Image.objects.count() == 2


# --- Disks ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(settings: Settings) -> Iterator[Path]:
    """A media folder on a disk of 64 kB."""
    folder = Path(tempfile.mkdtemp(prefix="visearch-test-"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        folder.rmdir()
        pytest.skip("a small disk cannot be mounted here")
    use_media(settings, folder)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
    folder.rmdir()


def assert_not_kept(line: IntakeLine, media: Path, code: str = "storage-unavailable") -> None:
    assert (line.verdict, line.code, line.image) == ("failed", code, None)
    assert "send it again" in line.reason
    assert not Image.objects.exists()
    assert files_in(media) == []


def test_a_full_disk(shop: Collection, small_disk: Path) -> None:
    with pytest.raises(StorageUnavailable, match=r"No space left on device.*send it again"):
        put(shop, photo(), "a.jpg")
    assert_not_kept(IntakeLine.objects.get(), small_disk, code="disk-full")
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    assert put(shop, photo(), "a.jpg").verdict == "stored"
    assert len(files_in(small_disk)) == 1


@pytest.fixture
def everybodys_folder() -> Iterator[Path]:
    """A folder that any user reaches; pytest's own are for the one who runs the tests."""
    folder = Path(tempfile.mkdtemp(prefix="visearch-test-"))
    folder.chmod(EVERYBODY_MAY_ENTER)
    yield folder
    shutil.rmtree(folder)


READ_ONLY = """
put(shop, image_file((1, 2, 3)), "first.jpg")  # makes the folders, and loads all that an upload needs
Image.objects.all().delete()
IntakeLine.objects.all().delete()
folders = [path for path in [Path(os.environ["VISEARCH_MEDIA"]), *Path(os.environ["VISEARCH_MEDIA"]).rglob("*")]]
modes = {path: path.stat().st_mode for path in folders}
for path in folders:
    path.chmod(0o555)
me = os.geteuid()
if me == 0:
    os.seteuid(65534)  # root ignores modes
try:
    put(shop, image_file(), "a.jpg")
except StorageUnavailable as error:
    print(error)
os.seteuid(me)
"""


@pytest.mark.django_db(transaction=True)
def test_a_read_only_media_folder(shop: Collection, everybodys_folder: Path) -> None:
    done = run_python(READ_ONLY, everybodys_folder)
    assert done.returncode == 0, done.stderr
    assert "Permission denied" in done.stdout
    assert "make the media folder writable, then send it again" in done.stdout
    assert_not_kept(IntakeLine.objects.get(), everybodys_folder)
    for path in [everybodys_folder, *everybodys_folder.rglob("*")]:
        path.chmod(EVERYBODY_MAY_ENTER)
    assert run_python('put(shop, image_file(), "a.jpg")', everybodys_folder).returncode == 0
    assert Image.objects.count() == len(files_in(everybodys_folder)) == 1


# --- Redis ------------------------------------------------------------------------------------------------------------

WITHOUT_REDIS = """
line = put(shop, image_file(), "a.jpg")
print(line.verdict, line.image.status)
"""


@pytest.mark.django_db(transaction=True)
def test_without_redis_the_image_is_kept_and_found_by_the_sweep(shop: Collection, tmp_path: Path) -> None:
    sockets = Path(tempfile.mkdtemp(prefix="visearch-test-"))
    sockets.chmod(0o777)
    redis = start_redis(sockets / "redis", sockets)
    url = redis.url
    redis.stop()
    shutil.rmtree(sockets)
    done = run_python(WITHOUT_REDIS, tmp_path / "media", REDIS_URL=url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["stored", "queued"]
    assert "the sweep will find it" in done.stderr
    before = queued_nudges()
    sweep()
    assert queued_nudges() > before


# --- Again ------------------------------------------------------------------------------------------------------------


def test_processing_again_is_for_images_that_are_done(shop: Collection) -> None:
    images = {status: put_image(shop, photo(n), "a.jpg") for n, status in enumerate(Image.Status)}
    for status, image in images.items():
        Image.objects.filter(pk=image.pk).update(
            status=status, reason="Cut off.", attempts=2, claimed_by="somebody", lease_until="2026-01-01T00:00:00Z"
        )
    assert process_again([image.pk for image in images.values()]) == 3
    for status, image in images.items():
        image.refresh_from_db()
        if status in ("ready", "failed", "held"):
            assert (image.status, image.reason, image.attempts, image.claimed_by) == ("queued", "", 0, "")
            assert image.lease_until is None
        else:
            assert (image.status, image.attempts, image.claimed_by) == (status, 2, "somebody")


def test_facts_are_columns_of_the_image(shop: Collection, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    facts = {"title": "A shoe", "external_id": "x-1", "link": "https://shop.example/1", "licence": "CC0-1.0"}
    image = put_image(shop, image_file(), "a.jpg", is_published=False, source_url="https://photos.example/1", **facts)
    image.refresh_from_db()
    assert {name: getattr(image, name) for name in facts} == facts
    assert (image.is_published, image.source_url) == (False, "https://photos.example/1")
    assert ImageFacts().columns().keys() <= {field.attname for field in Image._meta.concrete_fields}
