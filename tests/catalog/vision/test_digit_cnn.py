"""`digit-cnn`: the contract of embedders, and digits that mean the same."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Image as PILImage

from catalog.digits.rows import held_out, of_table
from catalog.samples.mnist import draw
from catalog.vision import registry
from catalog.vision.cards import Context, NoOptions
from catalog.vision.decode import read_image
from catalog.vision.embedders.digit_cnn import DigitCnn
from catalog.vision.extract import extract, extract_many
from catalog.vision.protocols import Embedder
from catalog.vision.types import Box, Detection
from tests.catalog.vision.contract import EmbedderContract
from tests.catalog.vision.test_digits import PHOTOS, painted, stencil
from tests.fakes import as_decoded

pytestmark = pytest.mark.models
Vectors = NDArray[np.float32]


def photo(digit: str) -> PILImage:
    return Image.fromarray(painted(stencil(digit)).astype(np.uint8))


class TestDigitCnn(EmbedderContract):
    @pytest.fixture
    def embedder(self, built_models: Path) -> Embedder:
        return DigitCnn(Context(built_models, 1), NoOptions())

    @pytest.fixture
    def crops(self, embedder: Embedder) -> list[PILImage]:
        """Noise is no digit, and all of it alike."""
        return [embedder.crop(as_decoded(photo(each)), Detection(Box(0, 0, 300, 300), 1.0)) for each in "31425"]

    def test_vectors_have_length_1(self, embedder: Embedder, crops: list[PILImage]) -> None:
        nothing = Image.new("RGB", (28, 28))
        lengths = np.linalg.norm(embedder.embed([*crops, nothing]), axis=1)
        np.testing.assert_allclose(lengths, 1, rtol=0, atol=1e-5)

    def test_the_crop_is_the_digit_of_the_box_in_mnists_form(self, embedder: Embedder) -> None:
        both = Image.new("RGB", (600, 300))
        both.paste(photo("7"), (0, 0))
        both.paste(photo("4"), (300, 0))
        crops = [embedder.crop(as_decoded(both), Detection(Box(x, 0, 300, 300), 1.0)) for x in (0, 300)]
        alone = [embedder.crop(as_decoded(photo(each)), Detection(Box(0, 0, 300, 300), 1.0)) for each in ("7", "4")]
        assert [crop.tobytes() for crop in crops] == [crop.tobytes() for crop in alone]


def vectors(files: Sequence[bytes]) -> Vectors:
    images = [(read_image(io.BytesIO(each), None, registry.limits()), ["digit"]) for each in files]
    return np.stack([each.regions[0].vectors["digit-cnn"] for each in extract_many(images)])


@pytest.fixture(scope="module")
def some_of_each() -> tuple[list[bytes], NDArray[np.uint8]]:
    """Files of the sample: twenty of each digit."""
    digits = of_table()
    kept = np.flatnonzero(~held_out(len(digits)))[::20]
    return [draw(digits.ink[index].tobytes()) for index in kept], digits.labels[kept]


def test_held_out_digits_find_their_like_first(
    real_models: Path, some_of_each: tuple[list[bytes], NDArray[np.uint8]]
) -> None:
    digits = of_table()
    queries = np.flatnonzero(held_out(len(digits)))[::10]
    files, labels = some_of_each
    found = vectors([draw(digits.ink[index].tobytes()) for index in queries]) @ vectors(files).T
    right = labels[found.argmax(axis=1)] == digits.labels[queries]
    assert right.mean() >= 0.96


@pytest.mark.parametrize("kind", PHOTOS)
def test_however_it_was_photographed_its_vector_is_the_same(real_models: Path, kind: str) -> None:
    evaluation = registry.describe("digit-cnn").evaluation
    assert evaluation is not None
    for digit in "02458":
        plain = extract(as_decoded(photo(digit)), ["digit"]).regions[0].vectors["digit-cnn"]
        pixels = PHOTOS[kind](digit).clip(0, 255).astype(np.uint8)
        found = extract(as_decoded(Image.fromarray(pixels)), ["digit"]).regions[0].vectors["digit-cnn"]
        assert 1 - plain @ found <= evaluation.same, digit


def test_no_digit_is_near_an_empty_sheet(
    real_models: Path, some_of_each: tuple[list[bytes], NDArray[np.uint8]]
) -> None:
    evaluation = registry.describe("digit-cnn").evaluation
    assert evaluation is not None
    empty = extract(as_decoded(Image.new("RGB", (300, 300), "white")), ["digit"]).regions[0].vectors["digit-cnn"]
    assert (1 - vectors(some_of_each[0]) @ empty).min() > evaluation.near
