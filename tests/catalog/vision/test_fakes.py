"""The fakes keep the contracts, so what is tested with them holds for the real ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL.Image import Image as PILImage

from catalog.vision.cards import Context, NoOptions
from catalog.vision.protocols import Detector, Embedder
from catalog.vision.types import Box
from tests.catalog.vision.contract import DetectorContract, EmbedderContract
from tests.fakes import ColourSquares, MeanColour, SquareOptions, drawn_image

CONTEXT = Context(Path("unused"), 1)


class TestColourSquares(DetectorContract):
    @pytest.fixture
    def detector(self) -> Detector:
        return ColourSquares(CONTEXT, SquareOptions())

    @pytest.fixture
    def image(self) -> PILImage:
        return drawn_image([(5, 5, 20, "red"), (120, 60, 50, "blue")])

    def test_squares_are_found_largest_first(self, detector: Detector, image: PILImage) -> None:
        assert [found.box for found in detector.detect(image)] == [Box(120, 60, 50, 50), Box(5, 5, 20, 20)]


class TestMeanColour(EmbedderContract):
    @pytest.fixture
    def embedder(self) -> Embedder:
        return MeanColour(CONTEXT, NoOptions())
