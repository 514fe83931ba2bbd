"""Celery's door to processing. A message is only a nudge: losing or doubling one is harmless."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from uuid import UUID

from celery import shared_task
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection

from catalog import claims, deletion, idempotency, lanes, locks, nudges, recovery, workers
from catalog.duplicates.holding import release_settled
from catalog.intake import holding, lines

logger = logging.getLogger(__name__)

MAX_NUDGES = 8  # a sweep wakes so many processes at most; each drains the queue by itself
DRAIN_SECONDS = 30.0  # a task works on for so long, then lets the other queue have its turn


@shared_task(name=nudges.PROCESS_IMAGES, expires=nudges.EXPIRES)
def process_images(image_id: str | None = None) -> None:
    """Process waiting images, this one first, until none is left or DRAIN_SECONDS are over."""
    if lanes.drain(UUID(image_id) if image_id else None, DRAIN_SECONDS):
        process_images.delay()
    workers.report()  # here, since only these processes run networks; last, since nothing waits for it


@shared_task
def sweep() -> None:
    """What beat does every minute: nudge for what waits, finish what died. Every worker takes it from a queue of its
    own (catalog.queues), so that it waits behind no images.

    Each step fails for itself and is tried again by the next sweep: a storage that is away is no reason not to nudge.
    What takes long, or waits for a storage or a row, is done by one sweep at a time; a later one only nudges. Raises
    what the first step raised that failed, when all have had their turn.
    """
    failed = [
        *_each([_nudge]),
        *_alone("rows", [holding.settle, release_settled, idempotency.forget_old]),
        *_each([process_images.delay]),  # for what was let go; and where nothing waits, workers say that they are there
        *_alone("files", [recovery.finish_interrupted_uploads, deletion.remove_doomed_files]),
    ]
    if failed:
        raise failed[0]


def _alone(what: str, steps: Iterable[Callable[[], object]]) -> list[Exception]:
    """Unless a sweep before this one is still at it. What failed."""
    try:
        with locks.held(f"visearch sweep {what}") as is_ours:
            return _each(steps) if is_ours else []
    except DatabaseError as error:
        return [error]


def _each(steps: Iterable[Callable[[], object]]) -> list[Exception]:
    """What failed."""
    failed: list[Exception] = []
    for step in steps:
        try:
            step()
        except Exception as error:
            logger.exception("a step of the sweep failed: %s", step)
            failed.append(error)
            connection.close_if_unusable_or_obsolete()
    return failed


def _nudge() -> None:
    waiting = claims.waiting_count(MAX_NUDGES * settings.VISEARCH_BATCH)
    for _ in range(-(-waiting // settings.VISEARCH_BATCH)):
        process_images.delay()
    nudges.fetch_waiting_lines(lines.waiting_addresses(MAX_NUDGES))
