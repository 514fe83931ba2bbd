"""Networks that operators bring: embedders by settings alone, and files that are refused."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from django.core import checks
from django.core.management import CommandError, call_command
from PIL import Image
from PIL.Image import Image as PILImage
from pytest_django.fixtures import Settings

from catalog.models import EmbeddingModel
from catalog.vision import alignment, cards, networks, registry
from catalog.vision.cards import Context
from catalog.vision.embedders.onnx_file import OnnxEmbedder
from catalog.vision.errors import ModelFailed, ModelUnavailable
from catalog.vision.extract import extract
from catalog.vision.onnx_options import OnnxOptions
from catalog.vision.protocols import Embedder
from catalog.vision.types import Box, Detection
from tests.catalog.vision import exported
from tests.catalog.vision.contract import EmbedderContract
from tests.catalog.vision.exported import BACKEND, SIDE, options_of
from tests.fakes import as_decoded, drawn_image

FRAME = Detection(Box(0, 0, 64, 64), 1.0)


def built(folder: Path, data: bytes, **changes: Any) -> OnnxEmbedder:
    path = folder / "network.onnx"
    path.write_bytes(data)
    options = OnnxOptions(**options_of(path, **changes))
    embedder = OnnxEmbedder(Context(folder / "models", 1), options)
    networks.build(networks.onnx_file(options, folder / "models"), folder / "models")
    return embedder


# --- What it computes -------------------------------------------------------------------------------------------------

CROPS: dict[str, dict[str, Any]] = {
    "aligned": {"crop": "aligned", "template": "arcface-112"},
    "box": {"crop": "box", "margin": 0.3, "fit": "stretch", "resampling": "bilinear"},
    "frame": {"crop": "frame", "short_side": 40, "normalise": True},
}


@pytest.mark.parametrize("options", CROPS.values(), ids=CROPS)
class TestOnnxEmbedder(EmbedderContract):
    @pytest.fixture
    def embedder(self, tmp_path: Path, options: dict[str, Any]) -> Embedder:
        return built(tmp_path, exported.hashed(), dimension=16, **options)


def orange() -> PILImage:
    return Image.new("RGB", (64, 64), (255, 102, 0))


@pytest.mark.parametrize(
    ("layout", "changes", "expected"),
    [
        ("NCHW", {}, [2.0, -0.4, -2.0]),
        ("NHWC", {}, [2.0, -0.4, -2.0]),
        ("NCHW", {"colour": "BGR"}, [-2.0, -0.4, 2.0]),
        ("NCHW", {"mean": [1, 0.4, 0], "std": 1}, [0.0, 0.0, 0.0]),
        ("NCHW", {"colour": "BGR", "mean": [1, 0.4, 0], "std": 1}, [-1.0, 0.0, 1.0]),
        ("NCHW", {"scale": 255, "mean": 0, "std": 1}, [255.0, 102.0, 0.0]),
        ("NCHW", {"scale": 255, "mean": 127.5, "std": 127.5}, [1.0, -0.2, -1.0]),
        ("NHWC", {"scale": 255, "mean": 0, "std": 1, "normalise": True}, [0.92848, 0.37139, 0.0]),
    ],
)
def test_the_network_gets_its_pixels_as_the_options_say(
    tmp_path: Path, layout: str, changes: dict[str, Any], expected: list[float]
) -> None:
    embedder = built(tmp_path, exported.mean_colour(layout=layout), layout=layout, **changes)
    (vector,) = embedder.embed([embedder.crop(as_decoded(orange()), FRAME)])
    np.testing.assert_allclose(vector, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "data",
    [
        exported.mean_colour(side="side"),
        exported.mean_colour(batch=1),
        exported.mean_colour(names=("x", "vectors")),
        exported.mean_colour(names=("vectors", "x")),
    ],
    ids=["open size", "batch of 1", "our names", "our names swapped"],
)
def test_exports_differ_and_give_the_same(tmp_path: Path, data: bytes) -> None:
    embedder = built(tmp_path, data)
    crop = embedder.crop(as_decoded(orange()), FRAME)
    np.testing.assert_allclose(embedder.embed([crop] * 5), [[2.0, -0.4, -2.0]] * 5, rtol=0, atol=1e-5)


def test_names_of_ours_inside_the_graph_are_left_alone(tmp_path: Path) -> None:
    embedder = built(tmp_path, exported.with_our_names_inside())
    (vector,) = embedder.embed([embedder.crop(as_decoded(orange()), FRAME)])
    np.testing.assert_allclose(vector, [4.0, -0.8, -4.0], rtol=0, atol=1e-5)


def test_one_of_several_outputs_is_chosen_by_name(tmp_path: Path) -> None:
    embedder = built(tmp_path, exported.two_outputs(), output="logits")
    (vector,) = embedder.embed([embedder.crop(as_decoded(orange()), FRAME)])
    np.testing.assert_allclose(vector, [-2.0, 0.4, 2.0], rtol=0, atol=1e-5)


# --- Crops ------------------------------------------------------------------------------------------------------------


def test_landmarks_land_on_the_template(tmp_path: Path) -> None:
    embedder = built(
        tmp_path, exported.mean_colour(side="side"), crop="aligned", template="arcface-112", input_size=112
    )
    template = OnnxOptions(**options_of(tmp_path / "network.onnx", **CROPS["aligned"], input_size=112)).template
    assert template[0] == (38.2946, 51.6963)
    pixels = Image.new("RGB", (400, 400))
    points = tuple((x * 1.5 + 40, y * 1.5 + 60) for x, y in template)
    for x, y in points:
        pixels.paste("white", (round(x) - 3, round(y) - 3, round(x) + 3, round(y) + 3))
    chip = np.asarray(embedder.crop(as_decoded(pixels), Detection(Box(40, 60, 168, 168), 1.0, points)).convert("L"))
    assert [chip[round(y), round(x)] > 200 for x, y in template] == [True] * 5
    assert (chip > 128).mean() < 0.02


def test_a_face_without_landmarks_is_placed_as_for_dlib() -> None:
    """dlib's chip by the box alone was measured; another template must put the same face at the same place."""
    template = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
    face = Detection(Box(100, 80, 120, 150), 1.0)
    to_dlib, to_chip = alignment.onto(cards.DLIB_TEMPLATE, face), alignment.onto(template, face)
    back = np.linalg.inv(np.vstack([to_dlib, [0, 0, 1]]))
    points = back @ np.vstack([np.array(cards.DLIB_TEMPLATE).T, np.ones(5)])
    assert np.abs((to_chip @ points).T - np.array(template)).max() < 3


def test_a_box_is_grown_by_its_margin(tmp_path: Path) -> None:
    """The red square of 40 px and half of 50 % of it on each side: 60 px, of which 40 are red."""
    embedder = built(tmp_path, exported.mean_colour(), crop="box", margin=0.5, fit="stretch", resampling="box")
    pixels = drawn_image([(100, 60, 40, "red")])
    crop = np.asarray(embedder.crop(as_decoded(pixels), Detection(Box(100, 60, 40, 40), 1.0)))
    ground = crop[..., 1] / 200  # the green of the ground; there is none in red
    assert 1 - ground.mean() == pytest.approx((40 / 60) ** 2, abs=0.02)
    assert ground[0].min() > 0.9 and ground[:, -1].min() > 0.9 and ground[SIDE // 2, SIDE // 2] == 0


def test_cover_takes_the_middle_and_stretch_takes_all(tmp_path: Path) -> None:
    pixels = Image.new("RGB", (300, 100), "blue")
    pixels.paste("red", (100, 0, 200, 100))
    whole = Detection(Box(0, 0, 300, 100), 1.0)
    covered = built(tmp_path, exported.mean_colour()).crop(as_decoded(pixels), whole)
    assert covered.getpixel((1, 1)) == covered.getpixel((30, 30)) == (255, 0, 0)
    stretched = built(tmp_path, exported.mean_colour(), fit="stretch").crop(as_decoded(pixels), whole)
    assert [stretched.getpixel((x, 16)) for x in (1, 16, 30)] == [(0, 0, 255), (255, 0, 0), (0, 0, 255)]


def test_a_crop_need_not_be_square(tmp_path: Path) -> None:
    embedder = built(tmp_path, exported.mean_colour(side="side"), input_size=[48, 20], crop="box", margin=0.1)
    crop = embedder.crop(as_decoded(drawn_image()), Detection(Box(20, 30, 40, 40), 1.0))
    assert crop.size == (48, 20)
    assert embedder.embed([crop]).shape == (1, 3)


# --- By settings alone ------------------------------------------------------------------------------------------------


@pytest.fixture
def operator(settings: Settings, tmp_path: Path, db: None) -> Callable[..., Path]:
    """Puts a file under the name ``mine`` into the settings, beside a pipeline that needs no file; returns its path."""
    settings.VISEARCH_MODELS_DIR = tmp_path / "models"
    settings.VISEARCH_DETECTORS = {"frame": {"BACKEND": "catalog.vision.detectors.frame.Frame"}}
    settings.VISEARCH_PIPELINES = {
        "brought": {"DETECTOR": "frame", "EMBEDDERS": ["mine"]},
        "whole": {"DETECTOR": "frame", "EMBEDDERS": ["colour"]},
    }
    settings.VISEARCH_INDEXES = {name: {"ENGINE": "exact", "METRIC": "l2"} for name in settings.VISEARCH_PIPELINES}

    def bring(data: bytes, name: str = "network.onnx", **changes: Any) -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        settings.VISEARCH_EMBEDDERS = {
            "mine": {"BACKEND": BACKEND, "OPTIONS": options_of(path, **changes)},
            "colour": {"BACKEND": "tests.fakes.MeanColour"},
        }
        return path

    return bring


def build() -> str:
    output = io.StringIO()
    call_command("models", "build", stdout=output)
    return output.getvalue()


def warnings() -> list[str]:
    return [message.msg for message in checks.run_checks() if message.id == "catalog.W001"]


def vectors(*pipelines: str) -> list[np.ndarray]:
    found = extract(as_decoded(orange()), pipelines)
    return [vector for region in found.regions for vector in region.vectors.values()]


def test_an_embedder_is_added_by_settings_alone(operator: Callable[..., Path]) -> None:
    operator(exported.mean_colour(), licence="MIT", source="https://example.org/network")
    assert "New embedding model" in build()
    assert warnings() == []
    row = EmbeddingModel.objects.get(embedder="mine")
    assert (row.pipeline, row.dimension, row.licence, row.source) == (
        "brought",
        3,
        "MIT",
        "https://example.org/network",
    )
    assert (row.state, row.fingerprint) == ("serving", registry.fingerprint("mine"))
    np.testing.assert_allclose(vectors("brought")[0], [2.0, -0.4, -2.0], rtol=0, atol=1e-5)
    assert len(vectors("brought", "whole")) == 2


def test_a_file_altered_by_one_byte_is_refused(operator: Callable[..., Path], settings: Settings) -> None:
    path = operator(exported.mean_colour())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        CommandError, match=r"network\.onnx.*not the published ones \(sha256\).*correct the options path"
    ):
        build()
    (warning,) = warnings()
    assert str(path) in warning and "sha256" in warning
    assert not EmbeddingModel.objects.filter(embedder="mine").exists()
    with pytest.raises(ModelUnavailable, match="not built"):
        vectors("brought")
    assert len(vectors("whole")) == 1
    assert EmbeddingModel.objects.get(pipeline="whole").state == "serving"


def test_a_changed_hash_is_a_new_model_and_a_moved_file_is_not(operator: Callable[..., Path]) -> None:
    operator(exported.mean_colour())
    build()
    first = registry.fingerprint("mine")
    operator(exported.mean_colour(), "moved.onnx", licence="now known", source="https://example.org")
    assert registry.fingerprint("mine") == first
    assert "was whole" in build()
    operator(exported.mean_colour(batch="n"), "moved.onnx")
    second = registry.fingerprint("mine")
    assert second != first
    assert "New embedding model" in build()
    states = EmbeddingModel.objects.filter(embedder="mine").order_by("id").values_list("fingerprint", "state")
    assert list(states) == [(first, "serving"), (second, "building")]


@pytest.mark.parametrize(
    "change",
    [
        {"mean": 0.4},
        {"std": 0.5},
        {"colour": "BGR"},
        {"normalise": True},
        {"short_side": 40},
        {"resampling": "lanczos"},
        {"crop": "box", "margin": 0.1},
        {"output": "mean"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_changes_a_vector_is_a_new_model(operator: Callable[..., Path], change: dict[str, Any]) -> None:
    operator(exported.mean_colour())
    before = registry.fingerprint("mine")
    operator(exported.mean_colour(), **change)
    assert registry.fingerprint("mine") != before


CUT = exported.hashed()[:-400]
REFUSED: dict[str, tuple[bytes, dict[str, Any], str]] = {
    "two outputs": (exported.two_outputs(), {}, r"2 outputs \(mean, logits\); name one of them in the option output"),
    "no such output": (exported.two_outputs(), {"output": "pooler"}, "no output 'pooler', only mean, logits"),
    "wrong size": (
        exported.mean_colour(),
        {"input_size": 64},
        r"shape \(any, 3, 32, 32\), but the options layout 'NCHW' and input_size mean \(any, 3, 64, 64\)",
    ),
    "wrong layout": (
        exported.mean_colour(),
        {"layout": "NHWC"},
        r"layout 'NHWC' and input_size mean \(any, 32, 32, 3\)",
    ),
    "wrong dimension": (exported.mean_colour(), {"dimension": 4}, r"\(1, 3\) for one image, but the option dimension"),
    "no vector": (exported.of_maps(), {}, r"shape \(1, 3, 8, 8\) for one image"),
    "two inputs": (exported.two_inputs(), {}, r"2 inputs \(image, text\)"),
    "NaN": (exported.not_finite(), {}, "not finite"),
    "NaN for one colour": (exported.divided_by_its_length(), {}, "not finite for an image of one colour"),
    "half floats": (exported.of_half_floats(), {}, "'image' is float16; export it in 32-bit floats"),
    "weights elsewhere": (exported.with_weights_elsewhere(), {}, "weights lie in another file"),
    "batch of 1 for good": (exported.of_one_image_for_good(), {}, "several images at once.*dynamic batch"),
    "one long row": (exported.of_one_long_row(), {}, r"several images at once: 3 give \(1, 9\).*dynamic batch"),
    "rows that mix": (exported.of_all_together(), {}, "another vector in the company of others"),
    "batch of 4": (exported.mean_colour(batch=4), {}, "takes 4 images at once"),
    "unknown operator": (exported.with_an_unknown_operator(), {}, "onnxruntime does not load it: .*Teleport"),
    "truncated": (CUT, {"dimension": 16}, "not an ONNX file, or it is cut off"),
    "not ONNX": (b"\x89PNG\r\n\x1a\n" + bytes(100), {}, "not an ONNX file"),
    "text": (b"version https://git-lfs.github.com/spec/v1\n", {}, "not an ONNX file"),
    "empty": (b"", {}, "not an ONNX file"),
}


@pytest.mark.parametrize(("data", "changes", "says"), REFUSED.values(), ids=REFUSED)
def test_what_a_file_is_not_is_said_and_the_rest_works(
    operator: Callable[..., Path], data: bytes, changes: dict[str, Any], says: str
) -> None:
    operator(data, **changes)
    with pytest.raises(CommandError, match=says) as caught:
        build()
    assert "network.onnx" in str(caught.value)
    (warning,) = warnings()
    assert str(caught.value) in warning and "run `manage.py models build`" in warning
    assert list((registry.models_dir()).glob("*.onnx")) == []
    assert len(vectors("whole")) == 1


def test_two_embedders_of_one_file_do_not_hide_each_other(operator: Callable[..., Path], settings: Settings) -> None:
    path = operator(exported.two_outputs(), output="logits")
    options = options_of(path, output="elsewhere")
    settings.VISEARCH_EMBEDDERS = {**settings.VISEARCH_EMBEDDERS, "colour": {"BACKEND": BACKEND, "OPTIONS": options}}
    with pytest.raises(CommandError, match="no output 'elsewhere'"):
        build()
    (warning,) = warnings()
    assert "no output 'elsewhere'" in warning
    assert registry.model_files_problem("mine") is None
    assert [row.embedder for row in EmbeddingModel.objects.all()] == ["mine"]


def test_a_file_that_onnxruntime_does_not_start_is_the_models_fault(
    operator: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    operator(exported.mean_colour())
    build()
    read = networks.read

    def from_the_future(network: networks.Network, directory: Path) -> bytes:
        model = onnx.load_model_from_string(read(network, directory))
        model.ir_version = 99
        return bytes(model.SerializeToString())

    monkeypatch.setattr(networks, "read", from_the_future)
    with pytest.raises(ModelUnavailable, match=r"onnxruntime does not start onnx-.*IR version: 99"):
        vectors("brought")


def test_what_onnxruntime_cannot_run_is_said_in_its_words(tmp_path: Path) -> None:
    embedder = built(tmp_path, exported.mean_colour())
    with pytest.raises(ModelFailed, match=r"cannot be run: .*invalid dimensions for input"):
        embedder.embed([Image.new("RGB", (7, 7))])


def test_what_was_refused_is_built_once_it_is_right(operator: Callable[..., Path]) -> None:
    operator(exported.two_outputs())
    with pytest.raises(CommandError):
        build()
    operator(exported.two_outputs(), output="mean")
    build()
    assert warnings() == []


def test_a_file_that_is_not_there_is_named(operator: Callable[..., Path]) -> None:
    path = operator(exported.mean_colour())
    path.unlink()
    with pytest.raises(CommandError, match=f"put the file at {path}, or correct the options path and sha256"):
        build()
    (warning,) = warnings()
    assert str(path) in warning


def test_a_path_may_be_below_the_models(operator: Callable[..., Path], settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "models" / "own").mkdir(parents=True)
    operator(exported.mean_colour(), "models/own/network.onnx")
    entry = settings.VISEARCH_EMBEDDERS["mine"]
    relative = {**entry, "OPTIONS": {**entry["OPTIONS"], "path": "own/network.onnx"}}
    settings.VISEARCH_EMBEDDERS = {**settings.VISEARCH_EMBEDDERS, "mine": relative}
    build()
    assert len(vectors("brought")) == 1
