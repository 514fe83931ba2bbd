"""What the doctor says of files: missing ones, altered ones, and those that no image has."""

from __future__ import annotations

import io
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.files.base import ContentFile
from pytest_django import Settings
from uuid_utils.compat import uuid7

from catalog import storage
from catalog.doctor import strays
from catalog.doctor.checks import CHECKS
from catalog.doctor.examining import Outcome, Unseen, examine
from catalog.doctor.findings import Looking
from catalog.models import Collection, DoomedFiles, Image
from tests.doctor import asked, codes, mended, subjects
from tests.drawn import image_file
from tests.library import InThread, files_in, process_all, put, put_image, ready, squares
from tests.stack import wait_for

pytestmark = pytest.mark.django_db
RED, BLUE = squares((20, 30, 40, "red")), squares((20, 30, 40, "blue"))


@pytest.fixture
def nothing_is_young(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file is spared for its age."""
    monkeypatch.setattr(strays, "YOUNG", timedelta(days=-1))


def key_of(image: Image) -> str:
    return storage.original_key(image.pk, image.format)


@pytest.fixture(params=["folder", "memory"])
def place(request: Any, settings: Settings, media: Path) -> str:
    """A folder, and a storage that has neither paths nor folders of its own."""
    if request.param == "memory":
        memory = {"BACKEND": "django.core.files.storage.InMemoryStorage"}
        settings.STORAGES = {**settings.STORAGES, "originals": memory, "renditions": memory}
    return str(request.param)


@pytest.mark.usefixtures("nothing_is_young")
@pytest.mark.parametrize("deep", [False, True])
def test_a_healthy_catalogue_has_no_findings(place: str, shop: Collection, deep: bool) -> None:
    assert asked(CHECKS) == []  # before anything was ever stored
    for data in (RED, BLUE):
        ready(shop, data)
    put_image(shop, image_file())
    assert asked(CHECKS, fix=True, deep=deep, deletes_strays=True) == []
    assert Image.objects.filter(status="ready").count() == 2


@pytest.mark.usefixtures("nothing_is_young")
def test_a_missing_original_is_found_and_left(place: str, shop: Collection) -> None:
    image, _ = ready(shop, RED), ready(shop, BLUE)
    storage.originals().delete(key_of(image))
    for _ in range(2):
        (found,) = asked(CHECKS, fix=True, deletes_strays=True)
        assert (found.finding.code, found.finding.subject) == ("original-missing", str(image.pk))
        assert not found.finding.fixable


@pytest.mark.parametrize("deep", [False, True])
def test_an_original_that_was_altered(shop: Collection, deep: bool) -> None:
    shorter, other = ready(shop, RED), ready(shop, BLUE)
    for image, size in ((shorter, 10), (other, other.byte_size)):
        storage.originals().save(key_of(image), ContentFile(b"x" * size))
    found = subjects(asked(CHECKS, fix=True, deep=deep), "original-altered")
    assert found == [str(image.pk) for image in ([shorter, other] if deep else [shorter])]


@pytest.mark.usefixtures("nothing_is_young")
def test_a_missing_rendition_is_rendered_again(place: str, shop: Collection) -> None:
    image, _ = ready(shop, RED), ready(shop, BLUE)
    key = storage.rendition_key(image.pk, 320)
    before = storage.renditions().open(key).read()
    storage.renditions().delete(key)
    assert codes(asked(CHECKS)) == ["rendition-missing"]
    assert mended(CHECKS) == ["rendition-missing"]
    assert storage.renditions().open(key).read() == before


def test_a_rendition_without_an_original_is_left_with_the_reason(shop: Collection) -> None:
    image = ready(shop, RED)
    storage.originals().delete(key_of(image))
    storage.renditions().delete(storage.rendition_key(image.pk, 320))
    for _ in range(2):
        outcomes = asked(CHECKS, fix=True)
        assert codes(outcomes) == ["original-missing", "rendition-missing"]
        assert "FileNotFoundError" in outcomes[1].why


# --- Strays -----------------------------------------------------------------------------------------------------------


def save_original(image_id: Any) -> str:
    key = storage.original_key(image_id, "PNG")
    storage.save_original(key, io.BytesIO(RED))
    return key


def save_rendition(image_id: Any) -> str:
    storage.save_renditions(image_id, {320: b"small"})
    return storage.rendition_key(image_id, 320)


def test_a_young_stray_is_left_alone(shop: Collection) -> None:
    ready(shop, RED)
    save_original(uuid7()), save_rendition(uuid7())
    assert asked(CHECKS, fix=True, deletes_strays=True) == []


@pytest.mark.usefixtures("nothing_is_young")
def test_a_stray_rendition_goes(place: str, shop: Collection) -> None:
    ready(shop, RED)
    key = save_rendition(uuid7())
    assert subjects(asked(CHECKS), "rendition-stray") == [key]
    assert mended(CHECKS) == ["rendition-stray"]
    assert not storage.renditions().exists(key)


@pytest.mark.usefixtures("nothing_is_young")
def test_a_stray_original_goes_only_when_that_is_asked_for(place: str, shop: Collection) -> None:
    image = ready(shop, RED)
    key = save_original(uuid7())
    found = asked(CHECKS, fix=True)
    assert (codes(found), found[0].mended) == (["original-stray"], False)
    assert "import_folder" in found[0].finding.remedy
    assert storage.originals().exists(key)
    assert mended(CHECKS, deletes_strays=True) == ["original-stray"]
    assert not storage.originals().exists(key)
    assert storage.originals().exists(key_of(image))


@pytest.mark.usefixtures("nothing_is_young")
def test_an_original_under_another_ending_is_a_stray(shop: Collection) -> None:
    image = ready(shop, RED)
    key = key_of(image).replace(".png", ".webp")
    storage.save_original(key, io.BytesIO(RED))
    assert subjects(asked(CHECKS, fix=True), "original-stray") == [key]
    assert mended(CHECKS, deletes_strays=True) == ["original-stray"]
    assert storage.originals().exists(key_of(image))


@pytest.mark.usefixtures("nothing_is_young")
def test_what_this_site_did_not_write_is_never_touched(shop: Collection) -> None:
    ready(shop, RED)
    foreign = ["notes.txt", "aa/holiday.jpg", f"00/{uuid7()}.txt.gz", f"{uuid4().hex[-2:]}/{uuid4()}.png"]
    for name in foreign:
        storage.originals().save(name, ContentFile(b"mine"))
    for _ in range(2):
        found = asked(CHECKS, fix=True, deletes_strays=True)
        assert sorted(subjects(found, "file-foreign")) == sorted(foreign)
        assert len(found) == len(foreign)
    assert all(storage.originals().exists(name) for name in foreign)


@pytest.mark.usefixtures("nothing_is_young")
def test_files_that_a_deletion_still_has_to_remove_are_no_strays(shop: Collection, media: Path) -> None:
    ready(shop, RED)
    DoomedFiles.objects.create(image_id=(gone := uuid7()), format="PNG")
    save_original(gone), save_rendition(gone)
    assert asked(strays.CHECKS, fix=True, deletes_strays=True) == []
    assert len(files_in(media)) == 5


@pytest.mark.usefixtures("nothing_is_young")
@pytest.mark.django_db(transaction=True)
def test_an_upload_under_way_loses_nothing(shop: Collection, media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file is there and its row is not: the doctor looks in this very moment, again and again."""
    ready(shop, RED)
    save = storage.save_original
    saved: list[str] = []
    looked: list[bool] = []

    def save_and_wait(key: str, file: Any) -> None:
        save(key, file)
        saved.append(key)
        wait_for("the doctor", lambda: bool(looked))

    monkeypatch.setattr(storage, "save_original", save_and_wait)
    upload = InThread(lambda: put(shop, BLUE))
    wait_for("the upload", lambda: bool(saved))
    try:
        for _ in range(3):
            assert asked(CHECKS, fix=True, deletes_strays=True) == []
    finally:
        looked.append(True)
    line = upload.outcome()
    assert line.verdict == "stored"
    assert storage.originals().exists(saved[0])
    process_all()
    assert asked(CHECKS, deep=True) == []


# --- What cannot be looked at -----------------------------------------------------------------------------------------


def unseen(deep: bool = False) -> list[Unseen]:
    return [each for each in examine(CHECKS, Looking(deep=deep), fix=True) if isinstance(each, Unseen)]


def test_originals_that_are_gone_altogether_are_not_called_missing_one_by_one(shop: Collection, media: Path) -> None:
    """As where a disk is not mounted."""
    ready(shop, RED)
    (media / "originals").rename(media / "elsewhere")
    outcomes = list(examine(CHECKS, Looking(), fix=True))
    assert {type(each) for each in outcomes} == {Unseen}
    assert all("mount or restore" in each.why for each in outcomes if isinstance(each, Unseen))
    (media / "elsewhere").rename(media / "originals")
    assert asked(CHECKS) == []


def test_a_storage_that_raises_is_said_and_the_other_checks_go_on(
    shop: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready(shop, RED)

    class Away(Exception):
        """As an object storage has them: no OSError."""

    def away(*_: object) -> None:
        raise Away("no answer")

    monkeypatch.setattr(type(storage.originals()), "listdir", away)
    said = unseen()
    assert [each.about for each in said] == ["originals and renditions of images", "files without an image"]
    assert all("Away: no answer" in each.why for each in said)


def test_a_folder_that_cannot_be_read_makes_no_file_a_missing_one(shop: Collection, media: Path) -> None:
    """Its storage says of every file in it that it does not exist."""
    image = ready(shop, RED)
    folder = media / "originals" / key_of(image)[:2]
    folder.rename(media / "elsewhere")
    folder.write_bytes(b"")  # what not even root can look into
    outcomes = list(examine(CHECKS, Looking(), fix=True))
    assert [each.about for each in outcomes if isinstance(each, Unseen)] == ["originals and renditions of images"]
    assert codes([each for each in outcomes if isinstance(each, Outcome)]) == ["file-foreign"]
