"""Any image of a digit in MNIST's form: as its makers made it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from catalog.digits.rows import of_table
from catalog.vision.mnist_form import mnist_form
from tests.catalog.vision.contract import noise

Pixels = NDArray[np.float32]
SIDE = 300
INK, PAPER = (25, 30, 60), (235, 230, 220)


def stencil(digit: str, height: int = 140, at: tuple[int, int] | None = None, size: int = SIDE) -> Pixels:
    """(size, size), 1 where the digit is: in the middle, or with its top left corner ``at`` a place."""
    font = ImageFont.load_default(height)
    image = Image.new("L", (size, size))
    draw = ImageDraw.Draw(image)
    left, top, right, bottom = draw.textbbox((0, 0), digit, font=font)
    x, y = at or ((size - right + left) // 2, (size - bottom + top) // 2)
    draw.text((x - left, y - top), digit, 255, font)
    return np.asarray(image, np.float32) / 255


def painted(mask: Pixels, ink: tuple[int, ...] = INK, ground: tuple[int, ...] = PAPER) -> Pixels:
    return np.array(ground, np.float32) * (1 - mask[..., None]) + np.array(ink, np.float32) * mask[..., None]


def form(pixels: Pixels) -> NDArray[np.uint8]:
    return mnist_form(Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)))


def likeness(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Correlation, the best of all shifts by up to a pixel: a centre of mass between two pixels may fall to either."""
    shifts = [np.roll(second, (down, across), (0, 1)) for down in (-1, 0, 1) for across in (-1, 0, 1)]
    return max(float(np.corrcoef(first.ravel(), each.ravel())[0, 1]) for each in shifts)


def slanting_light() -> Pixels:
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    return (0.35 + 0.39 * x + 0.26 * y).astype(np.float32)[..., None]


def lamp() -> Pixels:
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    return (1 - 1.2 * (x**2 + y**2)).astype(np.float32)[..., None]


def grain(strength: float) -> Pixels:
    return np.random.default_rng(3).normal(0, strength, (SIDE, SIDE, 3)).astype(np.float32)


def on_a_table(digit: str, degrees: float) -> Pixels:
    """A sheet with the digit, lying askew on a brown table."""
    sheet = Image.fromarray(painted(stencil(digit)).astype(np.uint8)).rotate(degrees, Image.Resampling.BICUBIC, True)
    where = Image.new("L", (SIDE, SIDE), 255).rotate(degrees, Image.Resampling.BICUBIC, True)
    table = Image.new("RGB", (600, 500), (110, 80, 50))
    table.paste(sheet, (120, 60), where)
    return np.asarray(table, np.float32)


def with_dirt(pixels: Pixels) -> Pixels:
    random = np.random.default_rng(5)
    for x, y in random.integers(0, SIDE - 2, (25, 2)):
        pixels[y : y + 2, x : x + 2] = 60
    return pixels


def with_an_edge(pixels: Pixels) -> Pixels:
    pixels[:, :20] = (90, 60, 30)
    return pixels


def on_ruled_paper(digit: str, *, upright: bool = False, degrees: float = 0) -> Pixels:
    """Lines of 2 px, paler than the ink, which lies above them."""
    y, x = np.mgrid[:SIDE, :SIDE]
    down, across = (
        along % 40 < 2 for along in (y + x * np.tan(np.radians(degrees)), x - y * np.tan(np.radians(degrees)))
    )
    ruled = (down | across if upright else down)[..., None]
    return np.where(ruled, np.minimum(painted(stencil(digit)), (150, 170, 205)), painted(stencil(digit))).astype(
        np.float32
    )


def at_the_edge_of_a_shadow(digit: str, *, across: float = 0.4) -> Pixels:
    y, x = np.mgrid[:SIDE, :SIDE]
    dark = np.clip((x + across * y - 200) / 6, 0, 1)[..., None]
    return (painted(stencil(digit)) * (1 - 0.45 * dark)).astype(np.float32)


PHOTOS: dict[str, Callable[[str], Pixels]] = {
    "light on dark": lambda digit: painted(stencil(digit), PAPER, INK),
    "red on green": lambda digit: painted(stencil(digit), (190, 60, 60), (60, 150, 60)),
    "red on green, both as bright": lambda digit: painted(stencil(digit), (255, 0, 10), (0, 130, 0)),
    "slanting light": lambda digit: painted(stencil(digit)) * slanting_light(),
    "light on dark in slanting light": lambda digit: painted(stencil(digit), PAPER, (70, 70, 80)) * slanting_light(),
    "under a lamp": lambda digit: painted(stencil(digit)) * lamp(),
    "grainy": lambda digit: painted(stencil(digit)) + grain(14),
    "faint": lambda digit: painted(stencil(digit), (200, 196, 188)) + grain(2),
    "off-centre": lambda digit: painted(stencil(digit, at=(8, 150))),
    "small": lambda digit: painted(stencil(digit, height=60, at=(200, 30))),
    "with the edge of the sheet": lambda digit: with_an_edge(painted(stencil(digit))),
    "with dirt": lambda digit: with_dirt(painted(stencil(digit))),
    "on ruled paper": on_ruled_paper,
    "on ruled paper that lies askew": lambda digit: on_ruled_paper(digit, degrees=2),
    "on squared paper": lambda digit: on_ruled_paper(digit, upright=True),
    "at the edge of a shadow": at_the_edge_of_a_shadow,
    "at the edge of a shadow, grainy": lambda digit: at_the_edge_of_a_shadow(digit, across=-0.3) + grain(5),
    "on a sheet on a table": lambda digit: on_a_table(digit, 0),
    "on a sheet that lies askew": lambda digit: on_a_table(digit, 7),
}


@cache
def plain() -> dict[str, NDArray[np.uint8]]:
    return {digit: form(painted(stencil(digit), (0, 0, 0), (255, 255, 255))) for digit in "0123456789"}


@pytest.mark.parametrize("kind", PHOTOS)
def test_however_it_was_photographed_the_digit_has_the_same_form(kind: str) -> None:
    for digit in "02458":
        found = form(PHOTOS[kind](digit))
        assert likeness(found, plain()[digit]) > 0.85, digit
        assert max(plain(), key=lambda each: likeness(found, plain()[each])) == digit


@pytest.mark.parametrize("digit", "0123456789")
def test_the_form_is_that_of_mnist(digit: str) -> None:
    """Light on dark, 20 px long, its centre of mass in the middle, with grey edges."""
    found = form(painted(stencil(digit, at=(20, 90))))
    assert (found.shape, found.dtype) == ((28, 28), np.uint8)
    rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 in (20, 21)
    mass = found / found.sum()
    assert abs((mass.sum(axis=1) * np.arange(28)).sum() - 14) <= 0.55
    assert abs((mass.sum(axis=0) * np.arange(28)).sum() - 14) <= 0.55
    assert found.max() == 255
    assert ((found > 30) & (found < 225)).any()


def test_a_digit_of_mnist_comes_out_as_it_was() -> None:
    """All but a few: where a stroke was torn off far from the rest."""
    digits = of_table().ink[::50]
    found = np.stack([mnist_form(Image.fromarray(each).convert("RGB")) for each in digits])
    differences = np.abs(found.astype(int) - digits).mean(axis=(1, 2))
    assert np.median(differences) < 0.2  # of 255
    assert np.mean(differences < 2) >= 0.96
    dark = np.stack([mnist_form(Image.fromarray(255 - each).convert("RGB")) for each in digits])
    assert np.abs(dark.astype(int) - found).max() <= 2


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 40), (300, 300), (2500, 7)])
def test_where_nothing_is_drawn_there_is_no_ink(size: tuple[int, int]) -> None:
    assert not mnist_form(Image.new("RGB", size, "teal")).any()


def test_paper_and_light_alone_are_no_ink() -> None:
    blank = np.full((SIDE, SIDE, 3), 210, np.float32)
    assert not form(blank + grain(5)).any()
    assert not form(blank * slanting_light()).any()
    assert not form(blank * lamp()).any()


@pytest.mark.parametrize("size", [(2, 2), (7, 5), (640, 2), (3, 900), (320, 240)])
def test_whatever_is_in_it_an_image_has_a_form(size: tuple[int, int]) -> None:
    assert mnist_form(noise(*size)).shape == (28, 28)


def test_a_digit_that_fills_its_image_to_the_frame_is_no_edge() -> None:
    mask = stencil("8", height=200)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    tight = painted(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    assert likeness(form(tight), form(painted(mask))) > 0.9
