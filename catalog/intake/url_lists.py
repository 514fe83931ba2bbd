"""Lists of addresses: one a line, blank lines and those that begin with # left out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.contrib.auth.models import User
from django.db import transaction

from catalog.fetching import FetchRefused
from catalog.fetching.addresses import LONGEST, parse
from catalog.intake import jobs
from catalog.intake.errors import ListRefused, Problem
from catalog.intake.here import with_images
from catalog.intake.jobs import PlannedLine
from catalog.intake.texts import lines_of
from catalog.models import Collection, IntakeJob

MOST_LINES = 100_000
NEVER_FETCHED = frozenset({"scheme-not-allowed", "userinfo-in-address", "ip-ambiguous"})  # addresses all the same


@dataclass(frozen=True, slots=True)
class Address:
    """``number``: of its line. ``said``: as the list has it; ``url``: in the one form by which it is known.

    ``refusal``: why it is never fetched; then there is no ``url``.
    """

    number: int
    said: str
    url: str
    refusal: FetchRefused | None = None


@dataclass(frozen=True, slots=True)
class UrlList:
    """``repeated``: what stands in the list more than once, left out but for the first time."""

    addresses: Sequence[Address]
    repeated: Sequence[Problem]
    digest: str


def read(content: bytes | str | Sequence[str]) -> UrlList:
    """The addresses of a list that was pasted (str) or uploaded (bytes: UTF-8, with or without a BOM), or each of some.

    One that the guard refuses as it is written keeps no other from being fetched: it becomes a line that says why.
    Raises ListRefused with every line that is no address, for too long a list, other encodings, and where not one
    address can be fetched.
    """
    found: dict[str, Address] = {}
    repeated: list[Problem] = []
    problems: list[Problem] = []
    for number, said in _lines(content):
        address = _read(number, said)
        if address.refusal and address.refusal.code not in NEVER_FETCHED:
            problems.append(_problem(address))
            continue
        key = address.url or said
        if key in found:
            repeated.append(Problem(number, f"{_short(said)} stands in line {found[key].number} already."))
        else:
            found[key] = address
    if not any(each.url for each in found.values()):
        problems += [_problem(each) for each in found.values()]
    if not (found or problems):
        problems = [Problem(0, "The list has no address. Write one a line, as https://example.org/photo.jpg.")]
    if problems:
        raise ListRefused(problems)
    digest = hashlib.sha256("\n".join(sorted(found)).encode()).hexdigest()
    return UrlList(list(found.values()), repeated, digest)


@transaction.atomic
def start(
    collection: Collection,
    addresses: UrlList,
    *,
    name: str = "",
    normalise: str = "",
    user: User | None = None,
    job_id: UUID | None = None,
) -> IntakeJob:
    """A job that fetches them, or the unfinished one of the same addresses, collection and rule, which goes on, and
    tries again what has failed (``tried_again`` lines; none where the very same form is sent twice).

    An address whose image the collection has (a line of an earlier job says so) is not fetched again: its line is a
    duplicate at once. Raises JobError, as `jobs.create`.
    """
    job, is_new = jobs.begin_or_go_on(
        collection,
        IntakeJob.Source.URLS,
        lambda: with_images(collection, _planned(addresses)),
        digest=addresses.digest,
        name=name,
        normalise=normalise,
        user=user,
        job_id=job_id,
    )
    if not is_new and job.pk != job_id:
        job.tried_again = jobs.take_up_again(job, user)
    return job


def address_of(said: str) -> str:
    """The one form of an address. Raises FetchRefused for what is none, also where the one form is too long."""
    url = str(parse(said))
    if len(url) > LONGEST:
        raise FetchRefused("address-malformed", f"Escaped it has more than {LONGEST:,} characters: use a shorter one.")
    return url


def _read(number: int, said: str) -> Address:
    try:
        return Address(number, said, address_of(said))
    except FetchRefused as refusal:
        return Address(number, said, "", refusal)


def _problem(address: Address) -> Problem:
    return Problem(address.number, f"{_short(address.said)}: {address.refusal}")


def _planned(addresses: UrlList) -> Iterator[PlannedLine]:
    for each in addresses.addresses:
        code, reason = (each.refusal.code, str(each.refusal)) if each.refusal else ("", "")
        yield PlannedLine(each.said, each.number, url=each.url, code=code, reason=reason)


def _lines(content: bytes | str | Sequence[str]) -> Iterator[tuple[int, str]]:
    """Those that say something, with their numbers from 1. Raises ListRefused for too many of them."""
    said = 0
    lines, comment = (lines_of(content), "#") if isinstance(content, (bytes, str)) else (content, None)
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if comment and (not text or text.startswith(comment)):
            continue
        said += 1
        if said > MOST_LINES:
            raise ListRefused([Problem(0, f"The list has more than {MOST_LINES:,} addresses. Divide it.")])
        yield number, text


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}…"
