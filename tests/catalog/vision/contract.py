"""What every detector and every embedder keeps. Subclass, and give the fixtures named in each suite."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from PIL.Image import Image as PILImage
from PIL.Image import Transpose

from catalog.vision.protocols import Detector, Embedder
from catalog.vision.types import Box, DecodedImage, Detection
from tests.fakes import as_decoded


def noise(width: int, height: int, seed: int = 7) -> PILImage:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


class DetectorContract:
    """Needs a fixture ``detector`` and one ``image`` in which it finds something."""

    def test_boxes_have_an_area_and_lie_inside_the_frame(self, detector: Detector, image: PILImage) -> None:
        found = detector.detect(image)
        assert found
        for detection in found:
            box = detection.box
            assert box.width > 0 and box.height > 0
            assert box.x >= 0 and box.right <= image.width
            assert box.y >= 0 and box.bottom <= image.height
            assert 0 <= detection.score <= 1
            assert detection.landmarks is None or len(detection.landmarks) == 5

    def test_the_same_image_gives_the_same_list(self, detector: Detector, image: PILImage) -> None:
        assert detector.detect(image) == detector.detect(image.copy())

    def test_the_image_is_not_changed(self, detector: Detector, image: PILImage) -> None:
        before = image.tobytes()
        detector.detect(image)
        assert image.tobytes() == before

    @pytest.mark.parametrize("size", [(1, 1), (640, 1), (1, 640), (640, 2), (13, 11)])
    def test_any_size_has_an_answer(self, detector: Detector, size: tuple[int, int]) -> None:
        for detection in detector.detect(Image.new("RGB", size, "white")):
            assert detection.box.area > 0
            assert detection.box.right <= size[0] and detection.box.bottom <= size[1]

    def test_it_has_a_version(self, detector: Detector) -> None:
        assert detector.VERSION


class EmbedderContract:
    """Needs a fixture ``embedder``."""

    @pytest.fixture
    def crops(self, embedder: Embedder) -> list[PILImage]:
        images = [as_decoded(noise(320, 240, seed)) for seed in range(5)]
        return [embedder.crop(image, Detection(Box(20, 10, 200, 210), 1.0)) for image in images]

    def test_rows_are_float32_and_finite(self, embedder: Embedder, crops: list[PILImage]) -> None:
        vectors = embedder.embed(crops)
        assert vectors.shape == (5, embedder.dimension)
        assert vectors.dtype == np.float32
        assert np.isfinite(vectors).all()

    def test_no_crops_give_no_rows(self, embedder: Embedder) -> None:
        assert embedder.embed([]).shape == (0, embedder.dimension)
        assert embedder.embed([]).dtype == np.float32

    def test_a_vector_does_not_depend_on_its_batch(self, embedder: Embedder, crops: list[PILImage]) -> None:
        together = embedder.embed(crops)
        alone = np.concatenate([embedder.embed([crop]) for crop in crops])
        backwards = embedder.embed(crops[::-1])[::-1]
        np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)
        np.testing.assert_allclose(together, backwards, rtol=0, atol=1e-5)

    def test_a_batch_of_eight_is_no_further_off_than_rounding(self, embedder: Embedder, crops: list[PILImage]) -> None:
        """Distances between a crop alone and among eight, of vectors at most of unit length."""
        eight = [*crops, *(crop.transpose(Transpose.ROTATE_180) for crop in crops[:3])]
        together = embedder.embed(eight)
        alone = np.concatenate([embedder.embed([crop]) for crop in eight])
        lengths = np.maximum(np.linalg.norm(alone, axis=1), 1.0)
        assert (np.linalg.norm(together - alone, axis=1) / lengths).max() < 1e-4

    def test_different_crops_give_different_vectors(self, embedder: Embedder, crops: list[PILImage]) -> None:
        first, second = embedder.embed(crops[:2])
        assert np.abs(first - second).max() > 1e-3

    @pytest.mark.parametrize(
        "box",
        [
            Box(0, 0, 320, 240),
            Box(100, 100, 0.2, 0.2),
            Box(-50, -50, 80, 80),
            Box(300, 230, 100, 100),
            Box(500, 500, 10, 10),
        ],
    )
    def test_any_box_gives_a_crop_of_one_size(self, embedder: Embedder, crops: list[PILImage], box: Box) -> None:
        crop = embedder.crop(as_decoded(noise(320, 240)), Detection(box, 1.0))
        assert (crop.mode, crop.size) == ("RGB", crops[0].size)

    @pytest.mark.parametrize("size", [(1, 1), (2500, 7), (3, 1900)])
    def test_any_image_gives_a_crop(self, embedder: Embedder, crops: list[PILImage], size: tuple[int, int]) -> None:
        image = as_decoded(Image.new("RGB", size, "teal"))
        crop = embedder.crop(image, Detection(Box(0, 0, *size), 1.0))
        assert (crop.mode, crop.size) == ("RGB", crops[0].size)

    def test_a_box_is_in_pixels_of_the_original(self, embedder: Embedder) -> None:
        pixels = noise(320, 240)
        here = embedder.crop(as_decoded(pixels), Detection(Box(40, 30, 120, 160), 1.0))
        scaled = embedder.crop(as_decoded(pixels, scale=4), Detection(Box(160, 120, 480, 640), 1.0))
        assert here.tobytes() == scaled.tobytes()

    def test_cropping_does_not_change_the_image(self, embedder: Embedder) -> None:
        image: DecodedImage = as_decoded(noise(320, 240))
        before = image.pixels.tobytes()
        embedder.crop(image, Detection(Box(40, 30, 120, 160), 1.0))
        assert image.pixels.tobytes() == before

    def test_it_has_a_version(self, embedder: Embedder) -> None:
        assert embedder.VERSION
