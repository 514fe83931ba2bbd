"""The addresses of hostile_addresses.py as lines of a job: what the product makes of them, from the list to the file.

Nothing of the product is replaced: the settings say what may be fetched, for how long and how much; what the system
asks is our own, which is DNS and the certificates to trust.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from unittest.mock import patch

from django.conf import settings
from django.test import override_settings

from catalog.fetching import connecting, resolving
from catalog.intake import jobs, lines
from catalog.intake.errors import ListRefused
from catalog.intake.fetching_lines import take_in
from catalog.intake.jobs import PlannedLine
from catalog.intake.url_lists import NEVER_FETCHED, address_of
from catalog.intake.url_lists import read as read_list
from catalog.intake.url_lists import start as start_list
from catalog.models import Collection, Image, IntakeJob, IntakeLine
from tests.catalog.intake.planned import let_all_rest_be_over
from tests.hostile_addresses import BYTES, FETCHED, TRIED_AGAIN, Case
from tests.hostile_servers import Names, World, new_names

NOT_TAKEN = "not taken"  # the list is refused: there is no line
PATIENCE, HASTE = 20.0, 1.0  # seconds for an address
MOST_ROUNDS = 60
SLOW_DOWNS = 3  # of one line, instead of many: whoever waits behind it is not to wait as long
Verdict = IntakeLine.Verdict


@dataclass(frozen=True, slots=True)
class Outcome:
    """``verdict`` and ``code`` of the line, or NOT_TAKEN; ``attempts``: how often it was tried."""

    verdict: str
    reason: str
    code: str = ""
    attempts: int = 0
    image: Image | None = None


def put_in(collection: Collection, world: World, cases: Sequence[Case]) -> dict[Case, Outcome]:
    """What becomes of each, when nothing waits any more: one list for the door, and a job with a line for each that it
    takes. Those whose server lets one wait are fetched last, in less time."""
    said = {case: world.url(case) for case in cases}
    found = {case: Outcome(NOT_TAKEN, reason) for case, reason in _refused(said).items()}
    found |= _never_fetched(collection, {case: said[case] for case in cases if _is_never_fetched(case)})
    quick = [case for case in cases if case not in found and case.seconds >= PATIENCE]
    slow = [case for case in cases if case not in found and case.seconds < PATIENCE]
    names = new_names()
    job = jobs.create(collection, IntakeJob.Source.URLS, [])
    for some, seconds in ((quick, PATIENCE), (slow, HASTE)):
        jobs.add_lines(job, [PlannedLine(each.name, cases.index(each), url=address_of(said[each])) for each in some])
        with reached(world, names, seconds):
            settle(job)
    ended = {line.source: line for line in job.lines.select_related("image")}
    for case in (*quick, *slow):
        line = ended[case.name]
        found[case] = _outcome(line)
    return {case: found[case] for case in cases}


def problems_of(case: Case, outcome: Outcome) -> list[str]:
    """What is not as fixed, in words; nothing where all is."""
    kinds = _kinds(case)
    wanted = [
        (outcome.verdict in kinds, f"{' or '.join(kinds)} is right"),
        (case.says in outcome.reason, f"its reason must say {case.says!r}"),
        (outcome.verdict == NOT_TAKEN or outcome.code == _code(case), f"{_code(case)!r} is right"),
        (outcome.verdict == Verdict.STORED or outcome.reason.endswith("."), "its reason must be a sentence"),
        ("OpenSSH" not in outcome.reason, "it says what the server says of itself"),
    ]
    if outcome.code == lines.SLOW_DOWN:
        wanted.append((f"said so {SLOW_DOWNS} times" in outcome.reason, "its reason must say how often it was said"))
    elif outcome.verdict == Verdict.FAILED:
        tries = settings.VISEARCH_MAX_ATTEMPTS
        wanted.append((f"tried {tries} times" in outcome.reason, "its reason must say how often it was tried"))
        wanted.append((outcome.attempts == tries, f"{tries} tries are right"))
    return [words for is_right, words in wanted if not is_right]


def _code(case: Case) -> str:
    return "" if case.verdict == FETCHED else case.verdict


def _kinds(case: Case) -> tuple[str, ...]:
    if case.verdict == FETCHED:
        return Verdict.STORED, Verdict.DUPLICATE  # many of them are the same photo
    if case.verdict in TRIED_AGAIN:
        return (Verdict.FAILED,)
    return (Verdict.REFUSED,) if case.reaches_a_line or _is_never_fetched(case) else (NOT_TAKEN,)


def _is_never_fetched(case: Case) -> bool:
    return case.verdict in NEVER_FETCHED and not case.reaches_a_line


@contextmanager
def reached(world: World, names: Names, seconds: float) -> Iterator[None]:
    """The settings, the DNS and the certificates of a site that may fetch from these servers."""

    def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[int, tuple[str, int]]]:
        return [(0, (ip, port)) for ip in names(host, port)]

    dns = SimpleNamespace(getaddrinfo=getaddrinfo, SOCK_STREAM=socket.SOCK_STREAM)
    fetching = {"VISEARCH_FETCH_ALLOW": world.allow, "VISEARCH_FETCH_SECONDS": seconds, "VISEARCH_FETCH_AT_ONCE": 8}
    limits = {**settings.VISEARCH_LIMITS, "bytes": BYTES}
    connecting._trusted.cache_clear()
    try:
        with (
            override_settings(**fetching, VISEARCH_FETCH_PER_HOST=4, VISEARCH_LIMITS=limits),
            patch.object(resolving, "socket", dns),
            patch.object(lines, "MOST_SLOW_DOWNS", SLOW_DOWNS),
            patch.dict(os.environ, {"SSL_CERT_FILE": world.ca_file}),
        ):
            assert ssl.get_default_verify_paths().cafile == world.ca_file
            yield
    finally:
        connecting._trusted.cache_clear()


def settle(job: IntakeJob) -> None:
    """As workers do it in some hours: they come again and again, until nothing waits."""
    for _ in range(MOST_ROUNDS):
        assert take_in(PATIENCE * 10) is False, "something stopped the worker"
        if not job.lines.filter(verdict__in=[Verdict.WAITING, Verdict.RECEIVING]).exists():
            return
        let_all_rest_be_over()
    left = list(job.lines.filter(verdict=Verdict.WAITING).values_list("source", "reason"))
    raise AssertionError(f"after {MOST_ROUNDS} rounds there still wait {left}")


def _never_fetched(collection: Collection, said: dict[Case, str]) -> dict[Case, Outcome]:
    """In a list with another one: refused for how they are written, each in its line."""
    job = start_list(collection, read_list(["https://elsewhere.test/", *said.values()]))
    ended = {line.source: line for line in job.lines.all()}
    jobs.cancel(job)
    return {case: _outcome(ended[text]) for case, text in said.items()}


def _outcome(line: IntakeLine) -> Outcome:
    return Outcome(line.verdict, line.reason, line.code, line.attempts, line.image)


def _refused(said: dict[Case, str]) -> dict[Case, str]:
    """Those that the door of lists does not take, with its words."""
    cases = list(said)
    try:
        read_list(list(said.values()))
    except ListRefused as refused:
        assert refused.more == 0
        return {cases[problem.number - 1]: problem.reason for problem in refused.problems}
    return {}
