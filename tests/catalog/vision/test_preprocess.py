"""Geometry and pixels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from catalog.vision import preprocess
from catalog.vision.types import Box

SQUARE = ((0.0, 0.0), (10.0, 0.0), (10.0, 10.0), (0.0, 10.0))


@pytest.mark.parametrize("degrees", [0, 30, 90, 180, -45])
@pytest.mark.parametrize("scale", [0.1, 1.0, 7.0])
def test_a_similarity_is_found_again(degrees: float, scale: float) -> None:
    angle = np.radians(degrees)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    target = [tuple(turn @ point + (3, -4)) for point in SQUARE]
    matrix = preprocess.similarity(SQUARE, target)
    assert matrix is not None
    np.testing.assert_allclose(matrix, np.column_stack([turn, (3, -4)]), atol=1e-9)


def test_the_nearest_similarity_does_not_mirror() -> None:
    mirrored = [(-x, y) for x, y in SQUARE]
    matrix = preprocess.similarity(SQUARE, mirrored)
    assert matrix is None or np.linalg.det(matrix[:, :2]) > 0


@pytest.mark.parametrize("points", [((5.0, 5.0),) * 4, ((float("nan"), 0.0),) * 4, ((float("inf"), 0.0), *SQUARE[1:])])
def test_points_without_a_direction_have_no_similarity(points: tuple[tuple[float, float], ...]) -> None:
    with np.errstate(invalid="ignore"):
        assert preprocess.similarity(points, SQUARE) is None


def test_a_warp_cuts_out_what_it_says() -> None:
    image = Image.new("RGB", (200, 100), "black")
    image.paste("red", (100, 50, 120, 70))
    matrix = np.array([[1.0, 0, -100], [0, 1.0, -50]])
    assert preprocess.warped(image, matrix, 20).getcolors() == [(400, (255, 0, 0))]


def test_a_warp_that_shrinks_averages_instead_of_skipping() -> None:
    stripes = np.zeros((800, 800, 3), np.uint8)
    stripes[:, ::2] = 255
    chip = np.asarray(preprocess.warped(Image.fromarray(stripes), np.array([[0.1, 0, 0], [0, 0.1, 0]]), 80))
    assert np.abs(chip[2:-2, 2:-2].astype(int) - 127).max() <= 2


def test_a_warp_beyond_the_frame_is_black() -> None:
    image = Image.new("RGB", (50, 50), "white")
    for scale in (1.0, 0.1):
        far = np.array([[scale, 0, 5000.0], [0, scale, 5000.0]])
        assert preprocess.warped(image, far, 30).getcolors() == [(900, (0, 0, 0))]


def test_a_copy_is_capped_and_never_enlarged() -> None:
    assert preprocess.capped(Image.new("RGB", (1280, 400)), 640).size == (640, 200)
    assert preprocess.capped(Image.new("RGB", (5000, 1)), 640).size == (640, 1)
    small = Image.new("RGB", (640, 480))
    assert preprocess.capped(small, 640) is small


def test_the_middle_of_a_long_box() -> None:
    assert preprocess.central(Box(10, 0, 100, 10), 40) == Box(40, 0, 40, 10)
    assert preprocess.central(Box(10, 0, 30, 10), 40) == Box(10, 0, 30, 10)
