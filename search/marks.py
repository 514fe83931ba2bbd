"""The regions of a query, drawn over it and as links that pick them, ready for templates that only print.

Numbers of boxes are text already: a template would write them as its language does, and SVG knows only points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from django.urls import reverse
from django.utils.translation import gettext as _

from catalog.models import Image, Region
from catalog.regions import FACE, box_of
from catalog.vision.types import Box
from search.addresses import Filters, Place
from search.querying import DIGIT, IMAGE, Query, is_whole


@dataclass(frozen=True, slots=True)
class SvgBox:
    """A box in SVG units (pixels of the oriented original)."""

    x: str
    y: str
    width: str
    height: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A region of the query: where it is, and the link that picks it."""

    name: str
    short: str
    href: str | None
    selected: bool
    is_whole: bool
    box: SvgBox
    person: str = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """The query: its size, its marks, how large their numbers are written."""

    width: int
    height: int
    marks: tuple[Mark, ...]

    @property
    def letter(self) -> str:
        return _svg(max(self.width, self.height) / 22)

    @property
    def boxes(self) -> list[Mark]:
        return [mark for mark in self.marks if not mark.is_whole]


def query_frame(query: Query, searched: int | None, place: Place | None) -> Frame:
    """The marks of a query; picking another one keeps the filters and starts at the first results."""
    names = _Names()
    marks = []
    for number, each in enumerate(query.vectors):
        name, short = names.next(each.region.pipeline)
        mark = Mark(
            name=name,
            short=short,
            href=None if place is None else place.href(replace(place.filters.scope, region=number)),
            selected=number == searched,
            is_whole=is_whole(each.region.pipeline),
            box=svg_box(each.region.box),
        )
        marks.append(mark)
    return Frame(query.width, query.height, tuple(marks))


def stored_frame(image: Image, regions: Sequence[Region], chosen: Region | None, filters: Filters) -> Frame:
    names = _Names()
    marks = []
    for region in regions:
        name, short = names.next(region.pipeline)
        mark = Mark(
            name=name,
            short=short,
            href=Place(reverse("search-region", args=[region.pk]), filters.scope).href(),
            selected=region == chosen,
            is_whole=is_whole(region.pipeline),
            box=svg_box(box_of(region)),
            person=region.person.name if region.person else "",
        )
        marks.append(mark)
    return Frame(image.width, image.height, tuple(marks))


def svg_box(box: Box) -> SvgBox:
    return SvgBox(_svg(box.x), _svg(box.y), _svg(box.width), _svg(box.height))


def _svg(value: float) -> str:
    return f"{value:.1f}"


class _Names:
    """Face 1, Face 2, Whole image, Digit: counted within each pipeline that finds several."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def next(self, pipeline: str) -> tuple[str, str]:
        if is_whole(pipeline):
            return self._wholes().get(pipeline, pipeline), ""
        number = self._counts[pipeline] = self._counts.get(pipeline, 0) + 1
        if pipeline == FACE:
            return _("Face %(number)s") % {"number": number}, str(number)
        return f"{pipeline} {number}", str(number)

    def _wholes(self) -> dict[str, str]:
        return {IMAGE: _("Whole image"), DIGIT: _("Digit")}
