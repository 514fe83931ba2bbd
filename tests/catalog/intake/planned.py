"""Short ways to jobs with lines."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.utils import timezone

from catalog.intake import jobs
from catalog.intake.jobs import PlannedLine
from catalog.models import Collection, Image, IntakeJob, IntakeLine, RestingHost
from tests.cast import make_image


def plan(shop: Collection, urls: Iterable[str], **facts: Any) -> IntakeJob:
    lines = [PlannedLine(url, number, url=url) for number, url in enumerate(urls, start=1)]
    return jobs.create(shop, IntakeJob.Source.URLS, lines, **facts)


def addresses(count: int, host: str = "a.test") -> list[str]:
    return [f"http://{host}/{number}.jpg" for number in range(count)]


def verdicts(job: IntakeJob) -> dict[str, tuple[str, str]]:
    """Of each line by its source: verdict and code."""
    return {line.source: (line.verdict, line.code) for line in job.lines.all()}


def stored(job: IntakeJob, status: str = "queued", **facts: Any) -> Image:
    """An image that this job has stored."""
    image = make_image(job.collection, status=status, **facts)
    IntakeLine.objects.create(job=job, source=str(image.pk), verdict="stored", image=image)
    return image


def state(image: Image) -> tuple[str, str]:
    """Its status as it is now, and what it is held for."""
    image.refresh_from_db()
    return image.status, image.held_for


def let_all_rest_be_over() -> None:
    """As if a minute had gone by: leases have run out, and rests are over."""
    past = timezone.now() - timedelta(seconds=1)
    IntakeLine.objects.filter(lease_until__isnull=False).update(lease_until=past)
    RestingHost.objects.update(rests_until=past)
