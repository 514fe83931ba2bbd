"""What the page shows of an answer: words, boxes and addresses, ready for templates that only print.

Numbers of boxes are text already: a template would write them as its language does, and SVG knows only points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from django.urls import reverse
from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from catalog.models import Collection, EmbeddingModel, Image, Region
from catalog.querysets import Viewer
from catalog.regions import box_of
from catalog.vision.types import Box
from search.querying import FACE, IMAGE, MAX_K, Answer, Match, Query, SearchOptions

FIRST_RESULTS = 20
MORE_RESULTS = 20
IDENTICAL = 1e-4  # distances below this are rounding

Text = str | Promise
# band -> words. `same` and `near` of the model decide the band; a model that nobody measured has none.
WORDS: dict[str, dict[str, Text]] = {
    FACE: {
        "identical": gettext_lazy("the same photo"),
        "same": gettext_lazy("likely the same person"),
        "similar": gettext_lazy("looks alike"),
        "far": gettext_lazy("not close"),
    },
    IMAGE: {
        "identical": gettext_lazy("the same photo"),
        "same": gettext_lazy("very similar"),
        "similar": gettext_lazy("similar"),
        "far": gettext_lazy("not close"),
    },
}


@dataclass(frozen=True, slots=True)
class Filters:
    """What an address asks for. ``region`` is an index into the query's regions, None: the best that may be used."""

    collection: Collection | None = None
    label: str = ""
    k: int = FIRST_RESULTS
    near: bool = False
    region: int | None = None

    def options(self, viewer: Viewer, region_pipeline: str | None = None) -> SearchOptions:
        """One result more than is shown, to know whether there are more."""
        return SearchOptions(
            viewer=viewer,
            pipeline=region_pipeline,
            k=self.k + 1,
            collections=(self.collection,) if self.collection else None,
            label=self.label,
            beyond_near=self.near,
        )

    @property
    def narrows(self) -> bool:
        return bool(self.collection or self.label)

    @property
    def where(self) -> dict[str, str]:
        """The filters alone, for an address."""
        where = {"collection": self.collection.name} if self.collection else {}
        return {**where, "label": self.label} if self.label else where

    @property
    def start_href(self) -> str:
        """Where another photo is put in, for the same filters."""
        return Place(reverse("page"), Filters(self.collection, self.label)).href()


@dataclass(frozen=True, slots=True)
class Place:
    """An address of results, and what can be said in its query string."""

    path: str
    filters: Filters

    def href(self, filters: Filters | None = None) -> str:
        filters = filters or self.filters
        said: dict[str, object] = {}
        if filters.region is not None:
            said["region"] = filters.region
        said |= filters.where
        if filters.near:
            said["near"] = 1
        if filters.k != FIRST_RESULTS:
            said["k"] = filters.k
        return f"{self.path}?{urlencode(said)}" if said else self.path


@dataclass(frozen=True, slots=True)
class Mark:
    """A region of the query: its box in SVG units (pixels of the oriented original), and the link that picks it."""

    name: str
    short: str
    href: str | None
    selected: bool
    is_whole: bool
    x: str
    y: str
    width: str
    height: str
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


@dataclass(frozen=True, slots=True)
class Card:
    """A result."""

    image: Image
    name: str
    word: Text
    band: str
    box: Mark | None
    crop: str  # which end of an image that is not square its tile shows: Min, Mid or Max, as SVG says it
    person: str
    distance: str
    more_href: str
    href: str


@dataclass(frozen=True, slots=True)
class Results:
    """``cards`` within near (or all, of a model that nobody measured), ``misses`` beyond it."""

    cards: list[Card]
    misses: list[Card]
    heading: str
    why: list[tuple[str, str]]
    more_href: str | None
    near_href: str | None
    is_full: bool

    @property
    def labels(self) -> list[str]:
        """What the filter suggests."""
        return sorted({card.image.label for card in [*self.cards, *self.misses] if card.image.label})


def results_of(answer: Answer, place: Place | None, filters: Filters) -> Results:
    """``place`` is None where nothing was kept, so that there is nothing to link to."""
    matches, k = answer.results[: filters.k], filters.k
    cards = [_card(match, answer.model) for match in matches]
    near = [card for card in cards if card.band != "far"]
    more = len(answer.results) > k
    can_look_beyond = not filters.near and len(matches) < k and answer.model.near_distance is not None
    more_filters = replace(filters, k=min(k + MORE_RESULTS, MAX_K))
    return Results(
        cards=near,
        misses=[card for card in cards if card.band == "far"],
        heading=_heading(len(near), len(cards), more),
        why=_why(answer),
        more_href=place.href(more_filters) if place and more and k < MAX_K else None,
        near_href=place.href(replace(filters, near=True)) if place and can_look_beyond else None,
        is_full=more and k >= MAX_K,
    )


def _heading(count: int, shown: int, more: bool) -> str:
    """``count`` of the ``shown`` are near; all of these are the nearest of ever more."""
    if count == 0:
        return _("Nothing close")
    if more:
        return _("The %(count)s nearest") % {"count": shown}
    return _("1 result") if count == 1 else _("%(count)s results") % {"count": count}


def _why(answer: Answer) -> list[tuple[str, str]]:
    """What holds for all results of an answer."""
    model = answer.model
    lines = [(_("Model"), f"{answer.pipeline} · {model}")]
    if model.same_distance is not None and model.near_distance is not None:
        measured = _("same up to %(same)s, near up to %(near)s")
        limits = {"same": _number(model.same_distance), "near": _number(model.near_distance)}
        lines.append((_("Measured"), measured % limits))
    else:
        lines.append((_("Measured"), _("never: distances say nothing in words")))
    exactly = _("compared one by one, without an index")
    return [*lines, (_("Index"), answer.generation or exactly)]


def _card(match: Match, model: EmbeddingModel) -> Card:
    band = band_of(match.distance, model)
    image = match.image
    person = match.region.person.name if match.region.person else ""
    return Card(
        image=image,
        name=image.title or image.label or person or name_of(image),
        word=WORDS.get(model.pipeline, WORDS[IMAGE])[band] if band else "",
        band=band,
        box=None if match.region.pipeline == IMAGE else _mark(box_of(match.region), _("Match")),
        crop=_crop(match),
        person=person,
        distance=_number(match.distance),
        more_href=reverse("search-region", args=[match.region.pk]),
        href=reverse("image-page", args=[image.pk]),
    )


def _crop(match: Match) -> str:
    """Towards what matched, along the longer side."""
    image, box = match.image, box_of(match.region)
    across = image.width > image.height
    middle = (box.x + box.width / 2) / image.width if across else (box.y + box.height / 2) / image.height
    return "Min" if middle < 0.4 else "Max" if middle > 0.6 else "Mid"


def band_of(distance: float, model: EmbeddingModel) -> str:
    """identical, same, similar or far, by the model's measured distances; "" for one that nobody measured."""
    if model.same_distance is None or model.near_distance is None:
        return ""
    if distance <= IDENTICAL:
        return "identical"
    if distance <= model.same_distance:
        return "same"
    return "similar" if distance <= model.near_distance else "far"


def name_of(image: Image) -> str:
    """What a shopper may call it: never the uploader's file name."""
    return image.title or image.label or _("Image")


def web_address(url: str) -> str:
    """The address if it leads to a web page, else nothing: no other scheme becomes a link."""
    return url if url.startswith(("https://", "http://")) else ""


def query_frame(query: Query, searched: int | None, place: Place | None) -> Frame:
    """The marks of a query; picking another one keeps the filters and starts at the first results."""
    names = _Names()
    marks = []
    for number, each in enumerate(query.vectors):
        href = None if place is None else place.href(replace(place.filters, region=number, k=FIRST_RESULTS, near=False))
        name, short = names.next(each.region.pipeline)
        selected = number == searched
        marks.append(
            _mark(each.region.box, name, short=short, href=href, selected=selected, pipeline=each.region.pipeline)
        )
    return Frame(query.width, query.height, tuple(marks))


def stored_frame(image: Image, regions: Sequence[Region], chosen: Region | None, filters: Filters) -> Frame:
    names = _Names()
    marks = []
    for region in regions:
        href = Place(reverse("search-region", args=[region.pk]), Filters()).href(
            Filters(collection=filters.collection, label=filters.label)
        )
        name, short = names.next(region.pipeline)
        person = region.person.name if region.person else ""
        mark = _mark(
            box_of(region),
            name,
            short=short,
            href=href,
            selected=region == chosen,
            pipeline=region.pipeline,
            person=person,
        )
        marks.append(mark)
    return Frame(image.width, image.height, tuple(marks))


class _Names:
    """Face 1, Face 2, Whole image: counted within each pipeline."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def next(self, pipeline: str) -> tuple[str, str]:
        if pipeline == IMAGE:
            return _("Whole image"), ""
        number = self._counts[pipeline] = self._counts.get(pipeline, 0) + 1
        if pipeline == FACE:
            return _("Face %(number)s") % {"number": number}, str(number)
        return f"{pipeline} {number}", str(number)


def _mark(
    box: Box,
    name: str,
    *,
    short: str = "",
    href: str | None = None,
    selected: bool = False,
    pipeline: str = "",
    person: str = "",
) -> Mark:
    return Mark(
        name=name,
        short=short,
        href=href,
        selected=selected,
        is_whole=pipeline == IMAGE,
        x=_svg(box.x),
        y=_svg(box.y),
        width=_svg(box.width),
        height=_svg(box.height),
        person=person,
    )


def _svg(value: float) -> str:
    return f"{value:.1f}"


def _number(value: float) -> str:
    """As the reader's language writes it."""
    return str(number_format(round(value, 4), decimal_pos=4))
