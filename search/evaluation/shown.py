"""What the admin shows of a run: its figures, and of the images that they name those that a viewer may see now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.urls import reverse

from catalog.models import Collection, Region
from catalog.querysets import Viewer
from catalog.regions import FACE
from catalog.storage import RENDITION_SIZES
from search.models import EvaluationRun

MARGIN = 0.2  # of a face's longer side, around it


@dataclass(frozen=True, slots=True)
class Shown:
    """An item of the figures. ``href`` and ``view_box`` (in pixels of the oriented original) are empty where it is gone
    or not for this viewer: then its words are all there is.
    """

    name: str
    label: str
    distance: float | None
    is_right: bool
    href: str = ""
    page: str = ""
    view_box: str = ""
    width: int = 0
    height: int = 0


@dataclass(frozen=True, slots=True)
class ShownExample:
    kind: str
    query: Shown
    nearest: list[Shown]

    @property
    def right(self) -> int:
        return sum(each.is_right for each in self.nearest)


def runs_of(viewer: Viewer) -> QuerySet[EvaluationRun]:
    """Runs of collections that this viewer edits; those of folders are for superusers alone."""
    runs = EvaluationRun.objects.select_related("embedding_model", "generation", "collection", "user")
    if viewer.is_superuser:
        return runs
    return runs.filter(collection__in=Collection.objects.editable_by(viewer))


def examples_of(run: EvaluationRun, viewer: Viewer) -> list[ShownExample]:
    examples = run.figures.get("examples", [])
    regions = _regions([each for example in examples for each in (example["query"], *example["nearest"])], run, viewer)
    return [
        ShownExample(
            example["kind"],
            _shown(example["query"], "", regions),
            [_shown(each, example["query"]["label"], regions) for each in example["nearest"]],
        )
        for example in examples
    ]


def mistakes_of(run: EvaluationRun, viewer: Viewer, most: int) -> list[tuple[Shown, Shown]]:
    """A query and its nearest, whose label is another."""
    mistakes = run.figures.get("mistakes", [])[:most]
    regions = _regions([each for pair in mistakes for each in (pair["query"], pair["nearest"])], run, viewer)
    return [
        (_shown(each["query"], "", regions), _shown(each["nearest"], each["query"]["label"], regions))
        for each in mistakes
    ]


def _regions(items: Iterable[Mapping[str, Any]], run: EvaluationRun, viewer: Viewer) -> dict[str, Region]:
    """By key, in one query. Keys of files are paths."""
    keys = {item["key"] for item in items if uuid_of(item["key"])} if run.collection_id else set()
    found = Region.objects.visible_to(viewer).filter(pk__in=keys)
    return {str(region.pk): region for region in found.select_related("image")}


def uuid_of(text: str) -> UUID | None:
    """None for what is no key of a row: a path, or what somebody typed into an address."""
    try:
        return UUID(text)
    except ValueError:
        return None


def _shown(item: Mapping[str, Any], right_label: str, regions: Mapping[str, Region]) -> Shown:
    region = regions.get(item["key"])
    where = _where(region) if region else {}
    return Shown(item["name"], item["label"], item.get("distance"), item["label"] == right_label, **where)


def _where(region: Region) -> dict[str, Any]:
    image = region.image
    return {
        "href": reverse("image-rendition", kwargs={"pk": image.pk, "size": min(RENDITION_SIZES)}),
        "page": reverse("admin:catalog_image_change", args=[image.pk]),
        "view_box": _view_box(region),
        "width": image.width,
        "height": image.height,
    }


def _view_box(region: Region) -> str:
    if region.pipeline != FACE:
        return f"0 0 {region.image.width} {region.image.height}"
    side = max(region.width, region.height) * (1 + 2 * MARGIN)
    left, top = region.x + (region.width - side) / 2, region.y + (region.height - side) / 2
    return f"{left:.1f} {top:.1f} {side:.1f} {side:.1f}"


def figures_in_words(run: EvaluationRun) -> Sequence[tuple[str, str, str]]:
    """The main figures as tiles: what, how much, and what that means."""
    retrieval, verification = run.figures["retrieval"], run.figures["verification"]
    at = retrieval["precision_at"]
    asked = run.figures["queries"] or run.figures["catalogue"]
    return [
        ("P@1", f"{at['1']:.4f}", "of the queries have a nearest of their label"),
        ("P@10", f"{at['10']:.4f}", "of the nearest 10, or of as many as carry the label"),
        ("P@100", f"{at['100']:.4f}", "of the nearest 100, or of as many as carry the label"),
        ("mAP", f"{retrieval['mean_average_precision']:.4f}", "1: all of the label come before all others"),
        ("ROC AUC", f"{verification['auc']:.4f}", "how often two of one label are nearer than two of others"),
        ("queries", f"{retrieval['n']:,}", _drawn(retrieval)),
        ("images in which nothing was found", f"{asked['missed']['count']:,}", "they are in no figure beside it"),
    ]


def _drawn(retrieval: Mapping[str, Any]) -> str:
    most = retrieval.get("drawn_from", 0)
    return f"drawn from {most:,}" if most > retrieval["n"] + retrieval["left_out"] else "that something could answer"
