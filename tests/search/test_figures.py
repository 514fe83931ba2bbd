"""Grids of images as files: whole or not there, whatever their labels are."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image as PILImage

from catalog.vision.types import Box
from search.figures import Layout, Tile, grid, save_figure
from tests.library import files_in

RED, GREEN = (255, 0, 0), (22, 163, 74)
TILES = [
    Tile(PILImage.new("RGB", (40, 20), RED), "wide", is_framed=True),
    Tile(PILImage.new("RGB", (20, 40), RED), "high", Box(5, 5, 10, 10)),
    Tile(None, "its file is gone"),
]


def test_tiles_keep_their_shape_and_stand_in_rows(tmp_path: Path) -> None:
    path = tmp_path / "grid.png"
    save_figure(path, grid(TILES, Layout(columns=2, cell_inches=1), "three of them"))
    drawn = PILImage.open(path).convert("RGB")
    width, height = drawn.size
    assert width == 220
    wide, high = (0, 0, width // 2, height // 2), (width // 2, 0, width, height // 2)
    for part, shape in ((wide, 2.0), (high, 0.5)):
        reds = [place for place, pixel in _pixels(drawn, part) if pixel == RED]
        across, down = ({place[axis] for place in reds} for axis in (0, 1))
        assert len(across) / len(down) == pytest.approx(shape, rel=0.12)
        assert any(pixel == GREEN for _, pixel in _pixels(drawn, part))
    assert files_in(tmp_path) == ["grid.png"]


def _pixels(image: PILImage.Image, part: tuple[int, int, int, int]) -> list[tuple[tuple[int, int], object]]:
    left, top, right, bottom = part
    return [((x, y), image.getpixel((x, y))) for x in range(left, right) for y in range(top, bottom)]


@pytest.mark.parametrize("label", ["$1.99 $", r"$\frac{$", "50 %", "<b>", "Ä ß", ""])
def test_a_label_may_be_anything(tmp_path: Path, label: str) -> None:
    save_figure(tmp_path / "grid.png", grid([Tile(None, label)], Layout(columns=1), label))
    assert PILImage.open(tmp_path / "grid.png").width > 100


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not supported"):
        save_figure(tmp_path / "grid.doc", grid(TILES))
    with pytest.raises(FileNotFoundError):
        save_figure(tmp_path / "no such folder" / "grid.png", grid(TILES))
    assert files_in(tmp_path) == []
