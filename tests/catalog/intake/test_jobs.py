"""Jobs: planned whole or not at all; pause, resume, cancel and retry do what they say, also twice and at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.utils import timezone
from pytest_django.fixtures import Settings
from uuid_utils.compat import uuid7

from catalog import claims
from catalog.curation.duplicates import Choice, decide
from catalog.intake import holding, jobs, lines
from catalog.intake.errors import JobError
from catalog.intake.jobs import PlannedLine
from catalog.models import Collection, Image, IntakeJob, IntakeLine, NearDuplicate
from catalog.tasks import sweep
from catalog.uploads import process_again
from tests.cast import make_image
from tests.catalog.intake.planned import addresses, let_all_rest_be_over, plan, state, stored, verdicts
from tests.library import (
    InThread,
    process_all,
    put_image,
    squares,
    wait_until_somebody_waits_for_a_lock,
    waiting_for_a_lock,
)
from tests.stack import wait_for

pytestmark = pytest.mark.django_db
URLS = IntakeJob.Source.URLS


# --- Planned ----------------------------------------------------------------------------------------------------------


def test_a_job_is_planned_line_by_line(shop: Collection, django_user_model: type[User]) -> None:
    user = django_user_model.objects.create_user("ada")
    here = make_image(shop)
    planned = [
        PlannedLine("http://a.test:8000/x.jpg", 3, url="http://a.test:8000/x.jpg", facts={"label": "shoe"}),
        PlannedLine("b.jpg", 4, path="/photos/b.jpg", person_name="Ada"),
        PlannedLine("http://a.test/y", 9, url="http://a.test/y", image_id=here.pk, reason="It is here."),
    ]
    job = jobs.create(shop, URLS, planned, name="shoes.txt", normalise="square:512", user=user)
    assert (job.state, job.name, job.normalise, job.started_by) == ("running", "shoes.txt", "square:512", user)
    fields = ("number", "url", "host", "path", "verdict", "person_name")
    assert list(job.lines.values_list(*fields)) == [
        (3, "http://a.test:8000/x.jpg", "a.test:8000", "", "waiting", ""),
        (4, "", "", "/photos/b.jpg", "waiting", "Ada"),
        (9, "http://a.test/y", "a.test:80", "", "duplicate", ""),
    ]
    assert job.lines.get(number=3).facts == {"label": "shoe"}
    assert job.lines.get(number=9).image == here


def test_more_lines_than_go_into_one_statement(shop: Collection) -> None:
    job = plan(shop, addresses(2 * jobs.PLANNED_AT_ONCE + 1))
    assert job.lines.filter(verdict="waiting").count() == 2 * jobs.PLANNED_AT_ONCE + 1


def test_a_list_that_breaks_off_leaves_nothing(shop: Collection) -> None:
    def breaks() -> Iterator[PlannedLine]:
        yield from (PlannedLine(url, url=url) for url in addresses(jobs.PLANNED_AT_ONCE + 1))
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        jobs.create(shop, URLS, breaks())
    assert not IntakeJob.objects.exists()
    assert not IntakeLine.objects.exists()


def test_a_form_that_is_sent_twice_makes_one_job(shop: Collection) -> None:
    job_id = uuid7()
    first = plan(shop, addresses(2), job_id=job_id)
    again = plan(shop, addresses(2), job_id=job_id)
    assert again == first
    assert IntakeLine.objects.count() == 2
    with pytest.raises(JobError, match="another one"):
        plan(Collection.objects.create(name="another"), addresses(2), job_id=job_id)


@pytest.mark.django_db(transaction=True)
def test_two_who_begin_the_same_list_at_once_get_one_job(shop: Collection) -> None:
    def begin() -> tuple[IntakeJob, bool]:
        planned = [PlannedLine(url, url=url) for url in addresses(3)]
        return jobs.begin_or_go_on(shop, URLS, lambda: planned, digest="d" * 64)

    with transaction.atomic():
        mine, is_new = begin()
        other = InThread(begin)
        wait_until_somebody_waits_for_a_lock()
    theirs, theirs_is_new = other.outcome()
    assert (mine, is_new, theirs_is_new) == (theirs, True, False)
    assert IntakeLine.objects.count() == 3


def test_the_same_list_goes_on_while_it_is_unfinished(shop: Collection) -> None:
    def begin(collection: Collection, normalise: str = "", digest: str = "d") -> IntakeJob:
        planned = [PlannedLine(url, url=url) for url in addresses(1)]
        return jobs.begin_or_go_on(collection, URLS, lambda: planned, digest=digest, normalise=normalise)[0]

    first = begin(shop)
    assert begin(shop) == first
    others = [begin(shop, "square:512"), begin(shop, digest="e"), begin(Collection.objects.create(name="other"))]
    assert len({first, *others}) == 4
    jobs.cancel(first)
    second = begin(shop)
    assert second != first
    second.lines.update(verdict="failed", reason="It is gone.")
    assert begin(shop) != second


def test_a_line_has_its_number_alone(shop: Collection) -> None:
    job = plan(shop, addresses(2))
    for _ in range(2):
        IntakeLine.objects.create(job=job, source="one without a number")
    with pytest.raises(IntegrityError, match="a_line_has_its_number_alone"):
        IntakeLine.objects.create(job=job, source="another", number=2)


@pytest.mark.django_db(transaction=True)
def test_a_collection_is_deleted_while_a_list_is_begun(shop: Collection) -> None:
    """It waits for the list, whatever that does with images on its way, and takes its job along."""
    failed = make_image(shop, status="failed", reason="It is broken.")
    deletions: list[InThread] = []

    def planned() -> Iterator[PlannedLine]:
        deletions.append(InThread(Collection.objects.get(pk=shop.pk).delete))
        wait_until_somebody_waits_for_a_lock()
        process_again([failed.pk])
        yield PlannedLine("x", 1, url="http://a.test/x", image_id=failed.pk, reason="It is here.")

    jobs.begin_or_go_on(shop, URLS, planned, digest="d" * 64)
    deletions[0].outcome()
    assert not Collection.objects.exists()
    assert not IntakeJob.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_collection_is_deleted_with_what_is_being_stored(shop: Collection) -> None:
    job = plan(shop, [])
    with transaction.atomic():
        assert holding.held_for_new(job) == ""
        deletion = InThread(Collection.objects.get(pk=shop.pk).delete)
        wait_until_somebody_waits_for_a_lock()
        stored(job)
    deletion.outcome()
    assert not Image.objects.exists()


def test_a_rule_that_is_none_is_refused(shop: Collection) -> None:
    with pytest.raises(JobError, match="longest:1024"):
        plan(shop, addresses(1), normalise="wide:1024")
    assert not IntakeJob.objects.exists()


def test_a_square_of_more_pixels_than_images_may_have_is_refused_before_any_file_comes(
    shop: Collection, settings: Settings
) -> None:
    settings.VISEARCH_LIMITS = {"pixels": 1_000_000}
    with pytest.raises(JobError, match="square of 1000 at the most, or raise VISEARCH_MAX_PIXELS"):
        plan(shop, addresses(1), normalise="square:1024")
    assert not IntakeJob.objects.exists()


# --- Paused and resumed -----------------------------------------------------------------------------------------------


def test_a_paused_job_begins_nothing_and_a_resumed_one_goes_on(shop: Collection) -> None:
    job = plan(shop, addresses(2))
    queued, ready, failed = stored(job), stored(job, "ready"), stored(job, "failed", reason="It is broken.")
    elsewhere = make_image(shop, status="queued")
    for _ in range(2):
        assert jobs.pause(job).state == "paused"
        assert [state(image) for image in (queued, ready, failed, elsewhere)] == [
            ("held", "pause"),
            ("ready", ""),
            ("failed", ""),
            ("queued", ""),
        ]
        assert "paused" in queued.reason
        assert lines.claim_addresses("me", 8) == []
        assert claims.claim(queued.pk, 8)[1] == [elsewhere]
        Image.objects.filter(pk=elsewhere.pk).update(status="queued", claimed_by="", lease_until=None)
    for _ in range(2):
        assert jobs.resume(job).state == "running"
        assert [state(image)[0] for image in (queued, ready, failed)] == ["queued", "ready", "failed"]
        assert queued.reason == ""
    assert len(lines.claim_addresses("me", 8)) == 2


def test_what_waits_for_somebodys_choice_goes_on_waiting_for_it(shop: Collection) -> None:
    job = plan(shop, [])
    alike = stored(job, "held", held_for="near-duplicate")
    for act in (jobs.pause, jobs.resume, jobs.cancel, jobs.retry_failed):
        act(job)
        assert state(alike) == ("held", "near-duplicate")


def test_what_is_processed_again_stays_findable(shop: Collection) -> None:
    job = plan(shop, [])
    again = stored(job, "queued", processed_at=timezone.now())
    jobs.pause(job)
    assert state(again) == ("queued", "")
    assert again.is_findable


@pytest.mark.django_db(transaction=True)
def test_an_image_that_is_stored_while_its_job_is_paused_is_held_too(shop: Collection) -> None:
    """The pause waits for whoever is storing; who stores after it holds what comes."""
    job = plan(shop, [])
    with transaction.atomic():
        assert holding.held_for_new(job) == ""
        early = stored(job)
        pause = InThread(lambda: jobs.pause(job))
        wait_until_somebody_waits_for_a_lock()
    pause.outcome()
    assert state(early) == ("held", "pause")
    with transaction.atomic():
        assert holding.held_for_new(job) == "pause"
    jobs.cancel(job)
    with transaction.atomic():
        assert holding.held_for_new(job) == "cancel"


@pytest.mark.django_db(transaction=True)
def test_two_who_store_into_a_job_do_not_wait_for_each_other(shop: Collection) -> None:
    job = plan(shop, [])

    def store() -> str:
        with transaction.atomic():
            return holding.held_for_new(job)

    with transaction.atomic():
        holding.held_for_new(job)
        assert InThread(store).outcome() == ""


def test_what_a_worker_gives_back_of_a_paused_job_is_held_by_the_sweep(shop: Collection) -> None:
    job = plan(shop, addresses(1))
    image = stored(job)
    token, _ = claims.claim(image.pk, 1)
    [line] = lines.claim_addresses("me", 1)
    jobs.pause(job)
    assert state(image)[0] == "processing"
    claims.release(token, [image.pk], "Waiting: a model is missing.")
    sweep()
    assert state(image) == ("held", "pause")
    jobs.cancel(job)
    assert verdicts(job)[line.source] == ("waiting", "")
    lines.try_again_or_fail(line, "timed-out", "It was slow.")
    sweep()
    assert verdicts(job)[line.source] == ("cancelled", "")
    assert state(image) == ("held", "cancel")


@pytest.mark.django_db(transaction=True)
def test_two_who_pause_and_resume_at_once_leave_one_state(shop: Collection) -> None:
    job = plan(shop, addresses(3))
    images = [stored(job) for _ in range(20)]
    acts = [InThread(lambda act=act: act(job)) for act in (jobs.pause, jobs.resume) * 4]  # type: ignore[misc]
    for act in acts:
        act.outcome()
    job.refresh_from_db()
    expected = {"paused": {("held", "pause")}, "running": {("queued", "")}}[job.state]
    assert {state(image) for image in images} == expected


def rest_is_over(image: Image) -> None:
    """As if its worker had died, or given it back, a while ago."""
    Image.objects.filter(pk=image.pk).update(lease_until=timezone.now() - timedelta(seconds=1))


@pytest.mark.parametrize("ends", [jobs.pause, jobs.cancel])
@pytest.mark.parametrize("is_given_back", [True, False])
def test_what_a_worker_was_at_when_its_job_was_stopped_nobody_begins_again(
    shop: Collection, ends: Callable[[IntakeJob], IntakeJob], is_given_back: bool
) -> None:
    """Also before the sweep comes, and however often somebody asks."""
    job = plan(shop, [])
    image, again = stored(job), stored(job, "processing", processed_at=timezone.now(), lease_until=timezone.now())
    token, _ = claims.claim(image.pk, 1)
    ends(job)
    if is_given_back:
        claims.release(token, [image.pk], "Waiting: a model is missing.")
    rest_is_over(image)
    rest_is_over(again)
    assert claims.claim(image.pk, 8)[1] == [again]  # what was ready once stays findable
    assert claims.waiting_count() == 0
    holding.settle()
    assert state(image)[0] == "held"
    assert claims.claim(image.pk, 8)[1] == []
    (jobs.resume if ends is jobs.pause else jobs.retry_failed)(job)
    assert claims.claim(image.pk, 8)[1] == [image]


@pytest.mark.django_db(transaction=True)
def test_a_sweep_that_meets_a_resume_holds_nothing(shop: Collection) -> None:
    """It found the job paused, and waited for a row of it while somebody resumed the job."""
    job = plan(shop, [])
    image = stored(job)
    jobs.pause(job)
    Image.objects.filter(pk=image.pk).update(status="queued", held_for="", reason="", lease_until=timezone.now())
    with transaction.atomic():
        Image.objects.select_for_update().get(pk=image.pk)
        sweeps = InThread(holding.settle)
        wait_until_somebody_waits_for_a_lock()
        resumes = InThread(lambda: jobs.resume(job))
        wait_for("the resume", lambda: waiting_for_a_lock() > 1 or not resumes.is_alive())
    sweeps.outcome()
    resumes.outcome()
    assert state(image) == ("queued", "")


def test_what_is_held_for_nothing_is_let_go_by_the_sweep(shop: Collection) -> None:
    job, gone, stopped = plan(shop, []), plan(shop, []), plan(shop, [])
    running = stored(job, "held", held_for="pause")
    nobodys = stored(gone, "held", held_for="pause")
    cancelled, paused = stored(stopped, "held", held_for="pause"), stored(stopped, "held", held_for="cancel")
    gone.delete()
    jobs.cancel(stopped)
    Image.objects.filter(pk=cancelled.pk).update(held_for="pause")
    sweep()
    assert state(running) == state(nobodys) == ("queued", "")
    assert state(cancelled) == state(paused) == ("held", "cancel")


@pytest.mark.parametrize(("ends", "goes_on"), [(jobs.pause, jobs.resume), (jobs.cancel, jobs.retry_failed)])
@pytest.mark.parametrize("is_deleted", [True, False])
def test_what_waited_for_a_choice_waits_for_its_job_then(
    shop: Collection,
    ends: Callable[[IntakeJob], object],
    goes_on: Callable[[IntakeJob], object],
    is_deleted: bool,
    admin_user: User,
) -> None:
    job = plan(shop, [])
    image, other = stored(job, "held", held_for="near-duplicate"), make_image(shop)
    noted = NearDuplicate.objects.create(image=image, other=other, distance=1)
    ends(job)
    if is_deleted:
        other.delete()
        sweep()
    else:
        decide(noted, Choice.KEEP, admin_user)
    assert state(image) == ("held", {jobs.pause: "pause"}.get(ends, "cancel"))
    assert claims.claim(image.pk, 8)[1] == []
    goes_on(job)
    assert claims.claim(image.pk, 8)[1] == [image]


# --- Cancelled and tried again ----------------------------------------------------------------------------------------


def test_a_cancelled_job_ends_and_a_retry_takes_it_up_again(shop: Collection) -> None:
    job = plan(shop, addresses(3))
    [under_way] = lines.claim_addresses("me", 1)
    queued, ready = stored(job), stored(job, "ready")
    for _ in range(2):
        assert jobs.cancel(job).state == "cancelled"
        assert sorted(verdict for verdict, _ in verdicts(job).values()) == [
            *("cancelled", "cancelled"),
            *("stored", "stored"),
            "waiting",
        ]
        assert state(queued) == ("held", "cancel")
        assert "Retry" in queued.reason
    assert verdicts(job)[under_way.source][0] == "waiting"  # its worker finishes it
    for act in (jobs.pause, jobs.resume):
        with pytest.raises(JobError, match="cancelled"):
            act(job)
    assert jobs.can_retry(job) == 3
    assert jobs.retry_failed(job) == 3
    assert (state(queued), state(ready)) == (("queued", ""), ("ready", ""))
    job.refresh_from_db()
    assert job.state == "running"
    assert jobs.retry_failed(job) == jobs.can_retry(job) == 0


def test_a_paused_job_that_is_cancelled_holds_its_images_for_that(shop: Collection) -> None:
    job = plan(shop, [])
    image = stored(job)
    jobs.pause(job)
    jobs.cancel(job)
    assert state(image) == ("held", "cancel")
    with pytest.raises(JobError, match="cancelled"):
        jobs.resume(job)
    jobs.retry_failed(job)
    assert state(image) == ("queued", "")


def test_images_of_a_long_job_are_held_and_let_go_in_steps(shop: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "STEP", 2)
    job = plan(shop, [])
    images = [stored(job) for _ in range(5)]
    jobs.cancel(job)
    assert {state(image) for image in images} == {("held", "cancel")}
    assert jobs.retry_failed(job) == 5
    assert {state(image) for image in images} == {("queued", "")}


@pytest.mark.django_db(transaction=True)
def test_who_retries_a_job_locks_its_images_in_one_order(shop: Collection) -> None:
    job = plan(shop, [])
    held, failed = stored(job), stored(job, "failed", reason="It is broken.")
    jobs.cancel(job)
    job.lines.filter(image=failed).update(verdict="failed", code=claims.PROCESSING_FAILED, reason="It is broken.")
    with transaction.atomic():
        Image.objects.select_for_update().get(pk=held.pk)
        retries = InThread(lambda: jobs.retry_failed(job))
        wait_until_somebody_waits_for_a_lock()
        Image.objects.select_for_update(nowait=True).get(pk=failed.pk)
    assert retries.outcome() == 2
    assert (state(held), state(failed)) == (("queued", ""), ("queued", ""))


def test_what_is_tried_again_and_what_is_not(shop: Collection) -> None:
    urls = addresses(7)
    job = plan(shop, urls)
    ends = [
        ("failed", "timed-out"),
        ("refused", "not-found"),
        ("refused", "address-not-public"),
        ("refused", "not-an-image"),
        ("stored", ""),
        ("duplicate", ""),
        ("cancelled", ""),
    ]
    for url, (verdict, code) in zip(urls, ends, strict=True):
        reason = "It went wrong." if code else ""
        job.lines.filter(url=url).update(verdict=verdict, code=code, reason=reason, attempts=3, claimed_by="x")
    IntakeLine.objects.create(job=job, source="sent.jpg", verdict="failed", code="disk-full", reason="It was full.")
    assert jobs.can_retry(job) == 4
    assert jobs.retry_failed(job) == 4
    again = job.lines.filter(verdict="waiting")
    assert {line.url for line in again} == {urls[0], urls[1], urls[2], urls[6]}
    assert {(line.attempts, line.claimed_by, line.code, line.reason) for line in again} == {(0, "", "", "")}
    assert verdicts(job)["sent.jpg"] == ("failed", "disk-full")


def test_an_image_that_failed_is_processed_again(shop: Collection, media: object) -> None:
    image = put_image(shop, squares((20, 30, 40, "red")))
    token, _ = claims.claim(image.pk, 1)
    claims.fail(token, image.pk, "The worker died.")
    job = IntakeJob.objects.get()
    assert jobs.can_retry(job) == 1
    assert jobs.retry_failed(job) == 1
    process_all()
    assert state(image)[0] == "ready"
    assert [verdict for verdict, _ in verdicts(job).values()] == ["stored"]


def test_a_paused_job_is_resumed_before_it_is_retried(shop: Collection) -> None:
    job = plan(shop, addresses(1))
    jobs.pause(job)
    with pytest.raises(JobError, match="Resume it first"):
        jobs.retry_failed(job)


def test_what_was_done_is_in_the_log(shop: Collection, django_user_model: type[User]) -> None:
    from django.contrib.admin.models import LogEntry

    user = django_user_model.objects.create_user("ada")
    job = plan(shop, addresses(1))
    for act in (jobs.pause, jobs.pause, jobs.resume, jobs.cancel, jobs.retry_failed):
        act(job, user)
    said = LogEntry.objects.filter(object_id=str(job.pk), user=user).order_by("id")
    assert [entry.change_message for entry in said] == ["Paused.", "Resumed.", "Cancelled.", "Retried: 1 lines."]


def test_a_job_that_is_gone_is_said_and_its_images_stay(shop: Collection) -> None:
    job = plan(shop, addresses(1))
    image = stored(job)
    IntakeJob.objects.get(pk=job.pk).delete()
    for act in (jobs.pause, jobs.resume, jobs.cancel, jobs.retry_failed):
        with pytest.raises(JobError, match="gone"):
            act(job)
    assert state(image)[0] == "queued"
    assert not IntakeLine.objects.exists()


def test_a_dead_workers_line_of_a_cancelled_job_is_cancelled_by_the_sweep(shop: Collection) -> None:
    job = plan(shop, addresses(1))
    lines.claim_addresses("dead", 1)
    jobs.cancel(job)
    sweep()
    assert [verdict for verdict, _ in verdicts(job).values()] == ["waiting"]
    let_all_rest_be_over()
    sweep()
    assert [verdict for verdict, _ in verdicts(job).values()] == ["cancelled"]
