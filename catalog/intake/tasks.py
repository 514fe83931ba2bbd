"""Celery's door to the queue "intake". A message is only a nudge: losing or doubling one is harmless."""

from __future__ import annotations

from celery import shared_task

from catalog import nudges
from catalog.intake.fetching_lines import take_in as fetch_lines

TURN_SECONDS = 30.0  # a task works on for so long; then it sends the next one


@shared_task(name=nudges.TAKE_IN)
def take_in() -> None:
    """Fetch the addresses that wait, until none is left or TURN_SECONDS are over."""
    if fetch_lines(TURN_SECONDS):
        nudges.fetch_waiting_lines()
