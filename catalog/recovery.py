"""Finishing what somebody who died has begun: run by the sweep every minute, safe to run twice at once."""

from __future__ import annotations

import logging
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from catalog import originals, storage
from catalog.models import IntakeLine

logger = logging.getLogger(__name__)

INTERRUPTED = "interrupted"
_SEND_AGAIN = {
    "verdict": IntakeLine.Verdict.FAILED,
    "code": INTERRUPTED,
    "reason": "Interrupted while the file was being stored. Nothing of it was kept: send it again.",
    "ended_at": Now(),
}
_WAITS_AGAIN = {
    "verdict": IntakeLine.Verdict.WAITING,
    "code": INTERRUPTED,
    "reason": "Waiting: it was interrupted while its file was being stored.",
    "reserved_key": "",
    "lease_until": Now(),
    "ended_at": None,
}


def finish_interrupted_uploads() -> int:
    """Lines still ``receiving`` after a lease: remove the file that has no image, say what to do. Returns how many.

    The line changes first: an upload that is merely slow then finds its line taken and stores nothing
    (catalog.uploads._finish).
    """
    lease = settings.VISEARCH_LEASE_SECONDS
    receiving = IntakeLine.objects.filter(verdict=IntakeLine.Verdict.RECEIVING)
    count = 0
    for line in receiving.filter(received_at__lt=timezone.now() - timedelta(seconds=lease)):
        try:
            count += give_up(line)
        except OSError as error:  # its transaction was rolled back: the next sweep tries again
            logger.error("%s cannot be removed from the originals: %s", line.reserved_key, error)
    if count:
        logger.warning("%d interrupted uploads were cleaned up", count)
    storage.sweep_asides(lease)
    return count


@transaction.atomic
def give_up(line: IntakeLine) -> bool:
    """Remove its file and say so in the line, where it is still ``receiving``; whether it was. Raises OSError.

    Both or none: whoever dies after removing the file leaves a line that is still to be given up. A line whose file is
    still where it came from waits again; ``claimed_by`` tells the next one that a worker died on it.
    """
    mine = IntakeLine.objects.filter(pk=line.pk, verdict=IntakeLine.Verdict.RECEIVING, reserved_key=line.reserved_key)
    given_up = mine.update(**(_WAITS_AGAIN if _can_come_again(line) else _SEND_AGAIN))
    if given_up:
        originals.delete(line.reserved_key)
    return bool(given_up)


def _can_come_again(line: IntakeLine) -> bool:
    return bool(line.url or line.path)
