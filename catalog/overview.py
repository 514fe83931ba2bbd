"""Figures that are shown beside collections, images and jobs, each in a number of queries that no row adds to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Exists, Model, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone

from catalog.claims import PROCESSING_FAILED
from catalog.models import Image, IntakeJob, IntakeLine, Region
from catalog.querysets import CollectionQuerySet, ImageQuerySet
from catalog.regions import FACE

RECENT = timedelta(minutes=2)  # how long back the pace of a job is measured
WAITING = (Image.Status.QUEUED, Image.Status.PROCESSING)
Verdict = IntakeLine.Verdict
UNFINISHED = (Verdict.WAITING, Verdict.RECEIVING)
FINAL = (Verdict.STORED, Verdict.DUPLICATE, Verdict.REFUSED, Verdict.FAILED, Verdict.CANCELLED)
ENDED_AT_THE_DOOR = (Verdict.DUPLICATE, Verdict.REFUSED, Verdict.FAILED)
MOST_REASONS = 20


def _count(rows: QuerySet[Model], by: str) -> Coalesce:
    """How many ``rows`` point at the outer row by their field ``by``."""
    counted = rows.filter(**{by: OuterRef("pk")}).order_by().values(by).annotate(n=Count("pk")).values("n")
    return Coalesce(Subquery(counted), 0)


def _faces() -> QuerySet[Region]:
    return Region.objects.filter(pipeline=FACE, dismissed=False)


def with_counts(collections: CollectionQuerySet) -> CollectionQuerySet:
    """Adds ``image_count``, ``face_count``, ``unnamed_count`` (of faces that nobody dismissed) and ``failed_count``."""
    return collections.annotate(
        image_count=_count(Image.objects.all(), "collection"),
        face_count=_count(_faces(), "image__collection"),
        unnamed_count=_count(_faces().filter(person__isnull=True), "image__collection"),
        failed_count=_count(Image.objects.filter(status=Image.Status.FAILED), "collection"),
    )


def with_face_counts(images: ImageQuerySet) -> ImageQuerySet:
    """Adds ``face_count``, dismissed ones left out."""
    return images.annotate(face_count=_count(_faces(), "image"))


# --- Jobs -------------------------------------------------------------------------------------------------------------


def count_lines(jobs: Iterable[IntakeJob]) -> None:
    """Gives each ``line_count``, ``waiting_count``, and one of each final verdict: ``stored_count`` and so on.

    Waiting is what has not come to its end: files that were planned or are arriving, and images that were stored and
    that no worker has finished yet, those of a paused job among them. Two queries: for a page of jobs, not for all.
    """
    found = {job.pk: job for job in jobs}
    lines = IntakeLine.objects.filter(job__in=found).order_by()
    counts = {key: Counter[str]() for key in found}
    for key, verdict, number in lines.values_list("job", "verdict").annotate(n=Count("pk")):
        counts[key].update({"line": number, "waiting" if verdict in UNFINISHED else verdict: number})
    for key, number in lines.filter(_TO_PROCESS).values_list("job").annotate(n=Count("pk")):
        counts[key]["waiting"] += number
    for key, job in found.items():
        for name in ("line", "waiting", *FINAL):
            setattr(job, f"{name}_count", counts[key][name])


_TO_PROCESS = Q(verdict=Verdict.STORED) & (Q(image__status__in=WAITING) | Q(image__held_for=Image.HeldFor.PAUSE))


def finished(jobs: QuerySet[IntakeJob]) -> QuerySet[IntakeJob]:
    """Of these, those that run and have nothing left to do. What waits is looked for once, not for each of them."""
    lines = IntakeLine.objects.order_by()
    unfinished = (lines.filter(verdict__in=UNFINISHED), lines.filter(_TO_PROCESS))
    jobs = jobs.filter(Exists(lines.filter(job=OuterRef("pk"))), state=IntakeJob.State.RUNNING)
    return jobs.exclude(pk__in=unfinished[0].values("job")).exclude(pk__in=unfinished[1].values("job"))


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a job is.

    ``verdicts``: lines by verdict; ``statuses``: those stored, by the status of their image. ``waiting``: files that
    have not come to their end yet. ``rate``: files that came to it per second within the last RECENT, None where there
    was none. ``seconds_left``: at that rate, None where nobody can say, as of a job that does not run.
    """

    verdicts: Mapping[str, int]
    statuses: Mapping[str, int]
    waiting: int
    rate: float | None
    seconds_left: float | None

    @property
    def total(self) -> int:
        return sum(self.verdicts.values())

    @property
    def finished(self) -> int:
        return self.total - self.waiting


def progress_of(job: IntakeJob, now: datetime | None = None) -> JobProgress:
    """Four queries, however many lines the job has."""
    now = now or timezone.now()
    lines = job.lines.order_by()
    verdicts = dict(lines.values_list("verdict").annotate(n=Count("pk")))
    stored = lines.filter(verdict=Verdict.STORED).values_list("image__status", "image__held_for")
    statuses: Counter[str] = Counter()
    waiting = sum(verdicts.get(each, 0) for each in UNFINISHED)
    for status, held_for, number in stored.annotate(n=Count("pk")):
        statuses[status or "deleted"] += number
        waiting += number if status in WAITING or held_for == Image.HeldFor.PAUSE else 0
    since = max(job.created_at, now - RECENT)  # a job may rest for days and go on: what was before says nothing
    recent = lines.exclude(verdict=Verdict.DUPLICATE).filter(
        image__processed_at__gt=since, image__processed_at__lte=now
    )
    ended = lines.filter(verdict__in=ENDED_AT_THE_DOOR, ended_at__gt=since, ended_at__lte=now)
    done = recent.count() + ended.exclude(code=PROCESSING_FAILED).count()
    rate = done / ((now - since) / timedelta(seconds=1)) if done else None
    runs = job.state == IntakeJob.State.RUNNING
    return JobProgress(verdicts, statuses, waiting, rate, waiting / rate if rate and waiting and runs else None)


def image_statuses(job: IntakeJob) -> Counter[str]:
    """How many of the images that this job stored are in each status."""
    stored = job.lines.exclude(verdict=Verdict.DUPLICATE)
    return Counter(Image.objects.filter(intake_lines__in=stored).values_list("status", flat=True))


def waiting_reasons(job: IntakeJob) -> list[str]:
    """What its lines and images wait for, where somebody has said so: a server, a model, a folder."""
    lines = job.lines.filter(verdict=Verdict.WAITING).exclude(reason="").values_list("reason", flat=True)
    images = Image.objects.filter(intake_lines__job=job, status=Image.Status.QUEUED).exclude(reason="")
    reasons = (lines, images.values_list("reason", flat=True))
    return sorted({reason for each in reasons for reason in each.order_by().distinct()[:MOST_REASONS]})
