"""Asking the doctor, and looking at what it says."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from django.utils import timezone

from catalog.doctor.examining import Outcome, Unseen, examine
from catalog.doctor.findings import Check, Looking
from catalog.models import DoomedFiles, Image, IntakeLine
from search.doctor.checks import CHECKS

LONG = timedelta(days=30)


def asked(
    checks: Sequence[Check] = CHECKS, *, fix: bool = False, deep: bool = False, deletes_strays: bool = False
) -> list[Outcome]:
    """Everything that is found; all of it could be looked at."""
    outcomes = list(examine(checks, Looking(deep=deep, deletes_strays=deletes_strays), fix=fix))
    unseen = [each for each in outcomes if isinstance(each, Unseen)]
    assert not unseen
    return [each for each in outcomes if isinstance(each, Outcome)]


def codes(outcomes: Sequence[Outcome]) -> list[str]:
    return [each.finding.code for each in outcomes]


def subjects(outcomes: Sequence[Outcome], code: str) -> list[str]:
    return [each.finding.subject for each in outcomes if each.finding.code == code]


def mended(checks: Sequence[Check] = CHECKS, *, deep: bool = False, deletes_strays: bool = False) -> list[str]:
    """The codes of what --fix mends, all of which it finds no more; what is left is no part of it."""
    outcomes = asked(checks, fix=True, deep=deep, deletes_strays=deletes_strays)
    done = [each.finding.code for each in outcomes if each.mended]
    again = codes(asked(checks, fix=True, deep=deep, deletes_strays=deletes_strays))
    assert not set(done) & set(again)
    return done


def grow_old() -> None:
    """All that was put in, begun or deleted was so long ago."""
    then = timezone.now() - LONG
    Image.objects.update(created_at=then)
    Image.objects.exclude(processed_at=None).update(processed_at=then)
    Image.objects.exclude(lease_until=None).update(lease_until=then)
    IntakeLine.objects.update(created_at=then, received_at=then)
    DoomedFiles.objects.update(created_at=then)
