"""Images that are here already, whatever became of them: brought again they are processed, or the line says why not."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction

from catalog import checking
from catalog.intake import jobs, url_lists
from catalog.intake.errors import JobError
from catalog.intake.jobs import PlannedLine
from catalog.models import Collection, Image, IntakeJob, IntakeLine
from catalog.uploads import Arrival, receive_many
from tests.cast import make_image
from tests.catalog.intake.planned import plan, state, stored
from tests.drawn import image_file
from tests.library import InThread, files_in, put, put_image

pytestmark = pytest.mark.django_db
URL = "http://a.test/1"


def list_again(shop: Collection) -> IntakeLine:
    return url_lists.start(shop, url_lists.read(f"{URL}\n")).lines.get()


def brought(shop: Collection, data: bytes) -> tuple[IntakeJob, Image]:
    """A job whose one address has brought this file, and its image."""
    job = plan(shop, [URL])
    [line] = receive_many(job, [Arrival(io.BytesIO(data), "a.jpg", line=job.lines.get())])
    assert line.image is not None
    return job, line.image


# --- Held -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_address", [True, False], ids=["address", "file"])
def test_what_a_cancelled_job_has_left_is_processed_when_it_is_brought_again(
    shop: Collection, by_address: bool
) -> None:
    job, image = brought(shop, image_file())
    jobs.cancel(job)
    assert state(image) == ("held", "cancel")
    line = list_again(shop) if by_address else put(shop, image_file())
    assert (line.verdict, line.image) == ("duplicate", image)
    assert "its job was cancelled; it is processed now" in line.reason
    assert state(image) == ("queued", "")


@pytest.mark.parametrize("by_address", [True, False], ids=["address", "file"])
@pytest.mark.parametrize("why", ["pause", "near-duplicate"])
def test_what_is_held_for_something_else_stays_held_and_the_line_says_so(
    shop: Collection, by_address: bool, why: str
) -> None:
    _, image = brought(shop, image_file())
    Image.objects.update(status="held", held_for=why, reason="It waits for somebody.")
    IntakeLine.objects.update(verdict="stored")
    line = list_again(shop) if by_address else put(shop, image_file())
    assert (line.verdict, line.image) == ("duplicate", image)
    assert "That image is held. It waits for somebody." in line.reason
    assert state(image) == ("held", why)


def test_a_job_that_is_cancelled_itself_lets_nothing_go(shop: Collection) -> None:
    job, image = brought(shop, image_file())
    jobs.cancel(job)
    [line] = receive_many(job, [Arrival(io.BytesIO(image_file()), "again.jpg")])
    assert "Its job was cancelled. Retry the job" in line.reason
    assert state(image) == ("held", "cancel")


# --- Deleted while their duplicate is on its way ----------------------------------------------------------------------


def while_inspecting(monkeypatch: pytest.MonkeyPatch, happens: Any) -> None:
    """Let something happen each time a file is inspected, until that says that it is over."""
    inspect = checking.helper.inspect

    def inspect_then(*args: Any) -> Any:
        seen = inspect(*args)
        InThread(happens).outcome()
        return seen

    monkeypatch.setattr(checking.helper, "inspect", inspect_then)


@pytest.mark.django_db(transaction=True)
def test_a_file_whose_twin_is_deleted_meanwhile_is_stored(
    shop: Collection, media: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = put_image(shop, image_file())
    job = IntakeJob.objects.create(collection=shop, source="api")
    while_inspecting(monkeypatch, Image.objects.filter(pk=twin.pk).delete)
    arrivals = [Arrival(io.BytesIO(data), "a.jpg") for data in (image_file(), image_file((1, 2, 3)))]
    lines = receive_many(job, arrivals)
    assert [(line.verdict, line.reason) for line in lines] == [("stored", ""), ("stored", "")]
    kept = {line.pk: (line.verdict, line.image_id) for line in job.lines.all()}
    assert kept == {line.pk: ("stored", line.image_id) for line in lines}
    assert len(files_in(media)) == Image.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_whoever_deletes_a_twin_waits_until_its_duplicate_is_written(
    shop: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that no line is committed as the duplicate of nothing."""
    twin = put_image(shop, image_file())
    job = IntakeJob.objects.create(collection=shop, source="api")
    deletions: list[InThread] = []
    create = IntakeLine.objects.bulk_create

    def create_late(lines: Any) -> Any:
        deletions.append(InThread(Image.objects.filter(pk=twin.pk).delete))
        deletions[0].join(0.3)
        return create(lines)

    monkeypatch.setattr(type(IntakeLine.objects), "bulk_create", lambda _, lines: create_late(lines))
    [line] = receive_many(job, [Arrival(io.BytesIO(image_file()), "a.jpg")])
    assert (line.verdict, line.image_id) == ("duplicate", twin.pk)
    deletions[0].outcome()
    assert not Image.objects.exists()
    assert job.lines.get().image is None


@pytest.mark.django_db(transaction=True)
def test_a_list_says_so_where_an_image_that_it_found_is_deleted_while_it_is_planned(shop: Collection) -> None:
    image = stored(plan(shop, []), status="ready")

    def planned() -> Iterator[PlannedLine]:
        InThread(Image.objects.filter(pk=image.pk).delete).outcome()
        yield PlannedLine("a", 1, url="http://a.test/a", image_id=image.pk, reason="It is here.")

    before = IntakeJob.objects.count()
    with pytest.raises(JobError, match="an image that the list found"):
        jobs.begin_or_go_on(shop, IntakeJob.Source.URLS, planned, digest="d" * 64)
    with pytest.raises(JobError), transaction.atomic():
        gone = make_image(shop)
        key = gone.pk
        gone.delete()
        jobs.create(shop, IntakeJob.Source.URLS, [PlannedLine("a", url=URL, image_id=key, reason="It is here.")])
    assert IntakeJob.objects.count() == before
