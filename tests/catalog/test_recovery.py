"""Uploads that died or dawdled: what they left goes, and their lines say what to do."""

from __future__ import annotations

import io
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from django.utils.timezone import now
from pytest_django import Settings

from catalog import storage
from catalog.exceptions import StorageUnavailable
from catalog.models import Collection, Image, IntakeLine
from catalog.recovery import finish_interrupted_uploads
from catalog.tasks import sweep
from tests.drawn import image_file
from tests.library import InThread, files_in, put, put_image, run_python

pytestmark = pytest.mark.django_db(transaction=True)

# Each kills itself, as kill -9 does, at one point of an upload.
DIES = """
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
save, replace = storage.save_original, Path.replace
"""
BEFORE_THE_FILE = DIES + "storage.save_original = die\n"
BEFORE_ITS_RENAME = DIES + "Path.replace = die\n"
BEFORE_THE_ROW = DIES + "storage.save_original = lambda key, file: (save(key, file), die())\n"
BEFORE_THE_COMMIT = DIES + "finish = uploads._finish; uploads._finish = lambda *line: (finish(*line), die())\n"
UPLOAD = 'put(shop, image_file(), "a.jpg")\n'


@pytest.fixture
def lease_over(settings: Settings) -> None:
    """Everything begun is older than the lease."""
    settings.VISEARCH_LEASE_SECONDS = -1


@pytest.mark.usefixtures("lease_over")
@pytest.mark.parametrize(
    ("death", "left"),
    [(BEFORE_THE_FILE, 0), (BEFORE_ITS_RENAME, 1), (BEFORE_THE_ROW, 1), (BEFORE_THE_COMMIT, 1)],
    ids=["before the file", "before its rename", "before the row", "before the commit"],
)
def test_an_upload_that_was_killed_is_cleaned_up(shop: Collection, media: Path, death: str, left: int) -> None:
    kept = put_image(shop, image_file((9, 9, 9)))
    assert run_python(death + UPLOAD, media).returncode == -signal.SIGKILL
    assert len(files_in(media)) == 1 + left
    assert IntakeLine.objects.get(image=None).verdict == "receiving"
    assert finish_interrupted_uploads() == 1
    line = IntakeLine.objects.get(image=None)
    assert (line.verdict, line.code) == ("failed", "interrupted")
    assert "send it again" in line.reason
    assert files_in(media) == [f"originals/{storage.original_key(kept.pk, 'JPEG')}"]
    assert Image.objects.get() == kept
    assert finish_interrupted_uploads() == 0
    assert put(shop, image_file()).verdict == "stored"


def test_an_upload_within_its_lease_is_left_alone(shop: Collection, media: Path) -> None:
    assert run_python(BEFORE_THE_ROW + UPLOAD, media).returncode == -signal.SIGKILL
    assert run_python(BEFORE_ITS_RENAME + UPLOAD, media).returncode == -signal.SIGKILL
    before = files_in(media)
    assert finish_interrupted_uploads() == 0
    assert files_in(media) == before
    assert {line.verdict for line in IntakeLine.objects.all()} == {"receiving"}


@pytest.mark.usefixtures("lease_over")
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_slow_upload_loses_its_line_and_stores_nothing(
    shop: Collection, media: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    save = storage.save_original

    def save_slowly(key: str, file: Any) -> None:
        if when == "after":
            save(key, file)
        assert finish_interrupted_uploads() == 1
        if when == "before":
            save(key, file)

    monkeypatch.setattr(storage, "save_original", save_slowly)
    with pytest.raises(StorageUnavailable, match="Send the file again"):
        put(shop, image_file())
    line = IntakeLine.objects.get()
    assert (line.verdict, line.code) == ("failed", "interrupted")
    assert not Image.objects.exists()
    assert files_in(media) == []


@pytest.mark.usefixtures("lease_over")
def test_two_sweeps_at_once_clean_up_once(shop: Collection, media: Path) -> None:
    for number in range(5):
        program = BEFORE_THE_ROW + f'put(shop, image_file(({number}, 0, 0)), "a.jpg")'
        if number:  # one is really killed, the others are copies of what it left
            line = IntakeLine.objects.first()
            assert line is not None
            key = f"aa/{number}.jpg"
            storage.save_original(key, io.BytesIO(b"left"))
            IntakeLine.objects.create(job=line.job, source="a.jpg", reserved_key=key, received_at=now())
        else:
            assert run_python(program, media).returncode == -signal.SIGKILL
    start = threading.Barrier(2)

    def sweep_now() -> int:
        start.wait()
        return finish_interrupted_uploads()

    both = [InThread(sweep_now), InThread(sweep_now)]
    assert sum(thread.outcome() for thread in both) == 5
    assert files_in(media) == []


@pytest.mark.usefixtures("lease_over")
def test_a_file_that_cannot_be_removed_stops_neither_the_sweep_nor_the_next_one(
    shop: Collection, media: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run_python(BEFORE_THE_FILE + UPLOAD, media).returncode == -signal.SIGKILL
    line = IntakeLine.objects.get()
    in_the_way = media / "originals" / line.reserved_key  # a folder is what not even root can unlink
    (in_the_way / "full").mkdir(parents=True)
    sweep()
    line.refresh_from_db()
    assert line.verdict == "receiving"
    assert "cannot be removed" in caplog.text
    (in_the_way / "full").rmdir()
    in_the_way.rmdir()
    assert finish_interrupted_uploads() == 1
