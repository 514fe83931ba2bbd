"""Celery's door to processing. A message is only a nudge: losing or doubling one is harmless."""

from __future__ import annotations

from uuid import UUID

from celery import shared_task
from django.conf import settings

from catalog import claims, deletion, lanes, recovery, workers

MAX_NUDGES = 8  # a sweep wakes so many processes at most; each drains the queue by itself
DRAIN_SECONDS = 30.0  # a task works on for so long, then lets the other queue have its turn


@shared_task
def process_images(image_id: str | None = None) -> None:
    """Process waiting images, this one first, until none is left or DRAIN_SECONDS are over."""
    if lanes.drain(UUID(image_id) if image_id else None, DRAIN_SECONDS):
        process_images.delay()


@shared_task
def sweep() -> None:
    """What beat does every minute: finish what died, nudge for what waits."""
    recovery.finish_interrupted_uploads()
    deletion.remove_doomed_files()
    batches = -(-claims.waiting_count() // settings.VISEARCH_BATCH)
    for _ in range(min(batches, MAX_NUDGES)):
        process_images.delay()
    workers.report()  # last: nothing waits for it
