"""The article's figure of an answer: the query and its neighbours in a grid, with their distances."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image as PILImage

from catalog import storage
from catalog.regions import box_of
from catalog.vision.types import Box
from search.querying import Answer, Match

COLUMNS = 5
CELL_INCHES = 2.2
DPI = 110


def save_grid(path: Path, query: PILImage.Image, answer: Answer) -> None:
    """Draw the query first, then the results, each with what matched boxed and its distance; written by suffix.

    ``query``: the oriented query at any size. Raises OSError where ``path`` cannot be written, ValueError for a suffix
    that matplotlib does not know.
    """
    cells = 1 + len(answer.results)
    rows = -(-cells // COLUMNS)
    figure = Figure(figsize=(COLUMNS * CELL_INCHES, rows * CELL_INCHES * 1.15), layout="constrained", dpi=DPI)
    axes: list[Axes] = figure.subplots(rows, COLUMNS, squeeze=False).ravel().tolist()
    for axis in axes:
        axis.set_axis_off()
    _draw_query(axes[0], query, answer)
    for axis, match in zip(axes[1:], answer.results, strict=False):
        _draw_match(axis, match)
    figure.savefig(path)


def _draw_query(axis: Axes, query: PILImage.Image, answer: Answer) -> None:
    axis.imshow(query)
    axis.set_title("query", fontsize=8, fontweight="bold")
    if answer.searched is not None:
        _draw_box(axis, answer.regions[answer.searched].box, query.width / answer.width)


def _draw_match(axis: Axes, match: Match) -> None:
    rendition = _rendition(match)
    if rendition is not None:
        axis.imshow(rendition)
        _draw_box(axis, box_of(match.region), rendition.width / match.image.width)
    axis.set_title(f"{match.distance:.3f}  {match.image.label or match.image}"[:34], fontsize=8)


def _rendition(match: Match) -> PILImage.Image | None:
    """The small rendition, or None where its file is gone: the grid then shows the distance alone."""
    key = storage.rendition_key(match.image.pk, storage.RENDITION_SIZES[0])
    try:
        with storage.renditions().open(key, "rb") as file:
            return PILImage.open(io.BytesIO(file.read()), formats=["WEBP"])
    except FileNotFoundError:
        return None


def _draw_box(axis: Axes, box: Box, scale: float) -> None:
    """A box of the oriented original on an image ``scale`` times its size."""
    small = box.scaled(scale)
    outline = Rectangle((small.x, small.y), small.width, small.height, fill=False, edgecolor="#16a34a", linewidth=1.5)
    axis.add_patch(outline)
