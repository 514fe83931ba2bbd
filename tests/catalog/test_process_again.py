"""A failed image is not the end: its file sent again, or a command, has it processed once more."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import CommandError, call_command

from catalog import tasks
from catalog.models import Collection, Image, IntakeLine
from catalog.uploads import process_again
from tests.library import process_all, put, ready, squares

pytestmark = pytest.mark.django_db
RED, BLUE = squares((20, 30, 40, "red")), squares((20, 30, 40, "blue"))


@pytest.fixture
def failed(shop: Collection) -> Image:
    image = ready(shop, RED)
    Image.objects.filter(pk=image.pk).update(status="failed", reason="a bad day")
    return image


def test_sending_a_failed_image_again_processes_it_again(shop: Collection, failed: Image) -> None:
    line = put(shop, RED)
    assert (line.verdict, line.image) == (IntakeLine.Verdict.DUPLICATE, failed)
    assert "processed again" in line.reason
    process_all()
    failed.refresh_from_db()
    assert (failed.status, failed.reason) == ("ready", "")


def test_sending_an_image_that_is_ready_again_changes_nothing(shop: Collection) -> None:
    image = ready(shop, RED)
    assert "processed again" not in put(shop, RED).reason
    assert Image.objects.get().status == image.status


@pytest.mark.parametrize(
    ("options", "queued"), [({}, {"red"}), ({"all": True}, {"red", "blue"})], ids=["failed", "all"]
)
def test_the_command_queues_them(
    shop: Collection, failed: Image, options: dict[str, bool], queued: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    blue = ready(shop, BLUE)
    call_command("process_again", collection="shop", **options)
    names = {failed.pk: "red", blue.pk: "blue"}
    assert {names[image.pk] for image in Image.objects.filter(status="queued")} == queued
    assert f"{len(queued)} images are queued" in capsys.readouterr().out


def test_the_command_names_a_collection_that_is_not_there(db: None) -> None:
    with pytest.raises(CommandError, match="no collection 'shoes'"):
        call_command("process_again", collection="shoes")


def test_the_workers_are_told_once_of_many_images(
    shop: Collection, failed: Image, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    keys = [failed.pk, ready(shop, BLUE).pk]
    told: list[str] = []
    monkeypatch.setattr(tasks.process_images, "delay", told.append)
    with django_capture_on_commit_callbacks(execute=True):
        assert process_again(keys) == 2
    assert len(told) == 1
    with django_capture_on_commit_callbacks(execute=True):
        assert process_again(keys) == 0
    assert len(told) == 1
