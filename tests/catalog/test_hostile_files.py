"""The corpus of tests/hostile.py, put in: each file gets its line with the verdict that is fixed for it."""

from __future__ import annotations

import io
import os
import signal
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection

from catalog import storage
from catalog.exceptions import StorageUnavailable
from catalog.models import Collection, Image, IntakeJob, IntakeLine
from catalog.processing import process_batch
from catalog.uploads import receive
from catalog.vision.helper import children
from tests.drawn import image_file, photo
from tests.hostile import NAMES, SVG, WHOLE, Hostile, jpeg_of_many_scans, put_no_files, put_on_disk
from tests.library import InThread, files_in, put, put_image, ready, squares
from tests.stack import wait_for

pytestmark = pytest.mark.django_db


def everything_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_folder_of_them(shop: Collection, media: Path, tmp_path: Path) -> None:
    """Nothing is written anywhere but into the media folder, and there nothing but what was taken."""
    folder = tmp_path / "photos"
    folder.mkdir()
    (tmp_path / "secret.jpg").write_bytes(photo())
    fixed = {path.name: each.verdict for path, each in put_on_disk(folder)}
    fixed |= put_no_files(folder, tmp_path / "secret.jpg")
    before = everything_below(tmp_path)
    call_command("import_folder", str(folder), "--collection", "shop", "--no-wait", stdout=io.StringIO())
    lines = {line.source: line for line in IntakeLine.objects.all()}
    assert len(fixed) == len(lines) > 60
    cleaned = {name.replace("\u202e", "").replace("\n", "").replace("\x1b", ""): code for name, code in fixed.items()}
    assert {name: line.code for name, line in lines.items()} == cleaned
    for line in lines.values():
        assert line.verdict == ("refused" if line.code else "stored")
        assert len(line.reason) > 20 or not line.code
    taken = Image.objects.all()
    assert len(taken) == list(fixed.values()).count("")
    originals = {f"media/{file}" for file in files_in(media)}
    assert originals == {f"media/originals/{storage.original_key(each.pk, each.format)}" for each in taken}
    written = {path for path in everything_below(tmp_path) - before if (tmp_path / path).is_file()}
    assert written == originals


@pytest.mark.parametrize("hostile", NAMES, ids=str)
def test_a_name_is_only_data(shop: Collection, media: Path, tmp_path: Path, hostile: Hostile) -> None:
    line = put(shop, hostile.make(), hostile.name)
    assert line.verdict == "stored", line.reason
    assert line.image is not None
    line.refresh_from_db()
    image = Image.objects.get()
    assert image.original_name == hostile.kept
    assert line.source.isprintable()
    assert files_in(tmp_path) == [f"media/originals/{image.pk.hex[-2:]}/{image.pk}.png"]


def test_an_ordinary_photo_with_more_behind_it_is_taken(shop: Collection) -> None:
    """As phones write them: a film, a second image, a trailer of their own."""
    trailers = [
        b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + os.urandom(200_000),
        WHOLE["jpg"](),
        b"\0\0\x01\x0b\x12\0\0\0Image_UTC_Data1700000000000SEFHk\0\0\0\x01\0\0\0\0\0\x01\x0b#\0\0\0#\0\0\0\x18\0\0\0SEFT",
        b'<?xpacket begin=""?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF/></x:xmpmeta><?xpacket end="w"?>',
    ]
    for number, trailer in enumerate(trailers):
        assert put(shop, photo(number) + trailer, "IMG_0001.jpg").verdict == "stored"


@pytest.mark.parametrize("extension", WHOLE)
def test_padding_behind_an_image_is_no_part_of_it(shop: Collection, extension: str) -> None:
    """As cards that were recovered, and containers of blocks, leave it."""
    line = put(shop, WHOLE[extension]() + bytes(100_000), f"a.{extension}")
    assert line.verdict == "stored", line.reason


def test_what_is_here_already_is_not_read_again(shop: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    first = put_image(shop, photo())
    children.end_all()
    monkeypatch.setattr(children, "_COMMAND", ("/nowhere/python",))
    again = put(shop, photo(), "again.jpg")
    assert (again.verdict, again.image) == ("duplicate", first)
    assert put(shop, SVG, "a.jpg").code == "format-not-supported"


# --- What a file is normalised to -------------------------------------------------------------------------------------


@pytest.fixture
def square_job(shop: Collection) -> IntakeJob:
    return IntakeJob.objects.create(collection=shop, source=IntakeJob.Source.FOLDER, normalise="square:512")


def test_what_a_job_normalises_is_kept_instead_and_known_by_what_came(square_job: IntakeJob, media: Path) -> None:
    line = receive(square_job, io.BytesIO(photo()), "a.jpg")
    image = Image.objects.get()
    assert (line.verdict, image.width, image.height, image.format) == ("stored", 512, 512, "JPEG")
    [file] = files_in(media)
    kept = (media / file).read_bytes()
    assert (len(kept), image.original_name) == (image.byte_size, "a.jpg")
    assert kept != photo()
    assert {image.sha256, image.source_sha256} == {_sha256(kept), _sha256(photo())}
    for data in (photo(), kept):
        again = receive(square_job, io.BytesIO(data), "b.jpg")
        assert (again.verdict, again.image) == ("duplicate", image)
    assert len(files_in(media)) == 1


def test_two_files_that_become_the_same_are_one_image(square_job: IntakeJob, media: Path) -> None:
    """They differ in what is not kept."""
    first = receive(square_job, io.BytesIO(photo()), "a.jpg")
    second = receive(square_job, io.BytesIO(photo() + b"a trailer of the camera"), "b.jpg")
    assert (second.verdict, second.image_id) == ("duplicate", first.image_id)
    assert len(files_in(media)) == Image.objects.count() == 1


def test_looks_are_kept_with_the_image(shop: Collection) -> None:
    image = put_image(shop, squares((20, 30, 40, "red"), (120, 60, 50, "blue")))
    assert image.phash is not None
    assert image.phash != image.phash_mirrored
    assert put_image(shop, image_file()).phash is None


def _sha256(data: bytes) -> str:
    return storage.sha256_of(io.BytesIO(data))


# --- When there is nobody to read -------------------------------------------------------------------------------------


def test_where_no_decoder_can_be_had_a_file_is_not_refused(
    shop: Collection, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    children.end_all()
    monkeypatch.setattr(children, "_COMMAND", ("/nowhere/python",))
    with pytest.raises(StorageUnavailable, match="Send it again") as error:
        put(shop, photo(), "a.jpg")
    assert error.value.code == "decoder-unavailable"
    line = IntakeLine.objects.get()
    assert (line.verdict, line.image) == ("failed", None)
    assert files_in(media) == []
    monkeypatch.undo()
    assert put(shop, photo(), "a.jpg").verdict == "stored"


def test_an_image_whose_decoder_cannot_be_had_waits(shop: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    image = put_image(shop, photo())
    children.end_all()
    monkeypatch.setattr(children, "_COMMAND", ("/nowhere/python",))
    assert process_batch() == 1
    image.refresh_from_db()
    assert (image.status, image.attempts) == ("queued", 0)
    assert "cannot be started" in image.reason


@pytest.mark.django_db(transaction=True)
def test_processing_survives_a_file_that_ends_its_decoder(shop: Collection, media: Path) -> None:
    """Twice, then it fails with a reason; the image after it becomes ready."""
    poisoned, good = put_image(shop, photo(1)), put_image(shop, squares((20, 30, 40, "red")))
    key = storage.original_key(poisoned.pk, "JPEG")
    (media / "originals" / key).write_bytes(jpeg_of_many_scans(2000, 4000))
    children.end_all()
    worker = InThread(process_batch)
    killed: list[int] = []

    def kill_whoever_reads() -> bool:
        for child in list(children._all):
            if len(killed) < 2 and child.asked and child.is_alive and child.pid not in killed:
                killed.append(child.pid)
                os.kill(child.pid, signal.SIGKILL)
        return len(killed) == 2

    wait_for("two children to be killed", kill_whoever_reads)
    assert worker.outcome() == 2
    poisoned.refresh_from_db()
    good.refresh_from_db()
    assert (poisoned.status, good.status) == ("failed", "ready")
    assert "broke off twice" in poisoned.reason
    assert connection.is_usable()
    assert ready(shop, photo(3)).status == "ready"
