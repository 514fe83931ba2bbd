"""The files of one request: a job, a line for each file by its place, gone on with where an earlier try broke off."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO
from uuid import UUID

from django.utils import timezone

from catalog import recovery
from catalog.exceptions import StorageUnavailable
from catalog.models import Collection, IntakeJob, IntakeLine
from catalog.uploads import Arrival, ImageFacts, receive_many, source_of

logger = logging.getLogger(__name__)

Verdict = IntakeLine.Verdict
ENDED = (Verdict.STORED, Verdict.DUPLICATE, Verdict.REFUSED)


@dataclass(frozen=True, slots=True)
class Sent:
    """A file of a request: its place there, from 1."""

    number: int
    file: BinaryIO
    name: str


def job_of(pk: UUID, collection: Collection, user_id: int) -> IntakeJob:
    """The job of this id: an earlier try may have made it."""
    facts = {"collection": collection, "source": IntakeJob.Source.API, "started_by_id": user_id}
    return IntakeJob.objects.get_or_create(pk=pk, defaults=facts)[0]


def numbered(files: Sequence[tuple[BinaryIO, str]]) -> list[Sent]:
    return [Sent(number, file, name) for number, (file, name) in enumerate(files, start=1)]


def receive_batch(job: IntakeJob, batch: Sequence[Sent], facts: ImageFacts) -> list[IntakeLine]:
    """The lines of these files, in their order. A file that came to its end in an earlier try is not received again.

    Raises StorageUnavailable where what an earlier try left cannot be removed.
    """
    known = _lines(job, batch)
    todo = [each for each in batch if not _is_finished(known.get(each.number))]
    for each in todo:
        if each.number in known:
            _give_up(known[each.number])
    arrivals = [Arrival(each.file, each.name, facts, line=known.get(each.number) or _line(job, each)) for each in todo]
    received = {line.number: line for line in receive_many(job, arrivals)}
    return [received.get(each.number) or known[each.number] for each in batch]


def fail_batch(job: IntakeJob, batch: Sequence[Sent], code: str, reason: str) -> None:
    """Say of files that could not be received why."""
    known = _lines(job, batch)
    said = {"verdict": Verdict.FAILED, "code": code, "reason": reason, "ended_at": timezone.now()}
    IntakeLine.objects.bulk_create(
        IntakeLine(job=job, number=each.number, source=source_of(each.name), **said)
        for each in batch
        if each.number not in known
    )
    # What is being received is for whoever does it to end, or for the sweep: there may be a file.
    failed = [line.pk for line in known.values() if not _is_finished(line)]
    IntakeLine.objects.filter(pk__in=failed, verdict=Verdict.FAILED).update(**said)


def _give_up(line: IntakeLine) -> None:
    try:
        recovery.give_up(line)
    except OSError as error:
        logger.error("%s cannot be removed from the originals: %s", line.reserved_key, error)
        raise StorageUnavailable("What an earlier try left cannot be removed now. Send it again later.") from error


def _lines(job: IntakeJob, batch: Sequence[Sent]) -> dict[int | None, IntakeLine]:
    return {line.number: line for line in job.lines.filter(number__in=[each.number for each in batch])}


def _line(job: IntakeJob, sent: Sent) -> IntakeLine:
    return IntakeLine(job=job, number=sent.number, source=source_of(sent.name))


def _is_finished(line: IntakeLine | None) -> bool:
    return line is not None and (line.image_id is not None or line.verdict in ENDED)
