"""Addresses whose images a collection has: earlier jobs say so, and a second run fetches only what is new."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from uuid import UUID

from catalog.intake import twins
from catalog.intake.jobs import PlannedLine
from catalog.intake.left_alone import left_alone
from catalog.models import Collection, Image, IntakeLine
from catalog.uploads import process_twins_again

STEP = 1000  # addresses in one query
BROUGHT = "This address has brought an image of this collection before; it was not fetched again."
Verdict = IntakeLine.Verdict


def with_images(collection: Collection, planned: Iterable[PlannedLine]) -> Iterator[PlannedLine]:
    """The same lines in their order, those whose address brought an image with that image.

    Of an image that had failed, or was held since its job was cancelled, nothing is fetched either; it is processed, as
    when its file is sent again. All such are locked together when the last line is planned: in the order of their keys.
    """
    lines = iter(planned)
    wanted: set[UUID] = set()
    while step := list(islice(lines, STEP)):
        here = _images(collection, [line.url for line in step if line.url])
        again = twins.wanted_again(here.values())
        wanted |= again
        found = [(line, here[line.url]) for line in step if line.url in here]
        more = left_alone([(line.facts, line.person_name, image) for line, image in found])
        reasons = {
            line.url: BROUGHT + twins.said_of(image, again) + said
            for (line, image), said in zip(found, more, strict=True)
        }
        for line in step:
            image = here.get(line.url)
            yield replace(line, image_id=image.pk, reason=reasons[line.url]) if image else line
    process_twins_again(wanted)


def _images(collection: Collection, urls: Sequence[str]) -> dict[str, Image]:
    """By address, what a line of this collection brought from it; what was deleted since is not here."""
    lines = IntakeLine.objects.filter(url__in=urls, job__collection=collection, image__collection=collection)
    lines = lines.exclude(url="").select_related("image").order_by("id")
    return {line.url: line.image for line in lines if line.image is not None}
