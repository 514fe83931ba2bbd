"""Figures that are shown beside collections, images and jobs, each in a number of queries that no row adds to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, F, Model, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone

from catalog.models import Image, IntakeJob, IntakeLine, Region
from catalog.querysets import CollectionQuerySet, ImageQuerySet
from catalog.regions import FACE

RECENT = timedelta(minutes=2)  # how long back the pace of a job is measured
WAITING = (Image.Status.QUEUED, Image.Status.PROCESSING)
Verdict = IntakeLine.Verdict


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


def with_line_counts(jobs: QuerySet[IntakeJob]) -> QuerySet[IntakeJob]:
    """Adds ``line_count``, ``waiting_count``, and one of each verdict but receiving: ``stored_count`` and so on.

    Waiting are images that were stored and that no worker has finished yet.
    """
    lines = IntakeLine.objects.all()
    verdicts = (Verdict.STORED, Verdict.DUPLICATE, Verdict.REFUSED, Verdict.FAILED)
    return jobs.annotate(
        line_count=_count(lines, "job"),
        waiting_count=_count(lines.filter(verdict=Verdict.STORED, image__status__in=WAITING), "job"),
        **{f"{verdict.value}_count": _count(lines.filter(verdict=verdict), "job") for verdict in verdicts},
    )


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a job is.

    ``verdicts``: lines by verdict. ``waiting``: files that have not come to their end yet. ``rate``: images processed
    per second within the last RECENT, None where there was none. ``seconds_left``: at that rate, None where nobody can
    say.
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
    """Three queries, however many lines the job has."""
    now = now or timezone.now()
    lines = job.lines.order_by()
    verdicts = dict(lines.values_list("verdict").annotate(n=Count("pk")))
    stored = lines.filter(verdict=Verdict.STORED).values_list(F("image__status")).annotate(n=Count("pk"))
    statuses = {status or "deleted": number for status, number in stored}
    waiting = sum(statuses.get(status, 0) for status in WAITING) + verdicts.get(Verdict.RECEIVING, 0)
    since = max(job.created_at, now - RECENT)  # a job may rest for days and go on: what was before says nothing
    recent = lines.exclude(verdict=Verdict.DUPLICATE).filter(
        image__processed_at__gt=since, image__processed_at__lte=now
    )
    done = recent.count()
    rate = done / ((now - since) / timedelta(seconds=1)) if done else None
    return JobProgress(verdicts, statuses, waiting, rate, waiting / rate if rate and waiting else None)
