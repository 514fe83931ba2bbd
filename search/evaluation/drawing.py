"""Figures of an evaluation by matplotlib: ROC, distances of same and different, the article's grid."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image as PILImage

from catalog.models import Region
from catalog.vision import helper, preprocess, registry
from catalog.vision.errors import ImageRefused
from catalog.vision.types import Box
from search.evaluation.evaluation import Evaluation
from search.evaluation.examples import Example
from search.evaluation.labelled import Item, LabelsAre
from search.evaluation.preview import Limits
from search.figures import Layout, Tile, grid, rendition, save_figure

SAME_COLOUR, DIFFERENT_COLOUR, INK = "#2563eb", "#d97706", "#1f2937"
RIGHT_COLOUR, WRONG_COLOUR = "#16a34a", "#dc2626"
NOW_COLOUR = "#7c3aed"
STYLES = (":", "-", "-.")  # of the thresholds, by ascending rate
SIZE = (6.4, 4.0)  # inches
BINS = 50
GRID = Layout(columns=10, cell_inches=1.25, font_size=6.5)  # the query and a hundred: eleven rows
THUMBNAIL = 160  # pixels
MARGIN = 0.3  # of a face's longer side, around it

SVG: Any = {"svg.fonttype": "none", "svg.hashsalt": "visearch"}  # text stays text, the same figure gives the same file

Figures = Mapping[str, Any]
PixelsOf = Callable[[Item], PILImage.Image | None]  # small; None where it is gone


def drawings(figures: Figures, limits: Limits | None) -> dict[str, str]:
    """SVG by name: what is shown beside the kept figures."""
    return {"roc": _svg(roc(figures)), "distances": _svg(distances(figures, limits))}


def save_all(folder: Path, evaluation: Evaluation, figures: Figures, limits: Limits | None) -> list[Path]:
    """roc.png, distances.png and a grid for each example; the paths. Raises OSError."""
    saved = {"roc.png": roc(figures), "distances.png": distances(figures, limits)}
    for number, example in enumerate(evaluation.examples, start=1):
        saved[f"nearest-{number}-{example.kind}.png"] = nearest(example, _pixels_of(evaluation))
    paths = []
    for name, figure in saved.items():
        save_figure(folder / name, figure)
        paths.append(folder / name)
    return paths


def roc(figures: Figures) -> Figure:
    """False matches on a logarithmic axis, as what matters lies at few of them; none is drawn at half a pair."""
    verification = figures["verification"]
    points = np.array(verification["roc"])
    least = 0.5 / verification["different_pairs"]
    rates = ", ".join(f"{each['rate']:g}" for each in verification["thresholds"])
    figure, axis = _axes()
    axis.step(np.maximum(points[:, 0], least), points[:, 1], where="post", color=SAME_COLOUR, linewidth=2)
    axis.set_xscale("log")
    axis.set_xlim(least / 1.5, 1)
    decades = [10.0**power for power in range(-6, 1) if 10.0**power > 1.5 * least]
    axis.set_xticks([least, *decades], ["0", *(f"{each:g}" for each in decades)])
    axis.set_ylim(min(0.5, float(points[1:, 1].min(initial=1.0))) - 0.02, 1.02)
    for each in verification["thresholds"]:
        if each["distance"] is not None:
            at = max(each["false_match_rate"], least)
            axis.plot([at], [each["true_match_rate"]], "o", color=INK, markersize=5, zorder=3)
            axis.annotate(
                f"{each['distance']:.3f}",
                (at, each["true_match_rate"]),
                xytext=(6, -13),
                textcoords="offset points",
                fontsize=8,
                color=INK,
            )
    axis.set_xlabel("false match rate: pairs of two labels within a distance")
    axis.set_ylabel("true match rate: pairs of one label")
    axis.set_title(
        f"ROC, area {verification['auc']:.4f}. Dots: the distances chosen at false match rates {rates}",
        fontsize=9,
        loc="left",
    )
    return figure


def distances(figures: Figures, limits: Limits | None) -> Figure:
    """Shares of the pairs of one label and of two by distance, with the thresholds; ``limits``: the model's today."""
    curve = figures["verification"]["curve"]
    edges = np.linspace(0, curve["distances"][-1], BINS + 1)
    figure, axis = _axes()
    for what, colour, words in (("different", DIFFERENT_COLOUR, "two labels"), ("same", SAME_COLOUR, "one label")):
        axis.stairs(
            _shares(curve, what, edges),
            edges,
            fill=True,
            alpha=0.45,
            color=colour,
            label=f"pairs of {words} ({curve[what][-1]:,})",
        )
    _mark_thresholds(axis, figures["verification"]["thresholds"])
    if limits is not None:
        for name, value in (("same", limits.same), ("near", limits.near)):
            axis.axvline(
                value,
                color=NOW_COLOUR,
                linestyle="--",
                linewidth=1.2,
                label=f"{name} on {datetime.now(UTC):%Y-%m-%d}: {value:.3f}",
            )
    axis.set_xlim(0, edges[-1])
    axis.set_xlabel(f"distance ({figures['metric']})")
    axis.set_ylabel("share of the pairs")
    axis.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def nearest(example: Example, pixels_of: PixelsOf) -> Figure:
    """The query first, then its nearest: distance and label, framed red where the label is another."""
    tiles = [_tile(example.query, "query", pixels_of, is_query=True)]
    for each in example.nearest:
        is_right = each.item.label == example.query.label
        title = f"{each.distance:.3f} {each.item.label}"
        tiles.append(_tile(each.item, title, pixels_of, is_wrong=not is_right))
    right = sum(each.item.label == example.query.label for each in example.nearest)
    title = (
        f"{example.query.label}: {example.query.name}. {right} of the nearest {len(example.nearest)} carry its label"
    )
    return grid(tiles, GRID, title)


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, layout="constrained", dpi=120)
    axis: Axes = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(color="#e5e7eb", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=8, colors=INK)
    return figure, axis


def _shares(curve: Mapping[str, Any], what: str, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    within = np.interp(edges, curve["distances"], curve[what])
    within[0] = 0.0  # pairs at distance 0 belong to the first bin
    return np.asarray(np.diff(within) / curve[what][-1])


def _mark_thresholds(axis: Axes, thresholds: Sequence[Mapping[str, Any]]) -> None:
    for each, style in zip(thresholds, STYLES, strict=True):
        if each["distance"] is None:
            continue
        interval = "no interval"
        if each["low"] is not None:
            interval = f"{each['low']:.3f} to {each['high']:.3f}"
            axis.axvspan(each["low"], each["high"], color=INK, alpha=0.08, linewidth=0)
        axis.axvline(
            each["distance"],
            color=INK,
            linestyle=style,
            linewidth=1.4,
            label=f"{each['distance']:.3f} at {each['rate']:g} false matches\n({interval})",
        )


def _svg(figure: Figure) -> str:
    drawn = io.StringIO()
    with mpl.rc_context(SVG):
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue()


# --- Pixels -----------------------------------------------------------------------------------------------------------


def _pixels_of(evaluation: Evaluation) -> PixelsOf:
    """What finds the image of an item: by the path of its file, or by the region of a stored image."""
    sides = [evaluation.catalogue, *([evaluation.queries] if evaluation.queries else [])]
    files = {item.key for side in sides if side.labels_are is LabelsAre.FOLDERS for item in side.labelled.items}
    return lambda item: _file_pixels(item) if item.key in files else _stored_pixels(item)


def _file_pixels(item: Item) -> PILImage.Image | None:
    path = Path(item.key)
    try:
        with path.open("rb") as file:
            image = helper.read_image(file, path.name, registry.limits())
    except (OSError, ImageRefused):  # it could be read a moment ago
        return None
    return _thumbnail(image.pixels, item.box.scaled(1 / image.scale) if item.box else None)


def _stored_pixels(item: Item) -> PILImage.Image | None:
    region = Region.objects.filter(pk=item.key).select_related("image").first()
    pixels = rendition(region.image) if region else None
    if region is None or pixels is None:
        return None
    return _thumbnail(pixels, item.box.scaled(pixels.width / region.image.width) if item.box else None)


def _thumbnail(pixels: PILImage.Image, box: Box | None) -> PILImage.Image:
    """The whole image, or the square around its box."""
    if box is not None:
        side = max(box.width, box.height) * (1 + 2 * MARGIN)
        left, top = box.x + (box.width - side) / 2, box.y + (box.height - side) / 2
        shown = Box(left, top, side, side).clipped(*pixels.size)
        pixels = pixels.crop((round(shown.x), round(shown.y), round(shown.right), round(shown.bottom)))
    return preprocess.capped(pixels, THUMBNAIL)


def _tile(item: Item, title: str, pixels_of: PixelsOf, *, is_query: bool = False, is_wrong: bool = False) -> Tile:
    colour = WRONG_COLOUR if is_wrong else RIGHT_COLOUR
    return Tile(pixels_of(item), title, colour=colour, is_framed=not is_query, is_bold=is_query)
