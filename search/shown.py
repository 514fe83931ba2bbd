"""What the page shows of an answer: results in words, ready for templates that only print."""

from __future__ import annotations

from dataclasses import dataclass, replace

from django.urls import reverse
from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from catalog.models import EmbeddingModel, Image
from catalog.regions import FACE, box_of
from search.addresses import Filters, Place
from search.explaining import told
from search.marks import SvgBox, svg_box
from search.measured import measured
from search.querying import DIGIT, IMAGE, MAX_K, Answer, Match, is_whole

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
    DIGIT: {
        "identical": gettext_lazy("the same photo"),
        "same": gettext_lazy("likely the same digit"),
        "similar": gettext_lazy("looks alike"),
        "far": gettext_lazy("not close"),
    },
}


@dataclass(frozen=True, slots=True)
class Card:
    """A result."""

    image: Image
    name: str
    word: Text
    band: str
    box: SvgBox | None
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
    how: list[tuple[str, str]]  # for staff
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
    can_look_beyond = not filters.near and len(matches) < k and measured(answer.model)[1] is not None
    more_filters = replace(filters, k=min(k + MORE_RESULTS, MAX_K))
    return Results(
        cards=near,
        misses=[card for card in cards if card.band == "far"],
        heading=_heading(len(near), len(cards), more),
        why=_why(answer),
        how=told(answer.explanation),
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
    same, near = measured(model)
    if same is not None and near is not None:
        limits = {"same": _number(same), "near": _number(near)}
        lines.append((_("Measured"), _("same up to %(same)s, near up to %(near)s") % limits))
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
        name=name_of(image, person),
        word=WORDS.get(model.pipeline, WORDS[IMAGE])[band] if band else "",
        band=band,
        box=None if is_whole(match.region.pipeline) else svg_box(box_of(match.region)),
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
    same, near = measured(model)
    if same is None or near is None:
        return ""
    if distance <= IDENTICAL:
        return "identical"
    if distance <= same:
        return "same"
    return "similar" if distance <= near else "far"


def name_of(image: Image, person: str = "") -> str:
    """What a shopper may call it, who is on it if nothing better is known: never the uploader's file name."""
    return image.title or image.label or person or _("Image")


def web_address(url: str) -> str:
    """The address if it leads to a web page, else nothing: no other scheme becomes a link."""
    return url if url.startswith(("https://", "http://")) else ""


def _number(value: float) -> str:
    """As the reader's language writes it."""
    return str(number_format(round(value, 4), decimal_pos=4))
