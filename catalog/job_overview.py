"""What is said of jobs beside their figures (catalog.overview): their state, what waits, what failed, lines as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import F, Q, QuerySet
from django.utils import timezone

from catalog.duplicates.of_lines import nearest, with_choices
from catalog.models import Image, IntakeJob, IntakeLine
from catalog.overview import finished
from catalog.querysets import CollectionQuerySet, Viewer

LATELY = timedelta(days=1)
FINISHED = "finished"
STATES = (*IntakeJob.State.values, FINISHED)  # that `state_of_job` says


@dataclass(frozen=True, slots=True)
class Waiting:
    """Work for workers: images to process, and addresses to fetch of jobs that run."""

    images: int
    addresses: int


def waiting(collections: CollectionQuerySet) -> Waiting:
    """In these collections."""
    to_process = Image.objects.filter(status__in=[Image.Status.QUEUED, Image.Status.PROCESSING])
    to_fetch = IntakeLine.objects.filter(verdict=IntakeLine.Verdict.WAITING, job__state=IntakeJob.State.RUNNING)
    return Waiting(
        images=to_process.filter(collection__in=collections).count(),
        addresses=to_fetch.exclude(url="").filter(job__collection__in=collections).count(),
    )


def recent_failures(jobs: QuerySet[IntakeJob]) -> QuerySet[IntakeLine]:
    """Lines of these jobs that have failed within LATELY, the latest first."""
    failed = IntakeLine.objects.filter(verdict=IntakeLine.Verdict.FAILED, ended_at__gte=timezone.now() - LATELY)
    return failed.filter(job__in=jobs).select_related("job__collection").order_by("-ended_at", "-id")


def latest_failure(job: IntakeJob) -> IntakeLine | None:
    """The line of this job that failed or was refused last."""
    failed = job.lines.filter(verdict__in=[IntakeLine.Verdict.FAILED, IntakeLine.Verdict.REFUSED])
    return failed.order_by(F("ended_at").desc(nulls_last=True), "-id").first()


def state_of_job(job: IntakeJob, *, total: int, waiting: int) -> str:
    """``running``, ``paused``, ``cancelled`` or ``finished``. One to which nothing has come yet is running."""
    if job.state == IntakeJob.State.RUNNING and total and not waiting:
        return FINISHED
    return job.state


def in_state(jobs: QuerySet[IntakeJob], state: str) -> QuerySet[IntakeJob]:
    """Those of which `state_of_job` says this."""
    if state == FINISHED:
        return finished(jobs)
    jobs = jobs.filter(state=state)
    return jobs.exclude(pk__in=finished(jobs).values("pk")) if state == IntakeJob.State.RUNNING else jobs


# --- Files in folders -------------------------------------------------------------------------------------------------

AT_IT = timedelta(minutes=1)  # a command that brings files takes no longer for one; then nobody does
_COMMANDS = {IntakeJob.Source.FOLDER: "import_folder", IntakeJob.Source.CSV: "import_csv"}


def files_wait(job: IntakeJob) -> str:
    """Where files of a running job come from that wait for a command, as a sentence; "" where there are none."""
    waiting = job.lines.filter(verdict=IntakeLine.Verdict.WAITING).exclude(path="")
    command = _COMMANDS.get(IntakeJob.Source(job.source))
    if not command or job.state != IntakeJob.State.RUNNING or not waiting.exists():
        return ""
    host = f" on {job.begun_on}" if job.begun_on else ""
    return f"Files that lie in a folder come in when “manage.py {command} …” runs again where they lie{host}."


def files_lie_idle(job: IntakeJob) -> str:
    """The same, while no command is at it."""
    now = timezone.now()
    at_it = Q(verdict=IntakeLine.Verdict.RECEIVING) | Q(verdict=IntakeLine.Verdict.WAITING, lease_until__gt=now)
    said = files_wait(job)
    busy = job.lines.exclude(path="").filter(at_it | Q(received_at__gt=now - AT_IT))
    return said if said and not busy.exists() else ""


# --- Lines as a file --------------------------------------------------------------------------------------------------

COLUMNS = ("line", "source", "verdict", "code", "reason", "image", "image_status", "attempts", "looks_like", "distance")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would run


def csv_name(job: IntakeJob) -> str:
    return f"job-{job.created_at:%Y-%m-%d-%H%M}-{job.pk.hex[-6:]}.csv"


def lines_csv(job: IntakeJob, user: Viewer | None) -> Iterator[str]:
    """The lines of a job as CSV, row by row in their order, however many they are.

    What came from outside and begins like a formula begins with an apostrophe here, as spreadsheets want it.
    ``looks_like`` is filled where the user may choose (None: everywhere).
    """
    writer = csv.writer(_Echo())
    yield writer.writerow(COLUMNS)
    lines = with_choices(IntakeLine.objects.filter(job=job).order_by("id"), user)
    for line in lines.iterator(chunk_size=1000):
        image = line.image
        cells = (line.source, line.verdict, line.code, line.reason, image.pk if image else "")
        status = image.status if image else ""
        noted = nearest(line)
        alike = (noted.other_id, noted.distance) if noted else ("", "")
        yield writer.writerow([line.number or "", *map(_harmless, cells), status, line.attempts or "", *alike])


class _Echo:
    """A file for csv.writer, whose writerow then returns the row."""

    def write(self, row: str) -> str:
        return row


def _harmless(cell: object) -> str:
    text = str(cell)
    return f"'{text}" if text.startswith(_FORMULA) else text
