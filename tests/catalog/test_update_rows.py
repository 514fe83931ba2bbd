"""Many rows changed by one statement: each gets its own values, and nothing is cut off."""

from __future__ import annotations

import pytest
from django.db import DataError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from catalog.database import update_rows
from catalog.models import Collection, IntakeJob, IntakeLine
from tests.cast import make_image

pytestmark = pytest.mark.django_db
NAMES = ("verdict", "code", "image", "received_at", "attempts")


@pytest.fixture
def lines(shop: Collection) -> list[IntakeLine]:
    job = IntakeJob.objects.create(collection=shop, source=IntakeJob.Source.API)
    return [IntakeLine.objects.create(job=job, source=str(number), verdict="waiting") for number in range(3)]


def test_each_row_gets_its_own(shop: Collection, lines: list[IntakeLine]) -> None:
    first, second, _third = lines
    image, now = make_image(shop), timezone.now()
    first.verdict, first.image, first.received_at = IntakeLine.Verdict.STORED, image, now
    second.verdict, second.code, second.attempts = IntakeLine.Verdict.RECEIVING, 'ä\'\\ "%s"', 2
    first.reason = "not among them"
    with CaptureQueriesContext(connection) as captured:
        update_rows([first, second], NAMES)
    assert len(captured) == 1
    assert list(IntakeLine.objects.order_by("id").values_list(*NAMES, "reason")) == [
        ("stored", "", image.pk, now, 0, ""),
        ("receiving", 'ä\'\\ "%s"', None, None, 2, ""),
        ("waiting", "", None, None, 0, ""),
    ]


def test_what_is_too_long_is_an_error(lines: list[IntakeLine]) -> None:
    lines[0].code = "x" * 51
    with pytest.raises(DataError):
        update_rows(lines[:1], ["code"])


def test_of_nothing_nothing_is_asked() -> None:
    with CaptureQueriesContext(connection) as captured:
        update_rows([], NAMES)
    assert not captured.captured_queries
