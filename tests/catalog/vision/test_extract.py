"""From an image to regions with vectors, with detectors and embedders that go by colour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL.Image import Image as PILImage
from PIL.Image import Transpose
from pytest_django.fixtures import Settings

from catalog.vision import extract as extraction
from catalog.vision import registry
from catalog.vision.cards import Card, Context
from catalog.vision.decode import Limits, read_image
from catalog.vision.errors import ModelUnavailable
from catalog.vision.extract import embed_regions, extract, extract_many
from catalog.vision.registry import UnknownPipeline
from catalog.vision.types import Box, DecodedImage, Detection
from tests.catalog.vision.files import encoded, with_exif
from tests.fakes import MeanColour, as_decoded, drawn_image


class Counted(MeanColour):
    """Notes the sizes of its batches."""

    batches: list[int] = []

    def embed(self, crops: Sequence[PILImage]) -> np.ndarray:
        Counted.batches.append(len(crops))
        return super().embed(crops)


@pytest.fixture(autouse=True)
def fakes(settings: Settings) -> None:
    """``squares`` finds squares and has two embedders, ``whole`` takes the frame."""
    Counted.batches = []
    settings.VISEARCH_DETECTORS = {
        "squares": {"BACKEND": "tests.fakes.ColourSquares"},
        "frame": {"BACKEND": "catalog.vision.detectors.frame.Frame"},
    }
    settings.VISEARCH_EMBEDDERS = {
        "counted": {"BACKEND": f"{__name__}.Counted"},
        "second": {"BACKEND": "tests.fakes.MeanColour"},
        "third": {"BACKEND": "tests.fakes.MeanColour"},
    }
    settings.VISEARCH_PIPELINES = {
        "squares": {"DETECTOR": "squares", "EMBEDDERS": ["counted", "second"]},
        "whole": {"DETECTOR": "frame", "EMBEDDERS": ["third"]},
    }


TWO = [(10, 10, 30, "red"), (80, 40, 60, "blue")]


def test_regions_are_grouped_by_pipeline_best_first() -> None:
    found = extract(as_decoded(drawn_image(TWO)), ["squares", "whole"])
    assert (found.width, found.height) == (200, 150)
    assert [(region.pipeline, region.detection.box) for region in found.regions] == [
        ("squares", Box(80, 40, 60, 60)),
        ("squares", Box(10, 10, 30, 30)),
        ("whole", Box(0, 0, 200, 150)),
    ]


def test_a_vector_is_its_own_regions() -> None:
    blue, red = extract(as_decoded(drawn_image(TWO)), ["squares"]).regions
    assert list(red.vectors) == ["counted"]
    np.testing.assert_allclose(red.vectors["counted"][:2], [1.01, 0.01], atol=1e-5)
    np.testing.assert_allclose(blue.vectors["counted"][:2], [0.01, 1.01], atol=1e-5)


def test_boxes_are_in_pixels_of_the_oriented_original() -> None:
    upright = drawn_image([(1200, 300, 600, "red")], size=(4000, 3000))
    file = with_exif(upright.transpose(Transpose.ROTATE_90), "PNG", 6)  # stored a quarter turn to the left
    image = read_image(file, None, Limits())
    assert max(image.pixels.size) == 2000
    (region,) = extract(image, ["squares"]).regions
    assert region.detection.box.iou(Box(1200, 300, 600, 600)) > 0.95
    np.testing.assert_allclose(region.vectors["counted"][[0, 1]], [1.01, 0.01], atol=0.05)


@pytest.mark.parametrize("size", [(333, 1000), (1279, 641), (5000, 3), (1, 1)])
def test_the_whole_frame_is_exactly_the_original(size: tuple[int, int]) -> None:
    image = read_image(encoded(drawn_image([], size=size)), None, Limits())
    (region,) = extract(image, ["whole"]).regions
    assert region.detection.box == Box(0, 0, *size)


def test_an_image_without_regions_has_none() -> None:
    assert extract(as_decoded(drawn_image([])), ["squares"]).regions == ()
    assert extract(as_decoded(drawn_image(TWO)), []).regions == ()
    assert Counted.batches == []


def test_the_embedders_are_the_callers_choice() -> None:
    image = as_decoded(drawn_image(TWO))
    both = extract(image, ["squares", "whole"], {"squares": ["second", "counted"]}).regions
    assert [sorted(region.vectors) for region in both] == [["counted", "second"]] * 2 + [["third"]]
    assert [dict(region.vectors) for region in extract(image, ["squares"], {"squares": []}).regions] == [{}, {}]


def test_unknown_pipelines_are_refused() -> None:
    with pytest.raises(UnknownPipeline, match="cats"):
        extract(as_decoded(drawn_image(TWO)), ["squares", "cats"])


def test_many_images_share_batches_and_keep_their_order() -> None:
    images = [as_decoded(drawn_image(TWO if number % 3 else [])) for number in range(15)]
    together = extract_many((image, ["squares"]) for image in images)
    assert Counted.batches == [16, 4]
    assert all(size <= extraction.BATCH for size in Counted.batches)
    for image, found in zip(images, together, strict=True):
        alone = extract(image, ["squares"])
        assert [region.detection for region in found.regions] == [region.detection for region in alone.regions]
        for one, other in zip(found.regions, alone.regions, strict=True):
            np.testing.assert_allclose(one.vectors["counted"], other.vectors["counted"], rtol=0, atol=1e-5)


def test_each_image_has_its_own_pipelines() -> None:
    image = as_decoded(drawn_image(TWO))
    found = extract_many([(image, ["whole"]), (image, []), (image, ["squares"])])
    assert [[region.pipeline for region in one.regions] for one in found] == [["whole"], [], ["squares", "squares"]]


def test_images_are_taken_one_at_a_time() -> None:
    """The next image is asked for only after the one before was detected, so a generator may decode lazily."""
    order: list[str] = []
    detector = registry.detector("squares")
    original = detector.detect

    def images() -> Iterator[tuple[DecodedImage, list[str]]]:
        for name in "ab":
            order.append(f"decode {name}")
            yield as_decoded(drawn_image(TWO)), ["squares"]

    def detect(image: PILImage) -> list[Detection]:
        order.append("detect")
        return original(image)

    detector.detect = detect  # type: ignore[method-assign]
    extract_many(images())
    assert order == ["decode a", "detect", "decode b", "detect"]


def test_regions_drawn_by_hand_get_vectors_without_detection() -> None:
    image = as_decoded(drawn_image(TWO), scale=2)
    drawn = [Detection(Box(30, 30, 40, 40), 1.0), Detection(Box(180, 100, 60, 60), 1.0)]
    red, blue = embed_regions(image, "squares", drawn)
    assert [red.detection, blue.detection] == drawn
    np.testing.assert_allclose(red.vectors["counted"][:2], [1.01, 0.01], atol=1e-5)
    np.testing.assert_allclose(blue.vectors["counted"][:2], [0.01, 1.01], atol=1e-5)
    assert embed_regions(image, "squares", []) == ()


def test_a_missing_model_stops_it_with_what_to_do(settings: Settings, tmp_path: Path) -> None:
    settings.VISEARCH_MODELS_DIR = tmp_path
    settings.VISEARCH_EMBEDDERS = {
        **settings.VISEARCH_EMBEDDERS,
        "third": {"BACKEND": "catalog.vision.embedders.efficientnet_lite0.EfficientNetLite0"},
    }
    with pytest.raises(ModelUnavailable, match=r"efficientnet-lite0 is not built .* run `manage.py models build`"):
        extract(as_decoded(drawn_image(TWO)), ["whole"])
    assert list(tmp_path.iterdir()) == []


# --- Detectors that break their contract ------------------------------------------------------------------------------


class Broken:
    """Returns what a test puts here."""

    CARD = Card(version="1")
    VERSION = CARD.version
    says: list[Detection] = []

    def __init__(self, context: Context, options: object) -> None:
        pass

    def detect(self, image: PILImage) -> list[Detection]:
        return self.says


NAN, INF = float("nan"), float("inf")
FINE = Detection(Box(10, 20, 30, 40), 0.9, ((1.0, 2.0),) * 5)


@pytest.fixture
def broken(settings: Settings) -> type[Broken]:
    settings.VISEARCH_DETECTORS = {**settings.VISEARCH_DETECTORS, "broken": {"BACKEND": f"{__name__}.Broken"}}
    settings.VISEARCH_PIPELINES = {"squares": {"DETECTOR": "broken", "EMBEDDERS": ["counted"]}}
    return Broken


@pytest.mark.parametrize(
    "bad",
    [
        Detection(Box(NAN, 0, 10, 10), 1.0),
        Detection(Box(0, 0, INF, 10), 1.0),
        Detection(Box(0, 0, 0, 10), 1.0),
        Detection(Box(50, 50, -20, 10), 1.0),
        Detection(Box(500, 500, 10, 10), 1.0),
        Detection(Box(-30, 0, 30, 30), 1.0),
        Detection(Box(10, 10, 1e-9, 1e-9), 1.0),
        Detection(Box(0, 0, 10, 10), NAN),
    ],
    ids=repr,
)
def test_a_box_without_area_in_the_frame_is_left_out_and_the_log_says_so(
    broken: type[Broken], caplog: pytest.LogCaptureFixture, bad: Detection
) -> None:
    broken.says = [bad, FINE]
    (region,) = extract(as_decoded(drawn_image(TWO)), ["squares"]).regions
    assert region.detection == FINE
    assert "broken: a detection without an area in the image is left out" in caplog.text


def test_a_box_beyond_the_frame_is_clipped(broken: type[Broken]) -> None:
    broken.says = [Detection(Box(-20, 100, 1000, 1000), 7.5)]
    (region,) = extract(as_decoded(drawn_image(TWO)), ["squares"]).regions
    assert region.detection == Detection(Box(0, 100, 200, 50), 1.0)
    assert np.isfinite(region.vectors["counted"]).all()


@pytest.mark.parametrize("points", [((NAN, 2.0),) * 5, ((1.0, INF),) * 5, ((1.0, 2.0),) * 4, ()])
def test_landmarks_that_are_no_points_are_forgotten(
    broken: type[Broken], caplog: pytest.LogCaptureFixture, points: tuple[tuple[float, float], ...]
) -> None:
    broken.says = [Detection(FINE.box, 0.9, points)]
    (region,) = extract(as_decoded(drawn_image(TWO)), ["squares"]).regions
    assert region.detection == Detection(FINE.box, 0.9, None)
    assert "landmarks that are not five finite points are forgotten" in caplog.text


def test_nothing_is_logged_of_a_detector_that_keeps_its_contract(
    broken: type[Broken], caplog: pytest.LogCaptureFixture
) -> None:
    broken.says = [FINE, Detection(FINE.box, 1.0)]
    assert len(extract(as_decoded(drawn_image(TWO)), ["squares"]).regions) == 2
    assert caplog.text == ""
