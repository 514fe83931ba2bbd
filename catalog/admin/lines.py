"""Lines and progress of a job as its page and its JSON show them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.timezone import localtime

from catalog import broker
from catalog.admin.job_actions import job_url
from catalog.api.serializers import IntakeLineSerializer
from catalog.duplicates.of_lines import count_alike, nearest
from catalog.duplicates.words import likeness
from catalog.intake import jobs
from catalog.job_overview import FINISHED, files_lie_idle, latest_failure, state_of_job
from catalog.models import Image, IntakeJob, IntakeLine, NearDuplicate
from catalog.overview import JobProgress, progress_of, waiting_reasons

THUMBNAIL = 320
Verdict, Status, HeldFor = IntakeLine.Verdict, Image.Status, Image.HeldFor
JobState = IntakeJob.State
RESTING, FETCHING = "resting", "fetching"  # of a waiting line: until a moment that it names; by a worker, now

# state -> what the page says of it. The states are verdicts, and of stored files the status of their image.
STATES: dict[str, str] = {
    Verdict.WAITING: "waiting",
    RESTING: "resting",
    FETCHING: "fetching",
    Verdict.RECEIVING: "arriving",
    Verdict.DUPLICATE: "already here",
    Verdict.REFUSED: "refused",
    Verdict.FAILED: "failed",
    Verdict.CANCELLED: "cancelled",
    Status.HELD: "stored, held back",
    Status.QUEUED: "stored, waiting",
    Status.PROCESSING: "stored, processing",
    Status.READY: "ready",
    "deleted": "deleted since",
}
HELD = {
    HeldFor.PAUSE: "stored, paused",
    HeldFor.CANCEL: "stored, not processed",
    HeldFor.NEAR_DUPLICATE: "stored, looks like another",
}
JOB_STATES = {
    JobState.RUNNING: "Running",
    JobState.PAUSED: "Paused: nothing more is begun until somebody resumes it.",
    JobState.CANCELLED: "Cancelled: what was not begun is left.",
    FINISHED: "Finished",
}
FAILURES = (Verdict.REFUSED, Verdict.FAILED)
ENDED_BADLY = (*FAILURES, Verdict.CANCELLED)
UNFINISHED = frozenset(
    {Verdict.WAITING.value, RESTING, FETCHING, Verdict.RECEIVING.value, Status.QUEUED.value, Status.PROCESSING.value}
)


def state_of(line: IntakeLine) -> str:
    if line.rests_until:
        return RESTING
    if line.is_claimed:
        return FETCHING
    if line.verdict != Verdict.STORED:
        return line.verdict
    return line.image.status if line.image else "deleted"


def row(line: IntakeLine, user: User) -> dict[str, Any]:
    """What the API says of a line, and what the page needs beside it. The line is one of `of_lines.with_choices`."""
    state = state_of(line)
    image = line.image
    waits_for = image.reason if image and state in (Status.QUEUED, Status.HELD) else ""
    noted = nearest(line)
    return {
        **IntakeLineSerializer(line).data,
        "image": str(image.pk) if image else None,
        "id": str(line.pk),
        "job": str(line.job_id),
        "state": state,
        "says": _says(line, state),
        "why": line.reason or waits_for or (_looks_like(noted) if noted else ""),
        "number": line.number,
        "finished": state not in UNFINISHED,
        "url": image_url(image.pk) if image else "",
        "thumbnail": thumbnail_url(image) if image else "",
        "choose": choices_url(user, image=noted.image_id) if noted else "",
    }


def _looks_like(noted: NearDuplicate) -> str:
    return f"It looks like {noted.other} ({likeness(noted.distance, noted.is_mirrored)})."


def _says(line: IntakeLine, state: str) -> str:
    if state == RESTING and line.rests_until:
        return f"waits until {localtime(line.rests_until):%H:%M:%S}"
    if state == Status.HELD and line.image:
        return HELD.get(HeldFor(line.image.held_for), STATES[state])
    return STATES[state]


def image_url(pk: UUID) -> str:
    return reverse("admin:catalog_image_change", args=[pk])


def thumbnail_url(image: Image) -> str:
    """Empty where there is no smaller copy yet."""
    return reverse("image-rendition", args=[image.pk, THUMBNAIL]) if image.is_findable else ""


def choices_url(user: User, **about: UUID) -> str:
    """Where somebody chooses about near duplicates of a ``job``, ``image`` or ``collection``; empty for who may not."""
    if not user.has_perm("catalog.change_image"):
        return ""
    asked = urlencode({name: str(key) for name, key in about.items()})
    return f"{reverse('admin:catalog_nearduplicate_changelist')}?{asked}"


def rows(lines: Iterable[IntakeLine], user: User) -> list[dict[str, Any]]:
    return [row(line, user) for line in lines]


def progress_row(job: IntakeJob, user: User) -> dict[str, Any]:
    """Figures and words of a job's progress."""
    progress = progress_of(job)
    state = state_of_job(job, total=progress.total, waiting=progress.waiting)
    return {
        "state": state,
        "says": JOB_STATES[state],
        "may": _may(job, state, progress),
        "total": progress.total,
        "finished": progress.finished,
        "waiting": progress.waiting,
        "counts": [*_counts(job, progress), *_alike(job, user)],
        "pace": _pace(progress),
        "notice": broker.AWAY if broker.is_away() else files_lie_idle(job),
        "reasons": waiting_reasons(job) if progress.waiting else [],
        "failure": _failure(job, progress),
    }


def _alike(job: IntakeJob, user: User) -> list[dict[str, Any]]:
    number = count_alike(job, user)
    words = "looks like another: choose" if number == 1 else "look like others: choose"
    return [{"name": words, "number": number, "url": choices_url(user, job=job.pk)}] if number else []


def _failure(job: IntakeJob, progress: JobProgress) -> dict[str, str] | None:
    """The latest line that failed or was refused, and where all like it are."""
    line = latest_failure(job) if any(progress.verdicts.get(each) for each in FAILURES) else None
    if line is None:
        return None
    return {"words": f"{line.source}: {line.reason}", "url": f"{job_url(job.pk)}?verdict={line.verdict}"}


def _may(job: IntakeJob, state: str, progress: JobProgress) -> dict[str, bool]:
    """Which actions (catalog.admin.job_actions) could do anything now."""
    is_running = state == JobState.RUNNING and progress.waiting > 0
    return {
        "pause": is_running,
        "resume": state == JobState.PAUSED,
        "cancel": is_running or state == JobState.PAUSED,
        "retry": state != JobState.PAUSED and _has_ended_badly(progress) and jobs.can_retry(job) > 0,
        "delete": progress.waiting == 0 or state == JobState.CANCELLED,
    }


def _has_ended_badly(progress: JobProgress) -> bool:
    """Whether it is worth asking in detail, which costs more the longer the job is."""
    return Status.HELD in progress.statuses or any(progress.verdicts.get(each) for each in ENDED_BADLY)


def _counts(job: IntakeJob, progress: JobProgress) -> list[dict[str, Any]]:
    """Only what there is any of. What waits is told apart by who it waits for: those who fetch, or who process."""
    verdicts, statuses = progress.verdicts, progress.statuses
    figures = [
        ("ready", statuses.get(Status.READY, 0)),
        ("to take in" if job.begun_on else "to fetch", verdicts.get(Verdict.WAITING, 0)),
        ("arriving", verdicts.get(Verdict.RECEIVING, 0)),
        ("to process", statuses.get(Status.QUEUED, 0)),
        ("processing", statuses.get(Status.PROCESSING, 0)),
        ("already here", verdicts.get(Verdict.DUPLICATE, 0)),
        ("refused", verdicts.get(Verdict.REFUSED, 0)),
        ("failed", verdicts.get(Verdict.FAILED, 0)),
        ("cancelled", verdicts.get(Verdict.CANCELLED, 0)),
        ("held back", statuses.get(Status.HELD, 0)),
        ("deleted since", statuses.get("deleted", 0)),
    ]
    return [{"name": name, "number": number} for name, number in figures if number]


def _pace(progress: JobProgress) -> str:
    if progress.rate is None:
        resting = "nothing was processed in the last minutes" if progress.finished else "not begun"
        return resting if progress.waiting else ""
    pace = f"{progress.rate:.1f} images a second" if progress.rate >= 1 else f"{progress.rate * 60:.0f} images a minute"
    if progress.seconds_left is None:
        return pace
    return f"{pace}, about {_duration(progress.seconds_left)} left"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
