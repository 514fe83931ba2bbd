"""Deleting a job: its lines go, and what a file of it that never came to its end left behind. Its images stay."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from catalog.curation.log import Kind, record
from catalog.intake import holding
from catalog.intake.errors import JobError
from catalog.models import Image, IntakeJob, IntakeLine
from catalog.overview import count_lines

Verdict = IntakeLine.Verdict
STILL_HELD = "Its job was cancelled, and deleted since. Process this image again, or delete it."


@transaction.atomic
def delete(job: IntakeJob, user: User | None = None) -> None:
    """Of a job that is cancelled, or has nothing left to do. Files that are nobody's go after the commit
    (catalog.deletion); what cannot be removed then the sweep removes, and the doctor tells of it.

    Raises JobError for any other job, for one of which a file is arriving or an image is processed for the first time
    in this moment, and for one that is gone.
    """
    # Also against those who add lines, whose foreign key shares a lock that a mere change of its state allows.
    mine = IntakeJob.objects.select_for_update(of=("self",)).filter(pk=job.pk).first()
    if mine is None:
        raise JobError("This job is gone. Its images are kept.")
    _check_may_go(mine)
    holding.hold_left(mine, STILL_HELD)
    if user is not None:
        record(user, mine, f"Deleted with its {mine.lines.count()} lines: {mine.name or mine.source}.", Kind.DELETED)
    mine.delete()


def _check_may_go(job: IntakeJob) -> None:
    count_lines([job])
    if job.state != IntakeJob.State.CANCELLED and job.waiting_count:  # type: ignore[attr-defined]
        raise JobError("Something of this job is still to be done. Cancel it first, or wait for its end.")
    now = timezone.now()
    arriving = Q(verdict=Verdict.RECEIVING, received_at__gt=now - timedelta(seconds=settings.VISEARCH_LEASE_SECONDS))
    fetched = Q(verdict=Verdict.WAITING, lease_until__gt=now) & ~Q(claimed_by="")
    if job.lines.filter(arriving | fetched).exists():
        raise JobError("A file of this job is arriving in this moment. Try again in a minute or two.")
    begun = job.lines.filter(verdict=Verdict.STORED, image__status=Image.Status.PROCESSING, image__processed_at=None)
    if begun.filter(image__lease_until__gt=now).exists():
        raise JobError("An image of this job is being processed in this moment. Try again in a minute or two.")
