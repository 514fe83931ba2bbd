"""Lines of jobs whose images look like one that is here, for whoever put them in."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.db.models import Prefetch, QuerySet, prefetch_related_objects

from catalog.duplicates.holding import open_choices
from catalog.models import IntakeJob, IntakeLine, NearDuplicate
from catalog.querysets import Viewer

_ATTRIBUTE = "visearch_open_choices"


def with_choices(lines: QuerySet[IntakeLine], user: Viewer | None) -> QuerySet[IntakeLine]:
    """With what `nearest` says of each, and its image: two queries, however many lines. None: an operator sees all."""
    return lines.select_related("image").prefetch_related(_choices(user))


def look_up(lines: Sequence[IntakeLine], user: Viewer | None) -> None:
    """The same for lines that are there already."""
    prefetch_related_objects(lines, _choices(user))


def _choices(user: Viewer | None) -> Prefetch[str]:
    return Prefetch("image__looks_like", queryset=open_choices(user).order_by("distance", "id"), to_attr=_ATTRIBUTE)


def nearest(line: IntakeLine) -> NearDuplicate | None:
    """What the image that this line stored looks like most and nobody has chosen about, where the user may choose.

    The line is of `with_choices` or `look_up`; of another one AttributeError is raised.
    """
    if line.verdict != IntakeLine.Verdict.STORED or line.image is None:
        return None
    found: Sequence[NearDuplicate] = getattr(line.image, _ATTRIBUTE)
    return found[0] if found else None


def choices_about(choices: QuerySet[NearDuplicate], job: UUID) -> QuerySet[NearDuplicate]:
    """Those about images that this job stored."""
    return choices.filter(image__intake_lines__job=job, image__intake_lines__verdict=IntakeLine.Verdict.STORED)


def count_alike(job: IntakeJob, user: Viewer | None) -> int:
    """How many images of the job wait for a choice that this user may make (None: that anybody may)."""
    return choices_about(open_choices(user), job.pk).order_by().values("image").distinct().count()
