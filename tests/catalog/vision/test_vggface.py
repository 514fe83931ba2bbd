"""The article's three networks: built from files as keras-vggface writes them, cropped and fed as it asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from catalog.vision import cards, fetching, networks
from catalog.vision.builders import vggface as builders
from catalog.vision.cards import Context, PinOptions
from catalog.vision.embedders.vggface import VggFace2ResNet50, VggFace2SeNet50, VggFaceVgg16, face_crop, preprocessed
from catalog.vision.protocols import Embedder
from catalog.vision.published import PUBLISHED
from catalog.vision.readers import vggface
from catalog.vision.readers.errors import UnreadableWeights
from catalog.vision.types import Box, Detection
from tests.catalog.vision.contract import EmbedderContract
from tests.catalog.vision.test_embedders import gradient
from tests.fakes import as_decoded
from tests.keras_files import SMALL, random_file

pytestmark = pytest.mark.models

ARCHITECTURES: dict[str, Callable[[], vggface.Layers]] = {
    "vggface-vgg16": vggface.vgg16_layers,
    "vggface2-resnet50": vggface.resnet50_layers,
    "vggface2-senet50": vggface.senet50_layers,
}


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Name to the folder with the network of these weights, random ones that were taken as a file at hand.

    Without the proof against keras-vggface, which takes longer where it is installed: see test_known_answers.
    """
    folder = tmp_path_factory.mktemp("vggface")
    done: set[str] = set()

    def build(name: str) -> Path:
        if name not in done:
            file = folder / "random.h5"
            file.write_bytes(random_file(ARCHITECTURES[name]()))
            fetching.take(PUBLISHED[name], folder, file)
            (network,) = maker(name).make(PinOptions(), folder).networks
            networks.build(replace(network, proof=""), folder)
            done.add(name)
        return folder

    return build


def maker(name: str) -> cards.CardMaker:
    return {
        "vggface-vgg16": cards.VGGFACE_VGG16,
        "vggface2-resnet50": cards.VGGFACE2_RESNET50,
        "vggface2-senet50": cards.VGGFACE2_SENET50,
    }[name]


class TestVggFace2SeNet50(EmbedderContract):
    @pytest.fixture
    def embedder(self, built: Callable[[str], Path]) -> Embedder:
        return VggFace2SeNet50(Context(built("vggface2-senet50"), 1), PinOptions())


# First and last numbers, and the length, of what keras-vggface 0.6 (tf-keras and tensorflow 2.21.0) gave for the same
# files, which it loaded itself, and `gradient`.
KNOWN = {
    "vggface-vgg16": ([1.46777, 0.470371, 1.19306, 1.4899], [2.33879, 1.11221, 0.00957059], 26.72258),
    "vggface2-resnet50": ([4.70892, 3.05315, 28.8574, 0.450854], [0.0, 2.64556, 9.99294], 264.8423),
    "vggface2-senet50": ([0.379299, 0.0574239, 2.00806, 0.193028], [0.34274, 1.25966, 0.0336031], 124.31191),
}


@pytest.mark.parametrize(
    ("name", "embedder"),
    [
        ("vggface-vgg16", VggFaceVgg16),
        ("vggface2-resnet50", VggFace2ResNet50),
        ("vggface2-senet50", VggFace2SeNet50),
    ],
)
def test_known_answers(built: Callable[[str], Path], name: str, embedder: Callable[..., Embedder]) -> None:
    (vector,) = embedder(Context(built(name), 1), PinOptions()).embed([gradient(224)])
    first, last, length = KNOWN[name]
    np.testing.assert_allclose(vector[: len(first)], first, rtol=5e-5, atol=1e-5)
    np.testing.assert_allclose(vector[-len(last) :], last, rtol=5e-5, atol=1e-5)
    assert np.linalg.norm(vector) == pytest.approx(length, rel=1e-5)


@pytest.mark.parametrize("build", [builders.build_vgg16, builders.build_resnet50, builders.build_senet50])
def test_another_networks_file_is_not_built(build: Callable[[bytes], bytes]) -> None:
    with pytest.raises(UnreadableWeights, match="another network"):
        build(random_file(SMALL))


def test_a_pinned_file_and_a_recorded_one_are_the_same_model(tmp_path: Path) -> None:
    item = PUBLISHED["vggface-vgg16"]
    item.path(tmp_path).parent.mkdir()
    item.record_path(tmp_path).write_text(
        '{"name": "", "file": "", "sha256": "%s", "size": 1, "origin": "", "licence": "", "fetched_at": ""}'
        % ("ab" * 32)
    )
    recorded = fingerprint(tmp_path, PinOptions())
    assert recorded == fingerprint(tmp_path, PinOptions("AB" * 32))
    assert recorded != fingerprint(tmp_path, PinOptions("cd" * 32))
    assert recorded != fingerprint(tmp_path / "nothing fetched", PinOptions())


def fingerprint(folder: Path, options: PinOptions) -> str:
    return maker("vggface-vgg16").make(options, folder).fingerprint("backend", options)


# --- Crops ------------------------------------------------------------------------------------------------------------


def ramp(width: int, height: int) -> Image.Image:
    """Red is the column, green the row."""
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([columns, rows, columns * 0], axis=2).astype(np.uint8))


def seen(box: Box, size: tuple[int, int] = (250, 250)) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the part of an image of this ``size`` that the crop of ``box`` shows."""
    crop = face_crop(as_decoded(ramp(*size)), Detection(box, 1.0))
    assert crop.size == (224, 224)
    red, green, _ = np.asarray(crop).astype(float).transpose(2, 0, 1)
    step_x, step_y = (red[0, 200] - red[0, 20]) / 180, (green[200, 0] - green[20, 0]) / 180
    left, top = red[0, 20] - 20.5 * step_x, green[20, 0] - 20.5 * step_y
    return left + 0.5, top + 0.5, left + 224 * step_x + 0.5, top + 224 * step_y + 0.5


@pytest.mark.parametrize(
    ("box", "shown"),
    [
        (Box(75, 75, 100, 100), (60, 60, 190, 190)),  # 0.15 of its side on each side
        (Box(80, 75, 90, 100), (66.5, 66.5, 183.5, 183.5)),  # as wide as its width extended, the middle of its height
        (Box(100, 75, 50, 100), (68.125, 68.125, 181.875, 181.875)),  # at least 7/8 of its height wide
        (Box(0, 75, 100, 100), (0, 67.5, 115, 182.5)),  # what lies beyond the frame is left out
        (Box(150, 150, 100, 100), (135, 135, 250, 250)),
    ],
)
def test_the_box_is_extended_by_its_share_and_cut_to_its_middle_square(
    box: Box, shown: tuple[float, float, float, float]
) -> None:
    np.testing.assert_allclose(seen(box), shown, atol=2.0)


def test_a_face_is_not_distorted() -> None:
    left, top, right, bottom = seen(Box(60, 30, 60, 120))
    assert right - left == pytest.approx(bottom - top, abs=2.0)


def test_landmarks_change_nothing() -> None:
    image, box = as_decoded(ramp(250, 250)), Box(75, 75, 100, 100)
    turned = ((80.0, 150.0), (80.0, 90.0), (120.0, 120.0), (150.0, 150.0), (150.0, 90.0))
    with_landmarks = face_crop(image, Detection(box, 1.0, turned))
    assert with_landmarks.tobytes() == face_crop(image, Detection(box, 1.0)).tobytes()


@pytest.mark.parametrize(
    ("version", "blue_green_red"),
    [(1, (30 - 93.5940, 20 - 104.7624, 10 - 129.1863)), (2, (30 - 91.4953, 20 - 103.8827, 10 - 131.0912))],
)
def test_pixels_are_fed_as_keras_vggface_does(version: int, blue_green_red: tuple[float, ...]) -> None:
    """Its preprocess_input of an image whose pixels are 10, 20, 30: red, green, blue."""
    fed = preprocessed([Image.new("RGB", (224, 224), (10, 20, 30))] * 2, version)
    assert (fed.shape, fed.dtype) == ((2, 3, 224, 224), np.float32)
    np.testing.assert_allclose(fed[1, :, 100, 50], blue_green_red, rtol=1e-6)
    assert VggFaceVgg16.PREPROCESSING == 1
    assert VggFace2ResNet50.PREPROCESSING == VggFace2SeNet50.PREPROCESSING == 2
