"""The real embedders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from catalog.vision import cards, registry
from catalog.vision.cards import Context, NoOptions
from catalog.vision.decode import read_image
from catalog.vision.embedders.dlib_resnet import DlibResnet
from catalog.vision.embedders.efficientnet_lite0 import EfficientNetLite0
from catalog.vision.errors import ModelUnavailable
from catalog.vision.extract import embed_regions, extract
from catalog.vision.protocols import Embedder
from catalog.vision.types import Box, DecodedImage, Detection
from tests.catalog.vision.contract import EmbedderContract, noise
from tests.fakes import as_decoded

pytestmark = pytest.mark.models

SAMPLES = Path(__file__).resolve().parents[3] / "catalog" / "samples" / "leaders"


def sample(name: str) -> DecodedImage:
    with (SAMPLES / name).open("rb") as file:
        return read_image(file, name, registry.limits())


def gradient(side: int) -> Image.Image:
    """Red grows to the right, green downwards, blue along the diagonal."""
    ramp = np.linspace(0, 255, side)
    red, green = np.broadcast_to(ramp, (side, side)), np.broadcast_to(ramp[:, None], (side, side))
    return Image.fromarray(np.stack([red, green, (red + green) / 2], axis=2).astype(np.uint8))


class TestDlibResnet(EmbedderContract):
    @pytest.fixture
    def embedder(self, built_models: Path) -> Embedder:
        return DlibResnet(Context(built_models, 1), NoOptions())

    def test_the_known_answer(self, embedder: Embedder) -> None:
        """Recorded from the prototype graph, which was compared with dlib itself (largest difference 4e-7)."""
        vector = embedder.embed([gradient(150)])[0]
        answer = [-0.05098, 0.12099, 0.06011, 0.01424, -0.0557, -0.04608]
        np.testing.assert_allclose(vector[:6], answer, rtol=0, atol=2e-5)

    def test_landmarks_land_on_the_template(self, embedder: Embedder) -> None:
        pixels = Image.new("RGB", (400, 400))
        points = [(x * 1.5 + 40, y * 1.5 + 60) for x, y in cards.DLIB_TEMPLATE]
        for x, y in points:
            pixels.paste("white", (round(x) - 3, round(y) - 3, round(x) + 3, round(y) + 3))
        detection = Detection(Box(40, 60, 200, 200), 1.0, tuple(points))
        chip = np.asarray(embedder.crop(as_decoded(pixels), detection).convert("L"))
        assert [chip[round(y), round(x)] > 200 for x, y in cards.DLIB_TEMPLATE] == [True] * 5
        assert (chip > 128).mean() < 0.01

    def test_the_same_person_is_nearer_than_another(self, real_models: Path) -> None:
        names = ("Barack Obama/portrait-2012.jpg", "Barack Obama/congress-2009.jpg", "Joe Biden/blue-room-2010.jpg")
        first, second, other = (extract(sample(name), ["face"]).regions[0].vectors["dlib-resnet"] for name in names)
        assert np.linalg.norm(first - second) < 0.5
        assert np.linalg.norm(first - other) > 0.7

    def test_a_box_without_landmarks_still_finds_the_person(self, real_models: Path) -> None:
        image = sample("Barack Obama/portrait-2012.jpg")
        found = extract(image, ["face"]).regions[0]
        drawn = embed_regions(image, "face", [Detection(found.detection.box, 1.0)])[0]
        assert np.linalg.norm(found.vectors["dlib-resnet"] - drawn.vectors["dlib-resnet"]) < 0.5

    def test_landmarks_that_coincide_fall_back_to_the_box(self, embedder: Embedder) -> None:
        image, box = as_decoded(noise(300, 300)), Box(50, 50, 150, 180)
        same = embedder.crop(image, Detection(box, 1.0, ((9.0, 9.0),) * 5))
        assert same.tobytes() == embedder.crop(image, Detection(box, 1.0)).tobytes()


class TestEfficientNetLite0(EmbedderContract):
    @pytest.fixture
    def embedder(self, built_models: Path) -> Embedder:
        return EfficientNetLite0(Context(built_models, 1), NoOptions())

    def test_the_known_answer(self, embedder: Embedder) -> None:
        """Recorded from torch running efficientnet-lite-pytorch 0.1.0 with the same weights."""
        vector = embedder.embed([gradient(224)])[0]
        largest = {113: 4.91551, 897: 4.48104, 930: 3.4968, 755: 3.2828, 989: 2.66394, 226: 2.61116}
        np.testing.assert_allclose(vector[list(largest)], list(largest.values()), rtol=0, atol=2e-4)
        assert np.linalg.norm(vector) == pytest.approx(13.35146, abs=1e-3)

    def test_the_middle_is_what_it_sees(self, embedder: Embedder) -> None:
        pixels = Image.new("RGB", (600, 256), "blue")
        pixels.paste("red", (188, 16, 412, 240))
        crop = embedder.crop(as_decoded(pixels), Detection(Box(0, 0, 600, 256), 1.0))
        assert crop.getpixel((0, 0)) == crop.getpixel((223, 223)) == (255, 0, 0)

    def test_the_same_garment_of_another_photo_is_near(self, real_models: Path, photos: Path) -> None:
        def vectors(folder: str) -> np.ndarray:
            files = sorted((photos / "clothing" / "queries" / folder).glob("*.jpg"))[:6]
            images = [read_image(file.open("rb"), file.name, registry.limits()) for file in files]
            rows = np.array([extract(image, ["image"]).regions[0].vectors["efficientnet-lite0"] for image in images])
            return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))

        shoes, dresses = vectors("shoes"), vectors("dress")
        within = (shoes @ shoes.T)[np.triu_indices(6, 1)].mean()
        assert within > (shoes @ dresses.T).mean() + 0.1


def test_numbers_that_are_not_finite_are_refused(built_models: Path) -> None:
    session = DlibResnet(Context(built_models, 1), NoOptions())._session
    with pytest.raises(ModelUnavailable, match="not finite"):
        session.run(np.full((1, 3, 150, 150), np.nan, np.float32))
