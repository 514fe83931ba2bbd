"""What is noted and held in the transaction that stores images; also by two at the same moment."""

from __future__ import annotations

import threading

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from uuid_utils.compat import uuid7

from catalog import claims
from catalog.duplicates.holding import release_settled
from catalog.duplicates.noting import AT_MOST, note_near_duplicates
from catalog.models import Collection, Image, NearDuplicate
from catalog.tasks import sweep
from tests.cast import make_image
from tests.catalog.duplicates.hashes import flipped, hashed_image, some_hash
from tests.library import InThread, wait_until_somebody_waits_for_a_lock

pytestmark = pytest.mark.django_db
WARN, HOLD, OFF = Collection.NearDuplicates.WARN, Collection.NearDuplicates.HOLD, Collection.NearDuplicates.OFF


def collection(what: Collection.NearDuplicates, name: str = "shop") -> Collection:
    return Collection.objects.create(name=name, near_duplicates=what)


def store(shop: Collection, *hashes: int, title: str = "") -> list[Image]:
    """As an upload does: the rows, and what they look like, in one transaction."""
    with transaction.atomic():
        images = [hashed_image(shop, phash, status="queued", title=title) for phash in hashes]
        note_near_duplicates(shop, images)
    return images


def noted(shop: Collection) -> list[tuple[Image, Image, int]]:
    rows = NearDuplicate.objects.filter(image__collection=shop).select_related("image", "other")
    return [(row.image, row.other, row.distance) for row in rows]


def test_what_looks_alike_is_noted_and_processed(db: None) -> None:
    shop = collection(WARN)
    [first] = store(shop, some_hash(1))
    [second] = store(shop, flipped(some_hash(1), 3))
    [_other] = store(shop, some_hash(2))
    assert noted(shop) == [(second, first, 1)]
    assert {image.status for image in Image.objects.all()} == {"queued"}


def test_two_of_one_batch_are_noted_once_and_the_later_one_is_asked_about(db: None) -> None:
    shop = collection(WARN)
    first, _, last = store(shop, some_hash(1), some_hash(2), flipped(some_hash(1), 3, 4))
    assert noted(shop) == [(last, first, 2)]


def test_of_a_series_the_nearest_few_are_noted(db: None) -> None:
    shop = collection(WARN)
    store(shop, *[flipped(some_hash(1), *range(count)) for count in range(9)])
    [last] = store(shop, some_hash(1))
    distances = [distance for image, _, distance in noted(shop) if image == last]
    assert distances == list(range(AT_MOST))


def test_where_it_is_off_nothing_is_asked(db: None) -> None:
    shop = collection(OFF)
    images = [hashed_image(shop, some_hash(1)) for _ in range(2)]
    with CaptureQueriesContext(connection) as captured:
        assert note_near_duplicates(shop, images) == []
    assert len(captured) == 0


def test_what_is_held_is_claimed_by_nobody_and_says_what_it_looks_like(db: None) -> None:
    shop = collection(HOLD)
    [first] = store(shop, some_hash(1), title="Red shoe")
    [second] = store(shop, flipped(some_hash(1), 3))
    assert (second.status, second.held_for) == ("held", "near-duplicate")
    second.refresh_from_db()
    assert (second.status, second.held_for) == ("held", "near-duplicate")
    assert "Red shoe (nearly the same)" in second.reason
    assert claims.claim(second.pk, 9)[1] == [first]


def test_an_image_is_released_once_what_it_looked_like_is_gone(db: None) -> None:
    shop = collection(HOLD)
    [first] = store(shop, some_hash(1))
    [second] = store(shop, some_hash(1))
    assert release_settled() == 0
    first.delete()
    sweep()
    second.refresh_from_db()
    assert (second.status, second.held_for, second.reason) == ("queued", "", "")


@pytest.mark.django_db(transaction=True)
def test_whoever_locks_images_in_their_order_does_not_block_a_release_of_many() -> None:
    shop = collection(HOLD)
    keys = sorted((uuid7() for _ in range(2)), reverse=True)  # as they lie in the table
    for key in keys:
        make_image(shop, id=key, status="held", held_for="near-duplicate")
    with transaction.atomic():
        for key in sorted(keys):
            Image.objects.select_for_update().get(pk=key)
            if key != keys[0]:
                release = InThread(release_settled)
                wait_until_somebody_waits_for_a_lock()
    assert release.outcome() == 2


@pytest.mark.django_db(transaction=True)
def test_of_two_stored_at_the_same_moment_the_later_one_finds_the_earlier() -> None:
    """The first has noted and not committed yet when the second looks."""
    shop = collection(HOLD)
    go_on = threading.Event()
    has_noted = threading.Event()

    def slowly() -> list[Image]:
        with transaction.atomic():
            images = [hashed_image(shop, some_hash(1), status="queued")]
            assert note_near_duplicates(shop, images) == []
            has_noted.set()
            assert go_on.wait(30)
        return images

    slow = InThread(slowly)
    assert has_noted.wait(30)
    quick = InThread(lambda: store(shop, flipped(some_hash(1), 3)))
    wait_until_somebody_waits_for_a_lock()
    go_on.set()
    [first], [second] = slow.outcome(), quick.outcome()
    assert noted(shop) == [(second, first, 1)]
    assert second.status == "held"


@pytest.mark.django_db(transaction=True)
def test_many_at_once_note_each_pair_once() -> None:
    shop = collection(WARN)
    alike = [flipped(some_hash(1), bit) for bit in range(4)]
    threads = [InThread(lambda phash=phash: [store(shop, phash), store(shop, some_hash(phash))]) for phash in alike]
    for thread in threads:
        thread.outcome()
    pairs = [frozenset((image.pk, other.pk)) for image, other, _ in noted(shop)]
    assert len(pairs) == len(set(pairs)) == 6


@pytest.mark.django_db(transaction=True)
def test_an_image_that_is_deleted_in_this_moment_is_not_noted_and_breaks_nothing() -> None:
    shop = collection(HOLD)
    [first] = store(shop, some_hash(1))
    deleted, go_on = threading.Event(), threading.Event()

    def delete() -> None:
        with transaction.atomic():
            Image.objects.get(pk=first.pk).delete()
            deleted.set()
            assert go_on.wait(30)

    deleting = InThread(delete)
    assert deleted.wait(30)
    storing = InThread(lambda: store(shop, some_hash(1)))
    wait_until_somebody_waits_for_a_lock()
    go_on.set()
    deleting.outcome()
    [second] = storing.outcome()
    assert noted(shop) == []
    assert second.status == "queued"
