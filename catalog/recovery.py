"""Finishing what somebody who died has begun: run by the sweep every minute, safe to run twice at once."""

from __future__ import annotations

import logging
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from catalog import storage
from catalog.models import IntakeLine

logger = logging.getLogger(__name__)


def finish_interrupted_uploads() -> int:
    """Lines still ``receiving`` after a lease: remove the file that has no image, say what to do. Returns how many.

    The line changes first: an upload that is merely slow then finds its line taken and stores nothing
    (catalog.uploads._finish).
    """
    lease = settings.VISEARCH_LEASE_SECONDS
    receiving = IntakeLine.objects.filter(verdict=IntakeLine.Verdict.RECEIVING)
    count = 0
    for line in receiving.filter(created_at__lt=timezone.now() - timedelta(seconds=lease)):
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

    Both or none: whoever dies after removing the file leaves a line that is still to be given up.
    """
    mine = IntakeLine.objects.filter(pk=line.pk, verdict=IntakeLine.Verdict.RECEIVING)
    given_up = mine.update(
        verdict=IntakeLine.Verdict.FAILED,
        code="interrupted",
        reason="Interrupted while the file was being stored. Nothing of it was kept: send it again.",
    )
    if given_up:
        storage.originals().delete(line.reserved_key)
    return bool(given_up)
