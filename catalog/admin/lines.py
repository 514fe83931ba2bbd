"""Lines and progress of a job as its page and its JSON show them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.urls import reverse

from catalog import broker
from catalog.api.serializers import IntakeLineSerializer
from catalog.models import Image, IntakeJob, IntakeLine
from catalog.overview import JobProgress, progress_of

THUMBNAIL = 320
Verdict, Status = IntakeLine.Verdict, Image.Status

# state -> what the page says of it. The states are verdicts, and of stored files the status of their image.
STATES: dict[str, str] = {
    Verdict.RECEIVING: "arriving",
    Verdict.DUPLICATE: "already here",
    Verdict.REFUSED: "refused",
    Verdict.FAILED: "failed",
    Status.HELD: "stored, held back",
    Status.QUEUED: "stored, waiting",
    Status.PROCESSING: "stored, processing",
    Status.READY: "ready",
    "deleted": "deleted since",
}
UNFINISHED = frozenset({Verdict.RECEIVING.value, Status.QUEUED.value, Status.PROCESSING.value})


def state_of(line: IntakeLine) -> str:
    if line.verdict != Verdict.STORED:
        return line.verdict
    return line.image.status if line.image else "deleted"


def row(line: IntakeLine) -> dict[str, Any]:
    """What the API says of a line, and what the page needs beside it."""
    state = state_of(line)
    image = line.image
    waits_for = image.reason if image and state == Status.QUEUED else ""
    return {
        **IntakeLineSerializer(line).data,
        "image": str(image.pk) if image else None,
        "id": str(line.pk),
        "job": str(line.job_id),
        "state": state,
        "says": STATES[state],
        "why": line.reason or waits_for,
        "finished": state not in UNFINISHED,
        "url": image_url(image.pk) if image else "",
        "thumbnail": thumbnail_url(image) if image else "",
    }


def image_url(pk: UUID) -> str:
    return reverse("admin:catalog_image_change", args=[pk])


def thumbnail_url(image: Image) -> str:
    """Empty where there is no smaller copy yet."""
    return reverse("image-rendition", args=[image.pk, THUMBNAIL]) if image.is_findable else ""


def rows(lines: Iterable[IntakeLine]) -> list[dict[str, Any]]:
    return [row(line) for line in lines]


def progress_row(job: IntakeJob) -> dict[str, Any]:
    """Figures and words of a job's progress."""
    progress = progress_of(job)
    return {
        "total": progress.total,
        "finished": progress.finished,
        "waiting": progress.waiting,
        "counts": _counts(progress),
        "pace": _pace(progress),
        "notice": broker.AWAY if broker.is_away() else "",
    }


def _counts(progress: JobProgress) -> list[dict[str, Any]]:
    """Only what there is any of."""
    verdicts, statuses = progress.verdicts, progress.statuses
    figures = [
        ("ready", statuses.get(Status.READY, 0)),
        ("waiting", progress.waiting),
        ("already here", verdicts.get(Verdict.DUPLICATE, 0)),
        ("refused", verdicts.get(Verdict.REFUSED, 0)),
        ("failed", verdicts.get(Verdict.FAILED, 0)),
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
