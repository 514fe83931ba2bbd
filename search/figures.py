"""Figures as files: the article's grid, a query and its neighbours with their distances."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image as PILImage

from catalog import storage
from catalog.models import Image
from catalog.regions import box_of
from catalog.vision.types import Box
from search.engines.durable import write_whole
from search.querying import Answer, Match

COLUMNS = 5
CELL_INCHES = 2.2
DPI = 110
LINE = 1.6 / 72  # inches of a line's height for each point of its font
PADDING = 0.05  # inches around a tile's pixels
TITLE_LETTERS = 130  # of one point that fit into an inch
BOX_COLOUR = "#16a34a"


@dataclass(frozen=True, slots=True)
class Tile:
    """One cell: an image at any size (None where its file is gone: the words alone), a box in its pixels, a title."""

    pixels: PILImage.Image | None
    title: str
    box: Box | None = None
    colour: str = BOX_COLOUR  # of the box and of the frame
    is_framed: bool = False
    is_bold: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    columns: int = COLUMNS
    cell_inches: float = CELL_INCHES
    font_size: float = 8

    @property
    def row_inches(self) -> float:
        return self.cell_inches + self.font_size * LINE


def save_grid(path: Path, query: PILImage.Image, answer: Answer) -> None:
    """Draw the query first, then the results, each with what matched boxed and its distance; written by suffix.

    ``query``: the oriented query at any size. Raises OSError where ``path`` cannot be written, ValueError for a suffix
    that matplotlib does not know.
    """
    save_figure(path, grid([_query_tile(query, answer), *map(_match_tile, answer.results)]))


def grid(tiles: Sequence[Tile], layout: Layout | None = None, title: str = "") -> Figure:
    """The tiles in rows from the top left, on one axis whose unit is an inch: one for each tile takes seconds."""
    layout = layout or Layout()
    rows = -(-len(tiles) // layout.columns)
    head = (layout.font_size + 4) * LINE if title else 0.0
    width, height = layout.columns * layout.cell_inches, rows * layout.row_inches + head
    figure = Figure(figsize=(width, height), dpi=DPI)
    axis: Axes = figure.add_axes((0, 0, 1, 1))
    axis.set_axis_off()
    if title:
        axis.text(PADDING, head / 2, title, fontsize=layout.font_size + 3, va="center", parse_math=False)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, layout.columns)
        _draw_tile(axis, tile, layout, (column * layout.cell_inches, head + row * layout.row_inches))
    axis.set_xlim(0, width)
    axis.set_ylim(height, 0)
    axis.set_aspect("auto")
    return figure


def save_figure(path: Path, figure: Figure) -> None:
    """Written aside and renamed. Raises OSError, and ValueError for a suffix that matplotlib does not know."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format=path.suffix.lstrip(".") or "png")
    write_whole(path, drawn.getvalue())


def rendition(image: Image) -> PILImage.Image | None:
    """The small rendition, or None where its file is gone."""
    key = storage.rendition_key(image.pk, storage.RENDITION_SIZES[0])
    try:
        with storage.renditions().open(key, "rb") as file:
            return PILImage.open(io.BytesIO(file.read()), formats=["WEBP"])
    except FileNotFoundError:
        return None


def _query_tile(query: PILImage.Image, answer: Answer) -> Tile:
    box = None
    if answer.searched is not None:
        box = answer.regions[answer.searched].box.scaled(query.width / answer.width)
    return Tile(query, "query", box, is_bold=True)


def _match_tile(match: Match) -> Tile:
    pixels = rendition(match.image)
    box = box_of(match.region).scaled(pixels.width / match.image.width) if pixels else None
    return Tile(pixels, f"{match.distance:.3f}  {match.image.label or match.image}", box)


def _draw_tile(axis: Axes, tile: Tile, layout: Layout, corner: tuple[float, float]) -> None:
    """Its title above its pixels, which keep their shape; ``corner``: of the cell, top left, in inches."""
    left, top = corner
    line, side = layout.font_size * LINE, layout.cell_inches - 2 * PADDING
    length = int(side * TITLE_LETTERS / layout.font_size)
    weight = "bold" if tile.is_bold else "normal"
    middle = left + layout.cell_inches / 2
    centred: dict[str, Any] = {"ha": "center", "va": "center", "parse_math": False}  # a label may hold a dollar
    axis.text(middle, top + line / 2, tile.title[:length], fontsize=layout.font_size, fontweight=weight, **centred)
    if tile.pixels is None:
        return
    scale = side / max(tile.pixels.size)
    shown = Box(
        middle - tile.pixels.width * scale / 2,
        top + line + (side - tile.pixels.height * scale) / 2,
        tile.pixels.width * scale,
        tile.pixels.height * scale,
    )
    axis.imshow(tile.pixels, extent=(shown.x, shown.right, shown.bottom, shown.y))
    if tile.is_framed:
        _outline(axis, shown, tile.colour, 2)
    if tile.box is not None:
        box = tile.box.scaled(scale)
        _outline(axis, Box(shown.x + box.x, shown.y + box.y, box.width, box.height), tile.colour, 1.5)


def _outline(axis: Axes, box: Box, colour: str, width: float) -> None:
    axis.add_patch(Rectangle((box.x, box.y), box.width, box.height, fill=False, edgecolor=colour, linewidth=width))
