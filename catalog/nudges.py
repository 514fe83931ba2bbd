"""Telling workers of work that waits, by the name of a task, so that no stage has to know the tasks.

A nudge that cannot be sent is no loss: what waits is in the database, and the sweep finds it (catalog.tasks).
"""

from __future__ import annotations

import logging

from celery import current_app
from kombu.exceptions import OperationalError as BrokerError

logger = logging.getLogger(__name__)

PROCESS_IMAGES = "catalog.tasks.process_images"
TAKE_IN = "catalog.intake.tasks.take_in"
EXPIRES = 55.0  # seconds: by then the sweep has sent another one


def process_waiting_images() -> None:
    """Have a worker of the queue "vision" process the images that wait."""
    _send(PROCESS_IMAGES)


def fetch_waiting_lines(times: int = 1) -> None:
    """Have so many workers of the queue "intake" fetch the addresses that wait."""
    for _ in range(times):
        _send(TAKE_IN)


def _send(task: str) -> None:
    try:
        current_app.send_task(task, ignore_result=True, expires=EXPIRES)
    except BrokerError as error:
        logger.warning("no nudge for %s, the sweep will send one: %s", task, error)
