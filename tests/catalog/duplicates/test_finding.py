"""Which images are found as near duplicates, and that the index misses none that comparing with all would find."""

from __future__ import annotations

import random

import pytest
from django.core.checks import run_checks
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from catalog.duplicates.finding import BITS, band_radii, near_duplicates
from catalog.models import Collection, Image
from tests.catalog.duplicates.hashes import flipped, hashed_image, signed, some_hash

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop(db: None) -> Collection:
    return Collection.objects.create(name="shop")


def others(image: Image, at_most: int = 9) -> list[tuple[Image, int, bool]]:
    found = near_duplicates(image.collection_id, [image], at_most).get(image.pk, [])
    rows = Image.objects.in_bulk([each.other for each in found])
    return [(rows[each.other], each.distance, each.is_mirrored) for each in found]


def test_the_nearest_come_first_and_what_is_beyond_the_distance_does_not(shop: Collection) -> None:
    phash = some_hash(1)
    ten = hashed_image(shop, flipped(phash, *range(0, 60, 6)))
    same = hashed_image(shop, phash)
    three = hashed_image(shop, flipped(phash, 0, 17, 63))
    hashed_image(shop, flipped(phash, *range(0, 55, 5)))
    hashed_image(shop, some_hash(2))
    image = hashed_image(shop, phash)
    assert others(image) == [(same, 0, False), (three, 3, False), (ten, 10, False)]
    assert others(image, at_most=2) == [(same, 0, False), (three, 3, False)]


def test_a_mirrored_image_is_found_and_said_to_be_mirrored(shop: Collection) -> None:
    phash, mirrored = some_hash(1), some_hash(2)
    there = hashed_image(shop, phash, mirrored)
    assert others(hashed_image(shop, flipped(mirrored, 5), flipped(phash, 9))) == [(there, 1, True)]


def test_what_is_its_own_mirror_image_is_not_called_mirrored(shop: Collection) -> None:
    phash = some_hash(1)
    there = hashed_image(shop, phash, phash)
    assert others(hashed_image(shop, phash, phash)) == [(there, 0, False)]


def test_other_collections_and_images_without_a_hash_are_left_out(shop: Collection) -> None:
    phash = some_hash(1)
    hashed_image(Collection.objects.create(name="other"), phash)
    hashed_image(shop, None)
    assert others(hashed_image(shop, phash)) == []
    assert others(hashed_image(shop, None)) == []


@pytest.mark.parametrize("distance", [0, 1, 3, 6, 10, 13, 15])
def test_nothing_is_missed_that_comparing_with_all_would_find(
    shop: Collection, settings: Settings, distance: int
) -> None:
    """Hashes of every distance around the limit, whose bits differ in one band, in two, or anywhere."""
    settings.VISEARCH_NEAR_DISTANCE = distance
    draw = random.Random(distance)
    phash = some_hash(1)
    for number in range(160):
        count = min(BITS, max(0, distance + number % 4 - 2))
        width = (16, 32, 64)[number % 3]
        first = draw.randrange(0, BITS - width + 1, 16)
        bits = draw.sample(range(first, first + width), min(count, width))
        hashed_image(shop, flipped(phash, *bits))
    image = hashed_image(shop, phash)
    rows = Image.objects.exclude(pk=image.pk).values_list("pk", "phash")
    all_bits = (1 << BITS) - 1
    expected = {pk for pk, other in rows if ((phash ^ (other or 0)) & all_bits).bit_count() <= distance}
    found = near_duplicates(shop.pk, [image], 1000)[image.pk]
    assert len(expected) > 40
    assert {each.other for each in found} == expected


@pytest.mark.parametrize("distance", range(16))
def test_every_way_to_spread_the_bits_over_the_bands_is_looked_up(distance: int) -> None:
    radii = band_radii(distance)
    spreads = [
        (a, b, c, distance - a - b - c)
        for a in range(distance + 1)
        for b in range(distance + 1 - a)
        for c in range(distance + 1 - a - b)
    ]
    assert all(any(spread[band] <= radius for band, radius in radii.items()) for spread in spreads)


def test_a_batch_costs_one_query_and_each_gets_its_own(shop: Collection) -> None:
    hashes = [some_hash(seed) for seed in range(16)]
    there = [hashed_image(shop, phash) for phash in hashes]
    images = [hashed_image(shop, flipped(phash, number)) for number, phash in enumerate(hashes)]
    with CaptureQueriesContext(connection) as captured:
        found = near_duplicates(shop.pk, images, 5)
    assert sum("phash" in query["sql"] for query in captured) == 1
    assert [[each.other for each in found[image.pk]] for image in images] == [[image.pk] for image in there]


@pytest.mark.parametrize("bits", [(), (63,), range(8), range(54), range(64)])
def test_images_of_one_tone_and_plain_stripes_are_like_nothing(shop: Collection, bits: range) -> None:
    plain = signed(sum(1 << bit for bit in bits))
    hashed_image(shop, plain, plain)
    assert others(hashed_image(shop, plain, plain)) == []


def test_a_drawing_that_is_near_to_plain_does_not_find_what_is_plain(shop: Collection) -> None:
    plain = signed(sum(1 << bit for bit in range(9)))
    hashed_image(shop, plain, plain)
    telling = signed(sum(1 << bit for bit in range(14)))
    there = hashed_image(shop, telling, telling)
    assert others(hashed_image(shop, telling, telling)) == [(there, 0, False)]


@pytest.mark.parametrize(("distance", "errors"), [(0, 0), (15, 0), (-1, 1), (16, 1)])
def test_a_distance_that_cannot_be_looked_up_is_told_at_the_start(
    settings: Settings, distance: int, errors: int
) -> None:
    settings.VISEARCH_NEAR_DISTANCE = distance
    assert [each.id for each in run_checks() if each.id == "catalog.E004"] == ["catalog.E004"] * errors
