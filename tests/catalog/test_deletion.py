"""An image's files go with its row, and only with it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from django.db import transaction

from catalog.models import Collection, DoomedFiles, Embedding, Image, IntakeLine, Region
from catalog.tasks import sweep
from tests.cast import make_face
from tests.catalog.test_recovery import BEFORE_THE_ROW, UPLOAD
from tests.library import (
    InThread,
    files_in,
    put_image,
    ready,
    run_python,
    squares,
    wait_until_somebody_waits_for_a_lock,
)

pytestmark = pytest.mark.django_db(transaction=True)
RED, BLUE = squares((20, 30, 40, "red")), squares((20, 30, 40, "blue"))


def test_files_go_after_the_commit(shop: Collection, media: Path) -> None:
    image, kept = ready(shop, RED), ready(shop, BLUE)
    assert len(files_in(media)) == 6
    with transaction.atomic():
        image.delete()
        assert len(files_in(media)) == 6
    assert all(str(kept.pk) in name for name in files_in(media))
    assert len(files_in(media)) == 3
    assert {region.image for region in Region.objects.all()} == {kept}
    assert {embedding.region.image for embedding in Embedding.objects.all()} == {kept}
    assert {line.image for line in IntakeLine.objects.all()} == {None, kept}


def test_a_deletion_that_is_rolled_back_loses_nothing(shop: Collection, media: Path) -> None:
    image = ready(shop, RED)

    class ChangedMyMindError(Exception):
        pass

    with pytest.raises(ChangedMyMindError), transaction.atomic():
        Image.objects.filter(pk=image.pk).delete()
        raise ChangedMyMindError
    assert Image.objects.get() == image
    assert len(files_in(media)) == 3


@pytest.mark.parametrize("by", ["row", "queryset"])
def test_a_collection_takes_its_images_and_their_files_along(shop: Collection, media: Path, by: str) -> None:
    ready(shop, RED)
    put_image(shop, BLUE)
    other = Collection.objects.create(name="another", pipelines=["image"])
    kept = ready(other, RED)
    if by == "row":
        shop.delete()
    else:
        Collection.objects.filter(name="shop").delete()
    assert Image.objects.get() == kept
    assert len(files_in(media)) == 3
    assert all(str(kept.pk) in name for name in files_in(media))


def test_a_file_that_is_gone_already_is_no_obstacle(shop: Collection, media: Path) -> None:
    image = ready(shop, RED)
    for name in files_in(media):
        (media / name).unlink()
    image.delete()
    assert not Image.objects.exists()


def test_a_file_that_cannot_be_removed_is_logged_and_the_others_go(
    shop: Collection, media: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = ready(shop, RED)
    original = media / "originals" / image.pk.hex[-2:] / f"{image.pk}.png"
    original.unlink()
    (original / "full").mkdir(parents=True)  # a folder is what not even root can unlink
    image.delete()
    assert not Image.objects.exists()
    assert files_in(media) == []
    assert "cannot be removed yet" in caplog.text
    assert original.name in caplog.text


@pytest.mark.parametrize("by", ["row", "queryset", "collection"])
def test_deleting_waits_for_a_worker_that_is_storing_regions(shop: Collection, by: str) -> None:
    image = put_image(shop, RED)

    def delete() -> None:
        if by == "row":
            Image.objects.get().delete()
        elif by == "queryset":
            Image.objects.all().delete()
        else:
            Collection.objects.get().delete()

    with transaction.atomic():
        Image.objects.select_for_update().get()
        deleting = InThread(delete)
        wait_until_somebody_waits_for_a_lock()
        make_face(image)
    deleting.outcome()
    assert not Image.objects.exists()
    assert not Region.objects.exists()


DIES_AFTER_THE_COMMIT = """
from catalog import deletion
deletion.remove_files = lambda doomed: os.kill(os.getpid(), signal.SIGKILL)
Image.objects.get().delete()
"""


def test_files_of_an_image_whose_deleter_was_killed_go_with_the_next_sweep(shop: Collection, media: Path) -> None:
    ready(shop, RED)
    assert run_python(DIES_AFTER_THE_COMMIT, media).returncode == -signal.SIGKILL
    assert not Image.objects.exists()
    assert len(files_in(media)) == 3
    sweep()
    assert files_in(media) == []
    assert not DoomedFiles.objects.exists()


def test_files_that_cannot_be_removed_now_are_removed_later(shop: Collection, media: Path) -> None:
    image = ready(shop, RED)
    away = media.with_name("away")
    (media / "originals").rename(away)
    (media / "originals").write_bytes(b"in the way")  # a storage that raises whatever it is asked
    image.delete()
    assert DoomedFiles.objects.count() == 1
    (media / "originals").unlink()
    away.rename(media / "originals")
    sweep()
    assert files_in(media) == []


def test_what_an_upload_that_died_has_left_goes_with_its_collection(shop: Collection, media: Path) -> None:
    assert run_python(BEFORE_THE_ROW + UPLOAD, media).returncode == -signal.SIGKILL
    assert len(files_in(media)) == 1
    shop.delete()
    assert files_in(media) == []
    assert not DoomedFiles.objects.exists()
