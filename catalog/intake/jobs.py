"""Jobs: planned with all their lines, paused, resumed, cancelled, tried again. Safe to do twice, and by two at once.

Whoever changes a job's state locks its row first, then its images, then its lines; who begins one, or deletes a whole
collection, locks the collection before them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from catalog import claims, nudges
from catalog.curation.log import record
from catalog.fetching import host_of
from catalog.intake import holding, lines
from catalog.intake.errors import JobError
from catalog.models import Collection, Image, IntakeJob, IntakeLine
from catalog.uploads import clean, process_again, source_of
from catalog.vision import registry
from catalog.vision.normalising import check_rule

State, Verdict, HeldFor = IntakeJob.State, IntakeLine.Verdict, Image.HeldFor
PLANNED_AT_ONCE = 1000  # lines in one statement

# Refusals that somebody may have mended since: by the server, by an entry of VISEARCH_FETCH_ALLOW, in the folder.
WORTH_ASKING_AGAIN = (
    *("not-found", "access-denied", "request-refused", "unexpected-status", "certificate-invalid"),
    *("address-not-public", "port-not-allowed"),
    *("unreadable", "not-a-file"),
)
CANCELLED = "This job was cancelled. Retry it: that takes up what was cancelled."


@dataclass(frozen=True, slots=True)
class PlannedLine:
    """A file that is to come: from ``url``, which workers fetch, or from ``path``, which a command opens.

    ``source``: what it is called in lists; ``number``: of its line in the list, from 1. ``facts``: fields of
    catalog.uploads.ImageFacts, as JSON has them. ``image_id``: the image that the collection has of it already; then
    the line is a duplicate at once, and ``reason`` says why. ``code``: it is refused at once, for that ``reason``.
    """

    source: str
    number: int | None = None
    url: str = ""
    path: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    person_name: str = ""
    image_id: UUID | None = None
    reason: str = ""
    code: str = ""

    def line(self, job: IntakeJob) -> IntakeLine:
        verdict = self._verdict()
        return IntakeLine(
            job=job,
            number=self.number,
            source=source_of(self.source),
            url=self.url,
            host=host_of(self.url)[:255] if self.url else "",
            path=self.path,
            facts=dict(self.facts),
            person_name=self.person_name,
            verdict=verdict,
            image_id=self.image_id,
            code=self.code,
            reason=self.reason,
            ended_at=None if verdict == Verdict.WAITING else timezone.now(),
        )

    def _verdict(self) -> IntakeLine.Verdict:
        if self.code:
            return Verdict.REFUSED
        return Verdict.DUPLICATE if self.image_id else Verdict.WAITING


# --- Planned ----------------------------------------------------------------------------------------------------------


def create(
    collection: Collection,
    source: str,
    planned: Iterable[PlannedLine],
    *,
    name: str = "",
    normalise: str = "",
    digest: str = "",
    begun_on: str = "",
    user: User | None = None,
    job_id: UUID | None = None,
) -> IntakeJob:
    """A running job with all these lines, or nothing; on commit a nudge to the workers.

    ``source``: of IntakeJob.Source. ``normalise``: a rule of catalog.vision.normalising, or "". ``digest``: sha256 of
    what the lines were made of (see `unfinished`). ``begun_on``: the host where their files lie. A job that has this
    ``job_id`` already is returned as it is, so that a form sent twice makes one. Raises JobError for a rule that is
    none, for a job of this id that is another's, and for a collection that is gone.
    """
    job = IntakeJob(
        collection=collection,
        source=source,
        name=clean(name)[:255],
        normalise=checked_rule(normalise),
        digest=digest,
        begun_on=begun_on,
        started_by=user,
    )
    if job_id is not None:
        job.pk = job_id
    try:
        with transaction.atomic():
            job.save(force_insert=True)
            _plan(job, planned)
            connection.check_constraints()  # here, not by the COMMIT of whoever calls within a transaction
            transaction.on_commit(nudges.fetch_waiting_lines)
    except IntegrityError as error:
        return _made_before(job, error)
    return job


def add_lines(job: IntakeJob, planned: Iterable[PlannedLine]) -> int:
    """Plan more of a job that exists; how many."""
    with transaction.atomic():
        return _plan(job, planned)


def _plan(job: IntakeJob, planned: Iterable[PlannedLine]) -> int:
    count = 0
    rows = (each.line(job) for each in planned)
    while batch := list(islice(rows, PLANNED_AT_ONCE)):
        count += len(IntakeLine.objects.bulk_create(batch))
    return count


def _made_before(job: IntakeJob, error: IntegrityError) -> IntakeJob:
    """The job that the same form made when it was sent before."""
    made = IntakeJob.objects.filter(pk=job.pk).first()
    if made is None:
        raise JobError("The collection is gone, or an image that the list found in it. Begin it again.") from error
    if (made.collection_id, made.started_by_id, made.source) != (job.collection_id, job.started_by_id, job.source):
        raise JobError("A job of this id exists already, and it is another one. Load the page again.")
    return made


def checked_rule(normalise: str) -> str:
    """Raises JobError for what is no rule of catalog.vision.normalising, or makes more pixels than are taken here."""
    try:
        check_rule(normalise, registry.limits().pixels)
    except ValueError as error:
        raise JobError(str(error)) from error
    return normalise


@transaction.atomic
def begin_or_go_on(
    collection: Collection,
    source: str,
    planned: Callable[[], Iterable[PlannedLine]],
    *,
    digest: str,
    is_same: Callable[[IntakeJob], bool] = lambda job: True,
    name: str = "",
    normalise: str = "",
    begun_on: str = "",
    user: User | None = None,
    job_id: UUID | None = None,
) -> tuple[IntakeJob, bool]:
    """`create`, and True; or the unfinished job of the same list (``digest``), collection and rule, and False.

    ``is_same``: whether one that was found is of what is here, where ``digest`` alone cannot tell. Two who begin the
    same list at once get one job: the collection stays locked until the end of the transaction.
    """
    list(Collection.objects.select_for_update(no_key=True).filter(pk=collection.pk).values_list("pk"))
    for job in unfinished(collection, source, digest, normalise):
        if is_same(job):
            return job, False
    columns: dict[str, Any] = {"name": name, "normalise": normalise, "digest": digest, "begun_on": begun_on}
    return create(collection, source, planned(), **columns, user=user, job_id=job_id), True


def unfinished(collection: Collection, source: str, digest: str, normalise: str) -> QuerySet[IntakeJob]:
    """Jobs of the same list that have lines which wait or are under way, the newest first; none that was cancelled."""
    begun = IntakeLine.objects.filter(verdict__in=[Verdict.WAITING, Verdict.RECEIVING])
    jobs = IntakeJob.objects.filter(collection=collection, source=source, digest=digest, normalise=normalise)
    return jobs.exclude(state=State.CANCELLED).filter(pk__in=begun.values("job")).order_by("-id")


def take_up_again(job: IntakeJob, user: User | None = None) -> int:
    """What failed of an unfinished job whose list or folder is given once more waits again; how many lines.

    As `retry_failed`, and files that lie in a folder also where they were refused: they may have been saved anew. Of a
    job that does not run nothing. In the transaction that began it: the job stays locked. Raises JobError where the
    job is gone.
    """
    mine = _locked(job)
    if mine.state != State.RUNNING:
        return 0
    again = process_again(_failed_images(mine))
    refused = mine.lines.filter(verdict=Verdict.REFUSED).exclude(path="")
    again += _bring_again(_to_bring_again(mine)) + _bring_again(refused)
    if again:
        transaction.on_commit(nudges.fetch_waiting_lines)
        if user is not None:
            record(user, mine, f"Given again: {again} lines are tried again.")
    return again


# --- Paused, resumed, cancelled, tried again --------------------------------------------------------------------------


@transaction.atomic
def pause(job: IntakeJob, user: User | None = None) -> IntakeJob:
    """No waiting line is begun, no queued image processed (held, for pause); what is under way finishes.

    Raises JobError for a cancelled job, and for one that is gone.
    """
    mine = _locked(job)
    if mine.state == State.CANCELLED:
        raise JobError(CANCELLED)
    if mine.state == State.RUNNING:
        _set(mine, State.PAUSED, user, "Paused.")
        holding.hold(mine, HeldFor.PAUSE)
    return mine


@transaction.atomic
def resume(job: IntakeJob, user: User | None = None) -> IntakeJob:
    """Undoes `pause`. Raises JobError for a cancelled job, and for one that is gone."""
    mine = _locked(job)
    if mine.state == State.CANCELLED:
        raise JobError(CANCELLED)
    if mine.state == State.PAUSED:
        _set(mine, State.RUNNING, user, "Resumed.")
        holding.release(mine, HeldFor.PAUSE)
        _nudge_on_commit()
    return mine


@transaction.atomic
def cancel(job: IntakeJob, user: User | None = None) -> IntakeJob:
    """Waiting lines are cancelled, images that no worker has begun are held (for cancel). `retry_failed` undoes it.

    Raises JobError for a job that is gone.
    """
    mine = _locked(job)
    if mine.state != State.CANCELLED:
        holding.release(mine, HeldFor.PAUSE)  # to be held for another reason in the next moment
        _set(mine, State.CANCELLED, user, "Cancelled.")
        holding.hold(mine, HeldFor.CANCEL)
        lines.cancel(mine.lines.all())
    return mine


@transaction.atomic
def retry_failed(job: IntakeJob, user: User | None = None) -> int:
    """Once more what has failed, was cancelled, or was refused for a reason that may have passed; how many lines.

    Images whose processing failed are processed again, those that were held for cancel are queued. What was sent with a
    request cannot be had again: such lines stay as they are (send the file again). A cancelled job runs again. Raises
    JobError for a paused job, and for one that is gone.
    """
    mine = _locked(job)
    if mine.state == State.PAUSED:
        raise JobError("This job is paused. Resume it first.")
    failed = _failed_images(mine)
    holding.lock_stored(mine, HeldFor.CANCEL, failed)
    again = process_again(failed)
    again += holding.release(mine, HeldFor.CANCEL)
    again += _bring_again(_to_bring_again(mine))
    if again or mine.state == State.CANCELLED:
        _set(mine, State.RUNNING, user, f"Retried: {again} lines.")
        _nudge_on_commit()
    return again


def can_retry(job: IntakeJob) -> int:
    """How many lines `retry_failed` would take up."""
    held = job.lines.filter(image__status=Image.Status.HELD, image__held_for=HeldFor.CANCEL, verdict=Verdict.STORED)
    return _to_bring_again(job).count() + _processing_failed(job).count() + held.count()


def _to_bring_again(job: IntakeJob) -> QuerySet[IntakeLine]:
    """Lines whose file is still where it was, and has to come once more."""
    failed = Q(verdict__in=[Verdict.FAILED, Verdict.CANCELLED]) & (
        ~Q(code=claims.PROCESSING_FAILED) | Q(image__isnull=True)
    )
    refused = Q(verdict=Verdict.REFUSED, code__in=WORTH_ASKING_AGAIN)
    return job.lines.filter(failed | refused).exclude(url="", path="")


def _bring_again(ended: QuerySet[IntakeLine]) -> int:
    """Untried, as when they were planned; how many."""
    return ended.update(
        verdict=Verdict.WAITING,
        code="",
        reason="",
        image=None,
        attempts=0,
        slow_downs=0,
        claimed_by="",
        lease_until=None,
        reserved_key="",
        ended_at=None,
    )


def _failed_images(job: IntakeJob) -> list[UUID]:
    return [image for image in _processing_failed(job).values_list("image", flat=True) if image]


def _processing_failed(job: IntakeJob) -> QuerySet[IntakeLine]:
    """Lines whose image is there, and was not made searchable."""
    return job.lines.filter(verdict=Verdict.FAILED, code=claims.PROCESSING_FAILED, image__status=Image.Status.FAILED)


def _locked(job: IntakeJob) -> IntakeJob:
    """The job as it is now, and stays until the end of this transaction. Raises JobError where it is gone."""
    mine = holding.locked(job.pk)
    if mine is None:
        raise JobError("This job is gone. Its images are kept.")
    return mine


def _set(job: IntakeJob, state: str, user: User | None, said: str) -> None:
    job.state = state
    job.save(update_fields=["state"])
    if user is not None:
        record(user, job, said)


def _nudge_on_commit() -> None:
    transaction.on_commit(nudges.process_waiting_images)
    transaction.on_commit(nudges.fetch_waiting_lines)
