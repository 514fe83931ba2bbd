"""What the doctor says of images, uploads and deletions that do not come to their end."""

from __future__ import annotations

import signal
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from catalog import claims, storage
from catalog.doctor.waiting import CHECKS
from catalog.intake import jobs, lines
from catalog.models import Collection, DoomedFiles, Image, IntakeLine, RestingHost
from tests.catalog.intake.planned import addresses, plan
from tests.catalog.test_recovery import BEFORE_THE_ROW, UPLOAD
from tests.doctor import asked, codes, grow_old, mended, subjects
from tests.drawn import image_file
from tests.library import files_in, process_all, put_image, ready, run_python, squares

pytestmark = pytest.mark.django_db
RED, BLUE = squares((20, 30, 40, "red")), squares((20, 30, 40, "blue"))


def test_images_that_just_came_are_no_finding(shop: Collection) -> None:
    put_image(shop, RED)
    claims.claim(None, 1)
    put_image(shop, BLUE)
    assert asked(CHECKS) == []


def test_images_wait_for_a_worker_that_is_not_there(shop: Collection) -> None:
    image = put_image(shop, RED)
    grow_old()
    assert subjects(asked(CHECKS, fix=True), "image-queued") == [str(image.pk)]
    process_all()
    assert asked(CHECKS) == []


def test_a_long_queue_that_is_worked_on_is_no_finding(shop: Collection) -> None:
    ready(shop, RED)
    put_image(shop, BLUE)
    grow_old()
    assert codes(asked(CHECKS)) == ["image-queued"]
    Image.objects.filter(status="ready").update(processed_at=timezone.now())
    assert asked(CHECKS) == []


def test_an_image_whose_worker_died_long_ago(shop: Collection) -> None:
    image = put_image(shop, RED)
    claims.claim(image.pk, 1)
    grow_old()
    assert subjects(asked(CHECKS), "image-lease-over") == [str(image.pk)]


def test_an_image_that_every_worker_gives_back_says_why(shop: Collection) -> None:
    image = put_image(shop, RED)
    token, _ = claims.claim(image.pk, 1)
    claims.release(token, [image.pk], "Waiting: the model is missing.")
    assert asked(CHECKS) == []
    grow_old()
    (found,) = asked(CHECKS)
    assert (found.finding.code, found.finding.what) == ("image-given-back", "Waiting: the model is missing.")


def test_an_image_that_nobody_decides_about(shop: Collection) -> None:
    image = put_image(shop, RED)
    Image.objects.update(status="held")
    assert asked(CHECKS) == []
    grow_old()
    assert subjects(asked(CHECKS), "image-held") == [str(image.pk)]


@pytest.mark.django_db(transaction=True)
def test_an_upload_that_died_is_cleaned_up_and_a_young_one_left_alone(shop: Collection, media: Path) -> None:
    assert run_python(BEFORE_THE_ROW + UPLOAD, media).returncode == -signal.SIGKILL
    assert asked(CHECKS, fix=True) == []
    grow_old()
    assert codes(asked(CHECKS)) == ["upload-unfinished"]
    assert len(files_in(media)) == 1
    assert mended(CHECKS) == ["upload-unfinished"]
    assert files_in(media) == []
    assert IntakeLine.objects.get().code == "interrupted"


def test_addresses_that_nobody_fetches(shop: Collection) -> None:
    job = plan(shop, addresses(2))
    assert asked(CHECKS) == []
    grow_old()
    (found,) = asked(CHECKS)
    assert (found.finding.code, found.finding.subject) == ("addresses-waiting", str(job.pk))
    assert found.finding.what.startswith("2 of ")
    RestingHost.objects.create(host="a.test:80", rests_until=timezone.now() + timedelta(minutes=30))
    assert asked(CHECKS) == []  # it asked for that
    RestingHost.objects.all().delete()
    lines.claim_addresses("a worker", 1)
    assert asked(CHECKS) == []
    lines.let_go("a worker")
    jobs.pause(job)
    assert asked(CHECKS) == []


@pytest.mark.django_db(transaction=True)
def test_files_of_a_deleted_image_go(shop: Collection, media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_image(shop, image_file())

    def away(*_: object) -> None:
        raise OSError("the storage is away")

    with monkeypatch.context() as patch:
        patch.setattr(type(storage.originals()), "delete", away)
        Image.objects.all().delete()
        assert asked(CHECKS, fix=True) == []  # the sweep has its minutes
        grow_old()
        (left,) = asked(CHECKS, fix=True)
        assert (left.finding.code, left.mended) == ("files-doomed", False)
    assert len(files_in(media)) == 1
    assert mended(CHECKS) == ["files-doomed"]
    assert files_in(media) == []
    assert not DoomedFiles.objects.exists()
