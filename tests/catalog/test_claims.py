"""Whose turn it is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings
from uuid_utils.compat import uuid7

from catalog import claims
from catalog.database import locked_against_deletion
from catalog.models import Collection, Image, IntakeJob, IntakeLine
from tests.cast import make_image
from tests.library import InThread, wait_until_somebody_waits_for_a_lock

pytestmark = pytest.mark.django_db


def queue(shop: Collection, count: int) -> list[Image]:
    return [make_image(shop, status="queued") for _ in range(count)]


def let_the_lease_run_out(*images: Image) -> None:
    past = timezone.now() - timedelta(seconds=1)
    Image.objects.filter(pk__in=[image.pk for image in images]).update(lease_until=past)


def claim(size: int = 8, first: Image | None = None) -> tuple[str, list[Image]]:
    return claims.claim(first.pk if first else None, size)


def test_a_claim_begins_with_the_image_that_was_named(shop: Collection) -> None:
    images = queue(shop, 4)
    token, claimed = claim(2, first=images[3])
    assert claimed == [images[3], images[0]]
    for image in Image.objects.filter(pk__in=[each.pk for each in claimed]):
        assert (image.status, image.claimed_by, image.attempts) == ("processing", token, 1)
        assert image.lease_until is not None
        assert image.lease_until > timezone.now()
    assert claim()[1] == [images[1], images[2]]
    assert claim()[1] == []


@pytest.mark.parametrize("status", ["held", "ready", "failed", "processing"])
def test_only_what_waits_is_claimed(shop: Collection, status: str) -> None:
    later = timezone.now() + timedelta(minutes=1)
    image = make_image(shop, status=status, reason="Cut off.", lease_until=later)
    assert claim(first=image)[1] == []


@pytest.mark.django_db(transaction=True)
def test_what_one_is_claiming_another_passes_over_without_waiting(shop: Collection) -> None:
    images = queue(shop, 5)
    with transaction.atomic():
        _, mine = claim(2)
        theirs = InThread(lambda: claim(2)).outcome()[1]
    assert (mine, theirs) == (images[:2], images[2:4])


@pytest.mark.django_db(transaction=True)
def test_many_claimers_share_no_image(shop: Collection) -> None:
    images = queue(shop, 60)

    def drain() -> list[Image]:
        taken: list[Image] = []
        while batch := claim(3)[1]:
            taken += batch
        return taken

    threads = [InThread(drain) for _ in range(4)]
    taken = [image.pk for thread in threads for image in thread.outcome()]
    assert sorted(taken) == sorted(image.pk for image in images)


def test_a_lease_that_ran_out_is_taken_again_and_the_old_token_changes_nothing(shop: Collection) -> None:
    (image,) = queue(shop, 1)
    old, _ = claim()
    assert claim()[1] == []
    let_the_lease_run_out(image)
    new, claimed = claim()
    assert claimed == [image]
    claims.finish(old, [image.pk])
    claims.fail(old, image.pk, "Cut off.")
    claims.release(old, [image.pk], "Waiting.")
    image.refresh_from_db()
    assert (image.status, image.claimed_by, image.reason, image.attempts) == ("processing", new, "", 2)
    claims.finish(new, [image.pk])
    image.refresh_from_db()
    assert (image.status, image.claimed_by, image.lease_until, image.attempts) == ("ready", "", None, 0)
    assert image.processed_at is not None


def test_an_image_that_killed_three_workers_fails_with_the_reason(shop: Collection) -> None:
    (image,) = queue(shop, 1)
    job = IntakeJob.objects.create(collection=shop, source="api")
    IntakeLine.objects.create(job=job, source="a.jpg", verdict="stored", image=image)
    for _ in range(3):
        assert claim()[1] == [image]
        let_the_lease_run_out(image)
    assert claim()[1] == []
    image.refresh_from_db()
    line = IntakeLine.objects.get()
    assert image.status == line.verdict == "failed"
    assert image.reason == line.reason
    assert "died on this image 3 times" in image.reason
    assert "process again" in image.reason


def test_what_is_given_up_does_not_hide_what_waits(shop: Collection) -> None:
    worn, waiting = queue(shop, 2)
    let_the_lease_run_out(worn)
    Image.objects.filter(pk=worn.pk).update(status="processing", attempts=3)
    assert claim(1)[1] == [waiting]


def test_an_image_that_was_tried_before_is_claimed_alone(shop: Collection) -> None:
    images = queue(shop, 3)
    claim()
    let_the_lease_run_out(*images)
    fresh = queue(shop, 2)
    assert [claim()[1] for _ in range(4)] == [[images[0]], [images[1]], [images[2]], fresh]


def test_an_image_that_was_tried_before_waits_for_a_claim_of_its_own(shop: Collection) -> None:
    (tried,) = queue(shop, 1)
    claim()
    let_the_lease_run_out(tried)
    fresh = queue(shop, 2)
    assert claim(first=fresh[0])[1] == fresh
    assert claim()[1] == [tried]


def test_what_is_given_back_rests_and_was_not_tried(shop: Collection, settings: Settings) -> None:
    image, other = queue(shop, 2)
    token, _ = claim()
    claims.release(token, [image.pk], "Waiting: no model.")
    image.refresh_from_db()
    assert (image.status, image.attempts, image.claimed_by, image.reason) == ("queued", 0, "", "Waiting: no model.")
    assert claim()[1] == []
    let_the_lease_run_out(image)
    assert claim()[1] == [image]
    other.refresh_from_db()
    assert (other.status, other.claimed_by) == ("processing", token)


def test_a_failure_is_told_in_the_line_that_put_the_image_in(shop: Collection) -> None:
    (image,) = queue(shop, 1)
    job = IntakeJob.objects.create(collection=shop, source="api")
    for verdict in ("stored", "duplicate"):
        IntakeLine.objects.create(job=job, source="a.jpg", verdict=verdict, image=image)
    token, _ = claim()
    claims.fail(token, image.pk, "Cut off.")
    stored, duplicate = IntakeLine.objects.order_by("id")
    assert (stored.verdict, stored.code, stored.reason) == ("failed", "processing-failed", "Cut off.")
    assert duplicate.verdict == "duplicate"


def test_how_many_wait(shop: Collection) -> None:
    images = queue(shop, 3)
    make_image(shop)
    assert claims.waiting_count() == 3
    claim(2)
    assert claims.waiting_count() == 1
    let_the_lease_run_out(images[0])
    assert claims.waiting_count() == 2


def test_a_claim_walks_an_index_however_many_wait(shop: Collection) -> None:
    # Those that are ready come first: only the index of those that wait leads past them.
    rows: list[dict[str, Any]] = [{"status": "ready"}] * 2000 + [{"status": "queued"}] * 2000
    rows += [{"status": "queued", "lease_until": timezone.now()}] * 200
    facts = {"collection": shop, "format": "JPEG", "width": 9, "height": 9, "byte_size": 9}
    images = Image.objects.bulk_create(Image(**facts, **row, sha256=f"{n:064x}") for n, row in enumerate(rows))
    job = IntakeJob.objects.create(collection=shop, source="api", state="paused")
    IntakeLine.objects.bulk_create(IntakeLine(job=job, source="a", verdict="stored", image=image) for image in images)
    with connection.cursor() as cursor, CaptureQueriesContext(connection) as asked:
        cursor.execute("ANALYZE")
        claims.claim(images[-300].pk, 16)
        claims.waiting_count(1)
        waiting = [each["sql"] for each in asked if "lease_until" in each["sql"] and each["sql"].startswith("SELECT")]
        plans = []
        for sql in waiting:
            cursor.execute(f"EXPLAIN {sql}")
            plans.append("\n".join(line for (line,) in cursor.fetchall()))
    assert len(plans) == 3  # the one that is named, those in their order, and whether more wait
    assert "image_waiting" in plans[1]
    for plan in plans:
        assert "Sort" not in plan, plan
        assert "hashed" not in plan, plan
        assert "Hash" not in plan, plan


@pytest.mark.django_db(transaction=True)
def test_who_refers_to_a_claimed_image_need_not_wait_and_who_deletes_it_does(shop: Collection) -> None:
    image, *_ = queue(shop, 1)

    def refer() -> bool:
        with transaction.atomic():
            return bool(locked_against_deletion(Image, [image.pk]))

    with transaction.atomic():
        token, _ = claim()
        claims.renew(token)
        list(claims.held_by(token).select_for_update(no_key=True))
        assert InThread(refer).outcome()
        deletes = InThread(image.delete)
        wait_until_somebody_waits_for_a_lock()
        claims.finish(token, [image.pk])
    deletes.outcome()
    assert not Image.objects.exists()


def test_a_slow_worker_keeps_its_images_by_renewing_its_lease(shop: Collection) -> None:
    [image] = queue(shop, 1)
    token, _ = claim()
    let_the_lease_run_out(image)
    claims.renew(token)
    assert claim()[1] == []
    claims.finish(token, [image.pk])
    assert Image.objects.get().status == "ready"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("act", [claims.renew, lambda token: claims.release(token, Image.objects.all(), "Waiting.")])
def test_whoever_locks_images_in_their_order_does_not_block_a_claim(
    shop: Collection, act: Callable[[str], None]
) -> None:
    keys = sorted((uuid7() for _ in range(2)), reverse=True)  # as they lie in the table
    for key in keys:
        make_image(shop, id=key, status="processing", claimed_by="me", lease_until=timezone.now(), attempts=1)
    with transaction.atomic():
        Image.objects.select_for_update().get(pk=keys[1])
        worker = InThread(lambda: act("me"))
        wait_until_somebody_waits_for_a_lock()
        Image.objects.select_for_update().get(pk=keys[0])
    worker.outcome()
    assert not Image.objects.filter(lease_until__lt=timezone.now()).exists()
