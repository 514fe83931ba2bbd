"""What beat does every minute: it waits behind nothing, and no part of it keeps the others from their turn."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from django.utils import timezone
from django_redis import get_redis_connection  # type: ignore[import-untyped]
from pytest_django import Settings
from uuid_utils.compat import uuid7

from catalog import deletion, locks, queues, storage
from catalog.intake import holding
from catalog.models import Collection, DoomedFiles, IntakeJob, IntakeLine
from catalog.tasks import MAX_NUDGES, process_images, sweep
from tests.cast import make_image
from visearch_site import celery

pytestmark = pytest.mark.django_db


def messages(settings: Settings, queue: str) -> list[Any]:
    return [json.loads(raw)["headers"] for raw in get_redis_connection("default").lrange(queue, 0, -1)]


@pytest.fixture
def nudged(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    told: list[None] = []
    monkeypatch.setattr(process_images, "delay", lambda: told.append(None))
    return told


@pytest.fixture
def doomed(shop: Collection) -> None:
    make_image(shop)
    storage.originals().save("aa/of-another.jpg", storage.ContentFile(b"there"))
    DoomedFiles.objects.bulk_create(DoomedFiles(image_id=uuid7(), format="JPEG") for _ in range(50))


# --- Its way to a worker ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["vision", "index", "intake"])
def test_a_worker_of_any_queue_takes_sweeps_too(asked: str) -> None:
    app = Celery("another", set_as_current=False)
    app.config_from_object("django.conf:settings", namespace="CELERY")
    app.amqp.queues.select([asked])
    celery.take_sweeps(instance=SimpleNamespace(app=app))
    assert set(app.amqp.queues.consume_from) == {asked, queues.SWEEP}
    route = app.amqp.router.route({}, sweep.name)
    assert route["queue"] == app.amqp.queues.consume_from[queues.SWEEP]


def test_a_nudge_expires_by_the_time_of_the_next_sweep(settings: Settings) -> None:
    get_redis_connection("default").delete("vision")
    process_images.delay()
    process_images.delay("019391c8-0000-7000-8000-000000000000")
    assert [bool(header["expires"]) for header in messages(settings, "vision")] == [True, True]


# --- Its steps --------------------------------------------------------------------------------------------------------


def test_a_backlog_is_nudged_for_and_no_more_often_for_being_longer(
    shop: Collection, settings: Settings, nudged: list[None]
) -> None:
    settings.VISEARCH_BATCH = 1
    for _ in range(MAX_NUDGES + 2):
        make_image(shop, status="queued")
    sweep()
    assert len(nudged) == MAX_NUDGES + 1  # the last one for what this sweep itself has let go


@pytest.mark.django_db(transaction=True)
def test_a_step_that_fails_keeps_no_other_from_its_turn(
    nudged: list[None], doomed: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(holding, "settle", fails)
    with caplog.at_level(logging.CRITICAL), pytest.raises(ZeroDivisionError):
        sweep()
    assert nudged
    assert not DoomedFiles.objects.exists()


def test_a_sweep_that_takes_long_is_joined_by_no_other_and_nudges_go_on(nudged: list[None], doomed: None) -> None:
    with locks.held("visearch sweep files") as is_ours:
        assert is_ours
        sweep()
        assert nudged
        assert DoomedFiles.objects.count() == 50
    sweep()
    assert not DoomedFiles.objects.exists()


# --- Files of what was deleted ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("doomed")
def test_removing_files_ends_with_its_time_and_goes_on_with_the_next_sweep() -> None:
    assert deletion.remove_doomed_files(0) == 1
    assert deletion.remove_doomed_files() == 49


@pytest.mark.usefixtures("doomed")
def test_a_storage_that_removes_nothing_is_left_alone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def refuse(key: str) -> None:
        asked.append(key)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(storage, "delete_original", refuse)
    assert deletion.remove_doomed_files() == 0
    assert len(asked) == deletion.IN_VAIN < 50
    assert DoomedFiles.objects.count() == 50


def test_while_originals_are_not_mounted_nothing_counts_as_removed(shop: Collection, settings: Settings) -> None:
    settings.VISEARCH_LEASE_SECONDS = -1
    kept, gone = make_image(shop), uuid7()
    key = storage.original_key(uuid7(), "JPEG")
    job = IntakeJob.objects.create(collection=shop, source="api")
    line = IntakeLine.objects.create(job=job, source="a.jpg", reserved_key=key, received_at=timezone.now())
    DoomedFiles.objects.create(image_id=gone, format="JPEG")
    sweep()
    assert DoomedFiles.objects.exists()
    line.refresh_from_db()
    assert line.verdict == "receiving"

    for name in (storage.original_key(kept.pk, "JPEG"), storage.original_key(gone, "JPEG"), key):  # mounted again
        storage.originals().save(name, storage.ContentFile(b"there"))
    sweep()
    assert not DoomedFiles.objects.exists()
    line.refresh_from_db()
    assert line.verdict == "failed"
    assert [storage.has_original(name) for name in (storage.original_key(gone, "JPEG"), key)] == [False, False]
    assert storage.has_original(storage.original_key(kept.pk, "JPEG"))
