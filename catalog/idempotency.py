"""Calls that are sent twice are carried out once: what a client's key stands for, and what it was answered.

After draft-ietf-httpapi-idempotency-key-header. A key belongs to its user and is kept for VISEARCH_IDEMPOTENCY_HOURS.

::

    (none) ──take──► under way, leased ──answered──► answered: told again
       ▲                │      │ ▲
       └───give_back────┘      │ └── take, by whoever sends it again
         nothing was done      └──── leave, or the lease runs out: it broke off

Whoever takes a call over that broke off gets the same ``Turn.id``, so that what it makes under that id is found and
gone on with, not made a second time.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError
from django.db.models import QuerySet
from django.utils import timezone
from uuid_utils.compat import uuid7

from catalog.exceptions import CatalogError
from catalog.models import IdempotencyKey


class KeyReused(CatalogError):
    """The key stands for another call."""

    code = "idempotency-key-reused"


class KeyInUse(CatalogError):
    """The first call with this key is still under way."""

    code = "idempotency-key-in-use"


@dataclass(slots=True)
class Turn:
    """This call is the one to carry out. ``id``: for what it makes; ``until``: of its lease, None without a key."""

    id: UUID
    until: datetime | None = None

    @classmethod
    def without_key(cls) -> Turn:
        return cls(uuid7())


@dataclass(frozen=True, slots=True)
class Answered:
    """It was carried out. ``body`` is JSON."""

    status: int
    body: Any


def take(user_id: int, key: str, fingerprint: str) -> Turn | Answered:
    """The turn of whoever sends this call first, or after it broke off; else what it was answered.

    Raises KeyReused and KeyInUse.
    """
    now = timezone.now()
    mine = IdempotencyKey.objects.filter(user=user_id, key=key)
    _old(now).filter(pk__in=mine).delete()
    until = _lease(now)
    row, is_new = mine.get_or_create(
        user_id=user_id, key=key, defaults={"fingerprint": fingerprint, "lease_until": until}
    )
    if is_new:
        return Turn(row.pk, until)
    if row.fingerprint != fingerprint:
        raise KeyReused("This Idempotency-Key was sent with another request. Take a new key for each request.")
    if row.status is not None:
        return Answered(row.status, row.answer)
    if row.lease_until <= now and _held(Turn(row.pk, row.lease_until)).update(lease_until=until):
        return Turn(row.pk, until)
    raise KeyInUse("The first request with this Idempotency-Key is still under way. Send it again in a moment.")


def renew(turn: Turn) -> None:
    """A lease from now on, for what takes long. Raises KeyInUse where somebody has taken it over: stop then."""
    if turn.until is None:
        return
    until = _lease(timezone.now())
    if not _held(turn).update(lease_until=until):
        raise KeyInUse("The same request was sent again and is carried on there. Send it again to hear of its end.")
    turn.until = until


def answered(turn: Turn, status: int, body: Any) -> None:
    """From now on this is the answer. Nothing happens where somebody else has taken it over: theirs is."""
    _held(turn).update(status=status, answer=body)


def give_back(turn: Turn) -> None:
    """Nothing was done: the key is as if it had never been sent."""
    _held(turn).delete()


def leave(turn: Turn) -> None:
    """It broke off, and part of it may have been done: whoever sends it again goes on at once."""
    with contextlib.suppress(DatabaseError):  # then its lease runs out
        _held(turn).update(lease_until=timezone.now())


def forget_old() -> int:
    """Remove the keys that are kept no longer; how many. The sweep does it."""
    return _old(timezone.now()).delete()[0]


def _held(turn: Turn) -> QuerySet[IdempotencyKey]:
    """Its row, while nobody else has answered it or taken it over: no two leases end in the same microsecond."""
    if turn.until is None:
        return IdempotencyKey.objects.none()
    return IdempotencyKey.objects.filter(pk=turn.id, status=None, lease_until=turn.until)


def _old(now: datetime) -> QuerySet[IdempotencyKey]:
    """Not those under way, however old."""
    kept = timedelta(hours=settings.VISEARCH_IDEMPOTENCY_HOURS)
    return IdempotencyKey.objects.filter(created_at__lt=now - kept, lease_until__lt=now)


def _lease(now: datetime) -> datetime:
    return now + timedelta(seconds=settings.VISEARCH_LEASE_SECONDS)
