"""Whose turn it is among addresses and files that wait."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from catalog.intake import deleting, jobs, lines
from catalog.intake.jobs import PlannedLine
from catalog.models import Collection, IntakeJob, IntakeLine, RestingHost
from tests.catalog.intake.planned import addresses, let_all_rest_be_over, plan
from tests.library import InThread

pytestmark = pytest.mark.django_db


def hosts(claimed: list[IntakeLine]) -> Counter[str]:
    return Counter(line.host for line in claimed)


def claim(size: int = 8, token: str = "me") -> list[IntakeLine]:
    return lines.claim_addresses(token, size)


def files(shop: Collection, count: int) -> IntakeJob:
    planned = [PlannedLine(f"{number}.jpg", path=f"/photos/{number}.jpg") for number in range(count)]
    return jobs.create(shop, IntakeJob.Source.FOLDER, planned)


# --- Addresses --------------------------------------------------------------------------------------------------------


def test_a_claim_has_a_token_a_lease_and_a_try(shop: Collection) -> None:
    plan(shop, addresses(1))
    [line] = claim()
    row = IntakeLine.objects.get()
    assert row == line
    assert (row.claimed_by, row.attempts, row.verdict) == ("me", 1, "waiting")
    assert row.lease_until is not None
    assert row.lease_until > timezone.now()
    assert claim() == []


def test_of_a_host_few_are_claimed_whoever_asks(shop: Collection, settings: Settings) -> None:
    settings.VISEARCH_FETCH_PER_HOST = 2
    plan(shop, [*addresses(50, "a.test"), *addresses(3, "b.test"), *addresses(50, "c.test:8080")])
    assert hosts(claim(8, "me")) == {"a.test:80": 2, "b.test:80": 2, "c.test:8080": 2}
    assert claim(8, "another") == []
    plan(shop, addresses(5, "a.test"))  # another job is no way around
    assert claim(8, "another") == []
    ended = IntakeLine.objects.filter(claimed_by="me", host="a.test:80").first()
    assert ended is not None
    lines.fail(ended, "gone", "It is gone.")
    assert hosts(claim(8, "another")) == {"a.test:80": 1}


@pytest.mark.django_db(transaction=True)
def test_two_who_claim_at_once_keep_to_it_together(shop: Collection, settings: Settings) -> None:
    settings.VISEARCH_FETCH_PER_HOST = 3
    plan(shop, [*addresses(20, "a.test"), *addresses(20, "b.test")])
    claiming = [InThread(lambda token=str(number): claim(4, token)) for number in range(4)]  # type: ignore[misc]
    claimed = [line for each in claiming for line in each.outcome()]
    assert hosts(claimed) == {"a.test:80": 3, "b.test:80": 3}
    assert len({line.pk for line in claimed}) == 6


def test_a_long_list_does_not_block_a_short_one(shop: Collection) -> None:
    long = plan(shop, [f"http://{number}.test/a.jpg" for number in range(300)])
    short = plan(shop, [f"http://{number}.example/a.jpg" for number in range(3)])
    claimed = claim(8)
    assert Counter(line.job for line in claimed) == {long: 5, short: 3}
    assert claimed[0].job == long  # the oldest comes first


def test_of_more_jobs_than_places_each_has_its_turn(shop: Collection) -> None:
    many = [plan(shop, [f"http://{job}-{number}.test/a.jpg" for number in range(4)]) for job in range(5)]
    seen: set[IntakeJob] = set()
    for _ in range(40):
        seen |= {line.job for line in claim(2)}
        IntakeLine.objects.update(claimed_by="", lease_until=None)
    assert seen == set(many)


def test_a_busy_hosts_long_list_costs_few_queries(shop: Collection, settings: Settings) -> None:
    settings.VISEARCH_FETCH_PER_HOST = 1
    plan(shop, addresses(500))
    assert len(claim()) == 1
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert claim() == []
    assert len(queries) < 10


@pytest.mark.parametrize("state", ["paused", "cancelled"])
def test_of_a_job_that_does_not_run_nothing_is_claimed(shop: Collection, state: str) -> None:
    job = plan(shop, addresses(2))
    IntakeJob.objects.filter(pk=job.pk).update(state=state)
    assert claim() == lines.claim_suspect("me") == []
    assert lines.claim_files(job, "me", 8).claimed == []


@pytest.mark.django_db(transaction=True)
def test_who_deletes_a_job_is_not_waited_for(shop: Collection) -> None:
    gone, stays = plan(shop, addresses(2, "a.test")), plan(shop, addresses(2, "b.test"))
    with transaction.atomic():
        gone.lines.all().delete()
        claimed = InThread(lambda: claim(8)).outcome()
    assert {line.job for line in claimed} == {stays}


# --- Given back -------------------------------------------------------------------------------------------------------


def test_a_host_that_asks_to_be_left_alone_is_left_alone(shop: Collection) -> None:
    job = plan(shop, [*addresses(5, "busy.test"), *addresses(1, "other.test")])
    plan(shop, addresses(5, "busy.test"))
    line = next(each for each in claim(1))
    lines.wait_for_host(line, "The server is busy.", 300)
    line.refresh_from_db()
    assert line.lease_until is not None
    assert timedelta(seconds=290) < line.lease_until - timezone.now() <= timedelta(seconds=300)
    assert line.reason == "Waiting: The server is busy."
    assert hosts(claim()) == {"other.test:80": 1}
    let_all_rest_be_over()
    assert "busy.test:80" in hosts(claim())
    assert job.lines.count() == 6


def test_it_is_left_alone_also_after_the_last_try_and_when_the_job_is_gone(shop: Collection) -> None:
    job = plan(shop, addresses(1))
    job.lines.update(slow_downs=lines.MOST_SLOW_DOWNS - 1)
    [line] = claim()
    other = plan(shop, addresses(3))
    lines.wait_for_host(line, "The server is busy.", 300)
    assert job.lines.get().verdict == "failed"
    assert claim() == []
    deleting.delete(job)
    assert claim() == []
    let_all_rest_be_over()
    assert {each.job for each in claim()} == {other}


def test_to_be_asked_for_patience_is_no_failed_try(shop: Collection) -> None:
    job = plan(shop, addresses(1))
    for _ in range(2 * settings.VISEARCH_MAX_ATTEMPTS):
        [line] = claim()
        lines.wait_for_host(line, "The server is busy.", 300)
        let_all_rest_be_over()
    assert [(line.verdict, line.attempts) for line in job.lines.all()] == [("waiting", 0)]


def test_after_its_rest_a_host_is_asked_for_one_thing_at_a_time(shop: Collection) -> None:
    plan(shop, addresses(5, "busy.test"))
    for line in claim():
        lines.wait_for_host(line, "The server is busy.", 300)
    let_all_rest_be_over()
    assert hosts(claim()) == {"busy.test:80": 1}
    assert claim() == []


def test_one_that_is_always_told_so_keeps_no_other_waiting(shop: Collection) -> None:
    job = plan(shop, addresses(3))
    asked = []
    for _ in range(3):
        [line, *others] = claim()
        asked.append(line.number)
        lines.wait_for_host(line, "The server is busy.", 300)
        for other in others:
            lines.put_back(other, "", "", timedelta(0), untried=True)
        let_all_rest_be_over()
    assert asked == [line.number for line in job.lines.all()]


def test_of_two_answers_the_longer_rest_holds(shop: Collection) -> None:
    plan(shop, addresses(3))
    for line, seconds in zip(claim(2), (600, 5), strict=True):
        lines.wait_for_host(line, "The server is busy.", seconds)
    resting = RestingHost.objects.get()
    assert resting.rests_until > timezone.now() + timedelta(seconds=500)


def test_no_server_is_believed_for_more_than_an_hour(shop: Collection) -> None:
    plan(shop, addresses(1))
    [line] = claim()
    lines.wait_for_host(line, "The server is busy.", 1e7)
    line.refresh_from_db()
    assert line.lease_until is not None
    assert line.lease_until - timezone.now() <= timedelta(hours=1)


def test_after_three_tries_it_fails_and_says_why(shop: Collection) -> None:
    plan(shop, addresses(1))
    rests = []
    for _ in range(3):
        [line] = claim()
        lines.try_again_or_fail(line, "timed-out", "It sent nothing.")
        line.refresh_from_db()
        rests.append(line.lease_until and line.lease_until - timezone.now())
        let_all_rest_be_over()
    assert claim() == []
    assert (line.verdict, line.code) == ("failed", "timed-out")
    assert "It sent nothing. It was tried 3 times" in line.reason
    assert rests[0] and rests[1] and rests[0] < rests[1]
    assert rests[2] is None


def test_what_comes_back_too_late_changes_nothing(shop: Collection) -> None:
    plan(shop, addresses(1))
    [mine] = claim(token="slow")
    let_all_rest_be_over()
    [theirs] = lines.claim_suspect("quick")
    assert lines.still_mine("slow", [mine]) == []
    lines.try_again_or_fail(mine, "timed-out", "It sent nothing.")
    lines.renew("slow")
    lines.let_go("slow")
    theirs.refresh_from_db()
    assert (theirs.claimed_by, theirs.code, theirs.attempts) == ("quick", "", 2)
    assert lines.still_mine("quick", [theirs]) == [theirs]


def test_what_is_let_go_may_be_taken_at_once_and_was_no_try(shop: Collection) -> None:
    plan(shop, addresses(1))
    claim(token="one")
    lines.let_go("one")
    [line] = claim(token="two")
    assert line.attempts == 1


# --- Died on ----------------------------------------------------------------------------------------------------------


def test_what_a_worker_died_on_is_taken_alone(shop: Collection) -> None:
    plan(shop, [f"http://{number}.test/a.jpg" for number in range(4)])
    dead = claim(2, "dead")
    assert lines.claim_suspect("me") == []  # its lease still holds
    let_all_rest_be_over()
    assert not {*claim(8)} & {*dead}
    first = lines.claim_suspect("me")
    second = lines.claim_suspect("me")
    assert [*first, *second] == dead
    assert lines.claim_suspect("me") == []


def test_a_line_that_kills_its_worker_fails_after_three_tries(shop: Collection) -> None:
    plan(shop, addresses(1))
    assert len(claim(8, "one")) == 1
    for token in ("two", "three"):
        let_all_rest_be_over()
        assert len(lines.claim_suspect(token)) == 1
    let_all_rest_be_over()
    assert lines.claim_suspect("four") == claim() == []
    line = IntakeLine.objects.get()
    assert (line.verdict, line.code) == ("failed", "worker-died")
    assert "died on this line 3 times" in line.reason
    assert jobs.retry_failed(line.job) == 1


# --- Files ------------------------------------------------------------------------------------------------------------


def test_files_are_claimed_in_their_order_and_no_worker_takes_them(shop: Collection) -> None:
    job = files(shop, 5)
    assert claim() == []
    first = lines.claim_files(job, "me", 3).claimed
    assert [line.source for line in first] == ["0.jpg", "1.jpg", "2.jpg"]
    assert [line.source for line in lines.claim_files(job, "another", 3).claimed] == ["3.jpg", "4.jpg"]
    let_all_rest_be_over()
    assert [line.source for line in lines.claim_files(job, "third", 3).claimed] == ["0.jpg"]  # somebody died on it


@pytest.mark.parametrize("what", ["files", "addresses"])
def test_who_looks_for_the_dead_reads_no_line_that_was_never_claimed(shop: Collection, what: str) -> None:
    job = files(shop, 3000) if what == "files" else plan(shop, addresses(3000))
    lines.claim_files(job, "dead", 2)
    claim(2, "dead")
    let_all_rest_be_over()
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE catalog_intakeline")
    with CaptureQueriesContext(connection) as queries:
        lines.claim_suspect("me")
        lines.claim_files(job, "me", 16)
    asked = [each["sql"] for each in queries if "SKIP LOCKED" in each["sql"] and 'claimed_by" = ' in each["sql"]]
    assert len(asked) == 3  # the worn ones twice, and one that is to be taken
    assert all(0 < rows_read(sql) < 20 for sql in asked)


def rows_read(sql: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + sql.replace("%", "%%"))
        [[[found]]] = cursor.fetchall()
    steps, rows = [found["Plan"]], 1
    while steps:
        step = steps.pop()
        steps += step.get("Plans", [])
        rows += sum(step.get(name, 0) for name in ("Actual Rows", "Rows Removed by Filter"))
    return int(rows)


def test_addresses_of_running_jobs_are_counted(shop: Collection) -> None:
    plan(shop, addresses(3))
    jobs.pause(plan(shop, addresses(5)))
    files(shop, 2)
    assert lines.waiting_addresses() == 3
    assert lines.waiting_addresses(2) == 2
