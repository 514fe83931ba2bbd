"""A worker process that works on several batches at once."""

from __future__ import annotations

from threading import Barrier, current_thread
from typing import Any

import pytest
from django.db import connection
from PIL.Image import Image as PILImage
from pytest_django import Settings

from catalog.lanes import drain
from catalog.models import Collection, Image
from tests.drawn import photo
from tests.fakes import MeanColour
from tests.library import put_image
from tests.stack import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def two_lanes(settings: Settings) -> None:
    settings.VISEARCH_LANES = 2
    settings.VISEARCH_BATCH = 2


def connections_open() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


@pytest.fixture
def images(shop: Collection) -> list[Image]:
    return [put_image(shop, photo(seed, (30, 20))) for seed in range(9)]


@pytest.mark.usefixtures("two_lanes", "images")
def test_two_batches_are_worked_on_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every later batch waits for one of the other lane: with a single lane this would break the barrier."""
    embed, together, seen = MeanColour.embed, Barrier(2), set[str]()

    def embed_together(self: MeanColour, crops: list[PILImage]) -> Any:
        name = current_thread().name
        if name.startswith("lane") and name not in seen:
            seen.add(name)
            together.wait(30)
        return embed(self, crops)

    monkeypatch.setattr(MeanColour, "embed", embed_together)
    before = connections_open()
    assert drain(None, 60) is False
    assert len(seen) == 2
    assert {(image.status, image.attempts) for image in Image.objects.all()} == {("ready", 0)}
    wait_for("the lanes' connections to be closed", lambda: connections_open() <= before)


@pytest.mark.usefixtures("two_lanes")
def test_time_that_is_over_leaves_the_rest_for_the_next_task(images: list[Image]) -> None:
    assert drain(images[-1].pk, 0) is True
    images[-1].refresh_from_db()
    assert images[-1].status == "ready"  # what the nudge was for comes first
    assert Image.objects.filter(status="queued").count() == 9 - 3 * 2  # one batch, then one in each lane
    assert Image.objects.filter(status="processing").count() == 0


@pytest.mark.usefixtures("two_lanes", "images")
def test_what_breaks_in_a_lane_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    from catalog import claims

    claim = claims.claim

    def claim_nothing_in_lanes(*arguments: Any) -> Any:
        if current_thread().name.startswith("lane"):
            raise LookupError("broken")
        return claim(*arguments)

    monkeypatch.setattr(claims, "claim", claim_nothing_in_lanes)
    with pytest.raises(LookupError, match="broken"):
        drain(None, 60)
    assert Image.objects.filter(status="ready").count() == 2
