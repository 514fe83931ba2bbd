"""Whose turn it is: waiting lines of running jobs are claimed with a lease, and come to their end or are given back.

As with images (catalog.claims) a claim is a token: whoever comes back after its lease has run out finds another one in
the row and changes nothing. A line that is given back rests (``lease_until``) and says why; VISEARCH_MAX_ATTEMPTS tries
and it fails.

Addresses are claimed by any worker, a few of each host at a time over all of them; paths by the command that runs where
the files are.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar

from django.conf import settings
from django.db import transaction
from django.db.models import F, Min, Q, QuerySet
from django.utils import timezone

from catalog import locks
from catalog.claims import Renewals, lease_from_now
from catalog.database import update_rows
from catalog.models import IntakeJob, IntakeLine, RestingHost

Thing = TypeVar("Thing")
Verdict = IntakeLine.Verdict
SLOW_DOWN = "slow-down"  # the code of a line whose server asked to be left alone: its whole host rests
LONGEST_REST = timedelta(hours=1)  # whatever a server asks for
GENTLE = timedelta(hours=1)  # after its rest a host is asked for one thing at a time
MOST_SLOW_DOWNS = 50  # of one line: a server that never stops saying so does not want to be asked
FIRST_REST = timedelta(seconds=30)  # after the first try; four times as long after each further one
GAVE_UP = "The worker died on this line {attempts} times; it is not tried again. Read its log, then retry the job."


class Files(NamedTuple):
    """Of `claim_files`."""

    claimed: list[IntakeLine]
    failed: list[IntakeLine]


# --- Claimed ----------------------------------------------------------------------------------------------------------


@transaction.atomic
def claim_addresses(token: str, size: int) -> list[IntakeLine]:
    """Up to ``size`` addresses, a line of each job in turn, the oldest job first.

    At most VISEARCH_FETCH_PER_HOST of a host are claimed at any time, by whomever, and none of one that rests. Of more
    jobs than ``size`` chance decides whose turn it is. Lines on which a worker died are left to `claim_suspect`.
    """
    _one_at_a_time()
    hosts = _Hosts()
    unclaimed = _to_fetch().filter(claimed_by="")
    turns = [_by_host(unclaimed.filter(job=job), hosts) for job in _jobs(size)]
    lines: list[IntakeLine] = []
    while turns and len(lines) < size:
        turn = turns.pop(0)
        line = next(turn, None)
        if line is not None:
            lines.append(line)
            turns.append(turn)
    return _claimed(token, lines)


@transaction.atomic
def claim_suspect(token: str) -> list[IntakeLine]:
    """An address that a worker died on, if there is any: taken alone, so that it takes no others along."""
    _one_at_a_time()
    suspects = _died_on(_to_fetch()).filter(job__state=IntakeJob.State.RUNNING)
    _fail_worn(suspects)
    suspects = suspects.exclude(host__in=_Hosts().closed())
    return _claimed(token, list(_locked(suspects)[:1]))


@transaction.atomic
def claim_files(job: IntakeJob, token: str, size: int) -> Files:
    """Up to ``size`` lines of this job that have a path, in their order; none while the job does not run.

    And those that came to their end, since too many have died on them.
    """
    if not IntakeJob.objects.filter(pk=job.pk, state=IntakeJob.State.RUNNING).exists():
        return Files([], [])
    waiting = _rested().filter(job=job).exclude(path="")
    worn = _fail_worn(_died_on(waiting))
    lines = list(_locked(waiting)[:size])
    suspects = [line for line in lines if line.claimed_by]
    return Files(_claimed(token, suspects[:1] or lines), worn)


def _claimed(token: str, lines: Sequence[IntakeLine]) -> list[IntakeLine]:
    for line in lines:
        line.claimed_by, line.lease_until, line.attempts = token, lease_from_now(), line.attempts + 1
    update_rows(lines, ["claimed_by", "lease_until", "attempts"])
    return list(lines)


def _rested() -> QuerySet[IntakeLine]:
    """Waiting, and neither claimed nor resting now."""
    return IntakeLine.objects.filter(
        Q(lease_until__isnull=True) | Q(lease_until__lt=timezone.now()), verdict=Verdict.WAITING
    )


def _to_fetch() -> QuerySet[IntakeLine]:
    return _rested().exclude(url="")


def _died_on(lines: QuerySet[IntakeLine]) -> QuerySet[IntakeLine]:
    """Of lines that wait those whose claim has run out. Who died left a lease: that is said for the index
    `line_claimed_or_resting`, so that all the others are not read."""
    return lines.exclude(claimed_by="").filter(lease_until__isnull=False)


def _locked(lines: QuerySet[IntakeLine]) -> QuerySet[IntakeLine]:
    return lines.select_related("job").select_for_update(skip_locked=True, of=("self",)).order_by("id")


def _fail_worn(died_on: QuerySet[IntakeLine]) -> list[IntakeLine]:
    worn = list(_locked(died_on.filter(attempts__gte=settings.VISEARCH_MAX_ATTEMPTS)))
    for line in worn:
        fail(line, "worker-died", GAVE_UP.format(attempts=line.attempts))
    return worn


# --- Whose turn -------------------------------------------------------------------------------------------------------


def _one_at_a_time() -> None:
    """Until the end of this transaction: two who count the lines of a host at once would both find room."""
    locks.wait_for("visearch addresses")


def _jobs(size: int) -> list[IntakeJob]:
    """Running jobs with addresses that wait, oldest first; where there are more than ``size``, some of them."""
    waiting = IntakeLine.objects.filter(verdict=Verdict.WAITING).exclude(url="")
    jobs = list(IntakeJob.objects.filter(state=IntakeJob.State.RUNNING, pk__in=waiting.values("job")).order_by("id"))
    return jobs if len(jobs) <= size else random.sample(jobs, size)


class _Hosts:
    """How many lines of each host are claimed, and which hosts rest because they asked for it."""

    def __init__(self) -> None:
        now = timezone.now()
        leased = IntakeLine.objects.filter(verdict=Verdict.WAITING, lease_until__isnull=False, lease_until__gt=now)
        self._busy = Counter(leased.exclude(url="").exclude(claimed_by="").values_list("host", flat=True))
        asked = RestingHost.objects.filter(rests_until__gt=now - GENTLE).values_list("host", "rests_until")
        self._most = {host: 0 if rests_until > now else 1 for host, rests_until in asked}

    def room(self, host: str) -> int:
        at_once: int = settings.VISEARCH_FETCH_PER_HOST
        return self._most.get(host, at_once) - self._busy[host]

    def take(self, host: str) -> None:
        self._busy[host] += 1

    def closed(self) -> list[str]:
        return [host for host in {*self._busy, *self._most} if self.room(host) <= 0]


def _by_host(lines: QuerySet[IntakeLine], hosts: _Hosts) -> Iterator[IntakeLine]:
    """Lines of one host after the other, as many as it has room for, by steps through an index: a list of 100,000
    addresses of one host that is busy costs no more than a short one."""
    host = ""
    while host := lines.filter(host__gt=host).aggregate(first=Min("host"))["first"]:
        for line in _of_host(lines.filter(host=host), max(0, hosts.room(host))):
            if hosts.room(host) > 0:  # another job may have taken it meanwhile
                hosts.take(host)
                yield line


def _of_host(lines: QuerySet[IntakeLine], most: int) -> list[IntakeLine]:
    """In the order of the list; those whose host said "slow down" come last, or one of them would stop all others."""
    found = list(_locked(lines.filter(slow_downs=0))[:most])
    if len(found) < most:
        found += _locked(lines.exclude(slow_downs=0)).order_by("slow_downs", "id")[: most - len(found)]
    return found


# --- Held on to, and given back ---------------------------------------------------------------------------------------


def held_by(token: str) -> QuerySet[IntakeLine]:
    """The lines that this claim still holds and that have not begun to be received."""
    return IntakeLine.objects.filter(claimed_by=token, verdict=Verdict.WAITING, lease_until__isnull=False)


def renew(token: str) -> None:
    """A lease from now for all that the claim still holds: slow servers are no reason to take them over."""
    held_by(token).update(lease_until=lease_from_now())


def still_mine(token: str, lines: Sequence[IntakeLine]) -> list[IntakeLine]:
    """Those that the claim still holds, with a new lease: to be asked right before they are received."""
    mine = held_by(token).filter(pk__in=[line.pk for line in lines])
    with transaction.atomic():
        keys = set(mine.select_for_update().values_list("pk", flat=True))
        mine.filter(pk__in=keys).update(lease_until=lease_from_now())
    return [line for line in lines if line.pk in keys]


class Leases:
    """Of lines that somebody claimed, and of files that are received one after the other, each in its time.

    Two who may take a line while its batch is still looked at would do the work twice.
    """

    def __init__(self, lines: Iterable[IntakeLine]) -> None:
        self._tokens = {line.claimed_by for line in lines if line.claimed_by}
        self._renewals = Renewals()

    def kept(self, things: Iterable[Thing], also: Callable[[], None] | None = None) -> Iterator[Thing]:
        """The same things; the leases are renewed between two of them, and whatever else ``also`` renews."""
        for thing in things:
            if self._renewals.are_due():
                for token in self._tokens:
                    renew(token)
                if also is not None:
                    also()
            yield thing


def let_go(token: str) -> None:
    """Nothing is under way any more: whatever the claim still holds may be taken at once, untried."""
    held_by(token).update(claimed_by="", lease_until=None, attempts=F("attempts") - 1)


def put_back(line: IntakeLine, code: str, reason: str, rest: timedelta, *, untried: bool = False) -> None:
    """Back among those that wait, for ``rest`` at least. ``untried``: what stopped it is not its fault."""
    _write(
        line,
        verdict=Verdict.WAITING,
        code=code,
        reason=reason,
        claimed_by="",
        lease_until=timezone.now() + min(rest, LONGEST_REST),
        reserved_key="",
        attempts=line.attempts - untried,
        slow_downs=line.slow_downs,
        ended_at=None,
    )


def try_again_or_fail(line: IntakeLine, code: str, reason: str, retry_after: float | None = None) -> None:
    """After a try that did not go well: it rests, for as long as the server asks, or fails after the last try."""
    if line.attempts >= settings.VISEARCH_MAX_ATTEMPTS:
        fail(line, code, f"{reason} It was tried {line.attempts} times; retry the job to try again.")
        return
    put_back(line, code, f"Waiting: {reason}", _rest(line.attempts, retry_after))


def wait_for_host(line: IntakeLine, reason: str, retry_after: float | None) -> None:
    """Its server asked to be left alone: so is the whole host, whatever becomes of the line or its job.

    That is no failed try, but after MOST_SLOW_DOWNS the line fails.
    """
    line.slow_downs += 1
    rest = _rest(line.slow_downs, retry_after)
    _leave_alone(line.host, timezone.now() + rest)
    if line.slow_downs >= MOST_SLOW_DOWNS:
        fail(line, SLOW_DOWN, f"{reason} It said so {line.slow_downs} times; retry the job to try again.")
        return
    put_back(line, SLOW_DOWN, f"Waiting: {reason}", rest, untried=True)


def _rest(times: int, retry_after: float | None) -> timedelta:
    rest = FIRST_REST * 4 ** min(times - 1, 5) if retry_after is None else timedelta(seconds=retry_after)
    return min(rest, LONGEST_REST)


@transaction.atomic
def _leave_alone(host: str, until: datetime) -> None:
    """Nobody asks this host before then, whatever becomes of the line that was answered so, or of its job."""
    _one_at_a_time()
    RestingHost.objects.filter(rests_until__lt=timezone.now() - GENTLE).delete()
    resting, _ = RestingHost.objects.get_or_create(host=host, defaults={"rests_until": until})
    if resting.rests_until < until:
        resting.rests_until = until
        resting.save(update_fields=["rests_until"])


def cancel(waiting: QuerySet[IntakeLine]) -> int:
    """Of these, those that nobody is at: what is under way is finished by whoever claimed it."""
    left = Q(claimed_by="") | Q(lease_until__lt=timezone.now())
    return waiting.filter(left, verdict=Verdict.WAITING).update(
        verdict=Verdict.CANCELLED, code="", reason="", claimed_by="", lease_until=None, ended_at=timezone.now()
    )


def fail(line: IntakeLine, code: str, reason: str) -> None:
    """It came to its end, and brought nothing."""
    ended = {"verdict": Verdict.FAILED, "code": code, "reason": reason, "ended_at": timezone.now()}
    _write(line, **ended, claimed_by="", lease_until=None)


def _write(line: IntakeLine, **columns: Any) -> None:
    """Into the row, where its claim is still the one that ``line`` was read with and nobody has received it since."""
    mine = IntakeLine.objects.filter(pk=line.pk, claimed_by=line.claimed_by)
    mine.filter(verdict__in=[Verdict.WAITING, Verdict.FAILED]).update(**columns)
    for name, value in columns.items():
        setattr(line, name, value)


def waiting_addresses(most: int | None = None) -> int:
    """How many addresses of running jobs wait, resting ones included; counted up to ``most``."""
    waiting = IntakeLine.objects.filter(verdict=Verdict.WAITING, job__state=IntakeJob.State.RUNNING)
    return waiting.exclude(url="").order_by()[:most].count()
