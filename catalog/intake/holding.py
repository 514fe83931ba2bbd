"""Images of a job that does not run are held, so that no worker begins them.

The job's row is locked while that changes: first the job, then its images in the order of their keys, then its lines.

Only what was never processed is held: an image that is processed again stays findable until it is done. What a worker
was at when its job was stopped, and gave back or died on, no other begins (``ImageQuerySet.pending``); the sweep holds
it. What waits for somebody's choice is held for that, and for its job once the choice is made (`let_go`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q

from catalog.intake import lines
from catalog.models import Image, IntakeJob, IntakeLine
from catalog.querysets import ImageQuerySet

State, HeldFor = IntakeJob.State, Image.HeldFor
HELD_FOR: dict[str, Image.HeldFor] = {State.PAUSED: HeldFor.PAUSE, State.CANCELLED: HeldFor.CANCEL}
REASONS: dict[str, str] = {
    HeldFor.PAUSE: "Its job is paused. Resume the job, and it is processed.",
    HeldFor.CANCEL: "Its job was cancelled. Retry the job, or process this image again.",
}
STEP = 1000  # rows that are locked and changed by one statement
_STATES_THAT_STAY = "SELECT id, state FROM catalog_intakejob WHERE id = ANY(%s) ORDER BY id FOR SHARE"


def held_for_new(job: IntakeJob) -> str:
    """What an image is held for that this job stores now (of Image.HeldFor); "" where workers may begin it.

    To be asked in the transaction that inserts its row: the job's state does not change before that commits.
    """
    return _held_for([job.pk]).get(job.pk, HeldFor.NOTHING)


def columns_for_new(job: IntakeJob) -> dict[str, str]:
    """`held_for_new` as the columns of the image's row: ``status``, ``held_for``, ``reason``."""
    why = held_for_new(job)
    status = Image.Status.HELD if why else Image.Status.QUEUED
    return {"status": status, "held_for": why, "reason": REASONS.get(why, "")}


def hold(job: IntakeJob, why: Image.HeldFor) -> None:
    """Hold its images that no worker has begun. In the transaction that holds the job's lock."""
    _hold(_images_of(job).filter(status=Image.Status.QUEUED, processed_at=None), why)


def release(job: IntakeJob, why: Image.HeldFor) -> int:
    """Queue those that are held for this; how many. In the transaction that holds the job's lock."""
    return _queue(_images_of(job).filter(status=Image.Status.HELD, held_for=why))


def lock_stored(job: IntakeJob, why: Image.HeldFor, also: Sequence[UUID]) -> None:
    """Lock the images that `release` would queue, and others, in one order: whoever changes both waits only here."""
    held = _images_of(job).filter(status=Image.Status.HELD, held_for=why)
    Image.objects.filter(Q(pk__in=held.values("pk")) | Q(pk__in=also)).lock()


def hold_left(job: IntakeJob, reason: str) -> None:
    """Of a job whose lines go: what is held since it was cancelled, and what a worker has given back or died on
    since, which nobody would know for the job's any more, is held and says ``reason``. In the transaction that holds
    the job's lock.
    """
    mine = _images_of(job)
    keys = {*mine.filter(held_for=HeldFor.CANCEL).values_list("pk", flat=True)}
    keys |= {*mine.abandoned().values_list("pk", flat=True)}
    rows = Image.objects.filter(pk__in=keys)
    rows.lock()
    _set_held(list(rows.abandoned().values_list("pk", flat=True)), HeldFor.CANCEL)
    rows.filter(held_for=HeldFor.CANCEL).update(reason=reason)


# --- What is held for something else ----------------------------------------------------------------------------------


def lock_jobs_of(images: Collection[UUID]) -> dict[UUID, Image.HeldFor]:
    """What these images are held for by the jobs that stored them; of jobs that run, or are gone, they are not here.

    No state of these jobs changes before the transaction ends. Ask before the images are locked.
    """
    stored = IntakeLine.objects.filter(image__in=images, verdict=IntakeLine.Verdict.STORED)
    jobs = dict(stored.order_by("id").values_list("image", "job"))
    why = _held_for(jobs.values())
    return {image: why[job] for image, job in jobs.items() if job in why}


def let_go(images: ImageQuerySet) -> int:
    """Queue held images, or hold them for their job where that does not run; how many.

    ``images`` says what they are held for until then, so that what is let go is no longer among them.
    """
    count = 0
    while keys := list(images.order_by("pk").values_list("pk", flat=True)[:STEP]):
        with transaction.atomic():
            stopped = lock_jobs_of(keys)
            ours = images.filter(pk__in=keys).lock_keys()
            for why in set(stopped.values()):
                _set_held([key for key in ours if stopped.get(key) == why], why)
            _set_queued([key for key in ours if key not in stopped])
        count += len(ours)
    return count


# --- Settled by the sweep ---------------------------------------------------------------------------------------------


def settle() -> None:
    """Hold what workers were at when its job was stopped, and have given back or died on; cancel such lines.

    And the other way round: what is held for a job that is no longer stopped, or not for that, is as its job says; what
    is held for a pause and belongs to no job is queued.
    """
    for key in sorted(_unsettled_jobs()):
        with transaction.atomic():
            job = locked(key)
            if job is not None:
                _settle(job)
    nobodys = Image.objects.filter(status=Image.Status.HELD, held_for=HeldFor.PAUSE).filter(~_stored_by_a_job())
    with transaction.atomic():
        _queue(nobodys)


def locked(job: UUID) -> IntakeJob | None:
    """The job as it is now, and stays until the end of this transaction; None where it is gone."""
    return IntakeJob.objects.select_for_update(no_key=True, of=("self",)).filter(pk=job).first()


def _unsettled_jobs() -> set[UUID]:
    """Perhaps: who has locked one looks again."""
    stored = IntakeLine.objects.filter(verdict=IntakeLine.Verdict.STORED)
    found = [stored.filter(job__state__in=HELD_FOR, image__in=Image.objects.abandoned())]
    for state, why in HELD_FOR.items():
        held = Image.objects.filter(status=Image.Status.HELD, held_for=why)
        found.append(stored.filter(image__in=held).exclude(job__state=state))
    found.append(IntakeLine.objects.filter(verdict=IntakeLine.Verdict.WAITING, job__state=State.CANCELLED))
    return {key for some in found for key in some.order_by().values_list("job", flat=True).distinct()}


def _settle(job: IntakeJob) -> None:
    images, why = _images_of(job), HELD_FOR.get(job.state)
    for other in HELD_FOR.values():
        if other != why:
            wrong = images.filter(status=Image.Status.HELD, held_for=other)
            _hold(wrong, why) if why else _queue(wrong)
    if why:
        _hold(images.abandoned(), why)
    if job.state == State.CANCELLED:
        lines.cancel(job.lines.all())


def _stored_by_a_job() -> Exists:
    """For images: whether any job has stored them."""
    return Exists(IntakeLine.objects.filter(image=OuterRef("pk"), verdict=IntakeLine.Verdict.STORED))


# --- Rows -------------------------------------------------------------------------------------------------------------


def _held_for(jobs: Iterable[UUID]) -> dict[UUID, Image.HeldFor]:
    """Of these jobs those that do not run. Their states stay as they are until the end of the transaction."""
    with connection.cursor() as cursor:
        cursor.execute(_STATES_THAT_STAY, [sorted(set(jobs))])
        return {job: HELD_FOR[state] for job, state in cursor.fetchall() if state in HELD_FOR}


def _images_of(job: IntakeJob) -> ImageQuerySet:
    """Those that it stored; what was there before is another job's."""
    stored = job.lines.filter(verdict=IntakeLine.Verdict.STORED, image__isnull=False)
    return Image.objects.filter(pk__in=stored.values("image"))


def _hold(images: ImageQuerySet, why: Image.HeldFor) -> None:
    for keys in _in_steps(images):
        _set_held(keys, why)


def _queue(images: ImageQuerySet) -> int:
    count = 0
    for keys in _in_steps(images):
        _set_queued(keys)
        count += len(keys)
    return count


def _set_held(keys: Iterable[UUID], why: Image.HeldFor) -> None:
    Image.objects.filter(pk__in=keys).update(
        status=Image.Status.HELD, held_for=why, reason=REASONS[why], claimed_by="", lease_until=None
    )


def _set_queued(keys: Iterable[UUID]) -> None:
    Image.objects.filter(pk__in=keys).update(
        status=Image.Status.QUEUED, held_for=HeldFor.NOTHING, reason="", attempts=0, lease_until=None
    )


def _in_steps(images: ImageQuerySet) -> Iterator[list[UUID]]:
    """The keys of these rows, locked, STEP at a time. Which they are is asked once: asked anew, each step would walk
    over all that those before it have changed."""
    keys = list(images.order_by("pk").values_list("pk", flat=True))
    for start in range(0, len(keys), STEP):
        yield images.filter(pk__in=keys[start : start + STEP]).lock_keys()
