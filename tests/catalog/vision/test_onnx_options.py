"""What an operator may say of a network of their own, and what is said about mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core import checks
from pytest_django.fixtures import Settings

from catalog.vision import registry
from catalog.vision.onnx_options import OnnxOptions
from tests.catalog.vision.exported import BACKEND

GIVEN: dict[str, Any] = {
    "path": "/nowhere/network.onnx",
    "sha256": "ab" * 32,
    "dimension": 512,
    "input_size": 112,
    "scale": 255,
    "mean": 127.5,
    "std": 127.5,
    "crop": "frame",
}
POINTS = [[38, 52], [74, 52], [56, 72], [42, 92], [71, 92]]
ALIGNED = {"crop": "aligned", "template": "arcface-112"}


def test_what_is_given_in_short_is_written_out() -> None:
    options = OnnxOptions(**GIVEN | {"sha256": "AB" * 32})
    assert (options.input_size, options.mean, options.short_side) == ((112, 112), (127.5,) * 3, 112)
    assert options.sha256 == "ab" * 32


def test_a_template_is_scaled_to_the_crop() -> None:
    small, large = (OnnxOptions(**GIVEN | ALIGNED | {"input_size": side}).template for side in (112, 224))
    np.testing.assert_allclose(large, 2 * np.array(small), rtol=0, atol=1e-3)
    assert OnnxOptions(**GIVEN | {"crop": "aligned", "template": POINTS}).template[1] == (74.0, 52.0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"zoom": 2}, "zoom"),
        ({"path": ""}, "path must name the file, not ''"),
        ({"path": 5}, "path must name the file"),
        ({"sha256": "abc"}, "sha256 must have 64 hexadecimal digits"),
        ({"sha256": "xy" * 32}, "sha256 must have 64"),
        ({"dimension": 0}, "dimension must be a whole number from 1"),
        ({"dimension": "512"}, "dimension must be a whole number"),
        ({"dimension": True}, "dimension must be a whole number"),
        ({"input_size": 0}, "input_size must be a side or"),
        ({"input_size": [112]}, "input_size must be a side or"),
        ({"input_size": [112, 112.0]}, "input_size must be a side or"),
        ({"layout": "CHW"}, "layout must be 'NCHW' or 'NHWC', not 'CHW'"),
        ({"colour": "rgb"}, "colour must be 'RGB' or 'BGR'"),
        ({"scale": 256}, "scale must be 1 or 255, not 256"),
        ({"scale": True, "mean": 0.5, "std": 0.5}, "scale must be 1 or 255, not True"),
        ({"scale": 1}, "scale is 255 for a mean of"),
        ({"mean": 0.5, "std": 0.5}, "scale is 1 for a mean of"),
        ({"mean": [1, 2]}, "mean must be three numbers"),
        ({"mean": float("nan")}, "mean must be three numbers"),
        ({"std": [1, 0, 1]}, "std must be above 0"),
        ({"std": "1"}, "std must be three numbers"),
        ({"crop": "circle"}, "crop must be 'aligned' or 'box' or 'frame'"),
        ({"crop": "box", "margin": -0.1}, "margin must be a number from 0 to 4"),
        ({"margin": 0.3}, "margin belongs to crop = 'box' only"),
        ({"template": "arcface-112"}, "template belongs to crop = 'aligned' only"),
        ({"crop": "aligned"}, "template must be 'arcface-112', or five points"),
        ({"crop": "aligned", "template": "arcface"}, "template must be 'arcface-112', not 'arcface'"),
        ({"crop": "aligned", "template": POINTS[:4]}, "template must be"),
        ({"crop": "aligned", "template": [[9, 9]] * 5}, "template must have five points apart"),
        ({"crop": "aligned", "template": [[900, 9], *POINTS[1:]]}, "template must have five points apart, inside 112"),
        (ALIGNED | {"input_size": [112, 96]}, "input_size must be square"),
        (ALIGNED | {"fit": "stretch"}, "fit belongs to crop = 'box' or 'frame' only"),
        (ALIGNED | {"resampling": "lanczos"}, "resampling belongs to"),
        (ALIGNED | {"short_side": 128}, "short_side belongs to"),
        ({"fit": "squash"}, "fit must be 'cover' or 'stretch'"),
        ({"fit": "stretch", "short_side": 128}, "short_side belongs to fit = 'cover'"),
        ({"short_side": 100}, "short_side must be a whole number of at least 112"),
        ({"resampling": "nearest"}, "resampling must be 'bilinear'"),
        ({"output": None}, "output must be a text"),
        ({"normalise": "yes"}, "normalise must be true or false"),
        ({"licence": ""}, "licence must have 1 to 200"),
        ({"source": "x" * 501}, "source may have 500"),
    ],
)
def test_a_wrong_option_is_named_at_start(settings: Settings, changes: dict[str, Any], says: str) -> None:
    settings.VISEARCH_EMBEDDERS = {"mine": {"BACKEND": BACKEND, "OPTIONS": GIVEN | changes}}
    settings.VISEARCH_PIPELINES = {"brought": {"DETECTOR": "frame", "EMBEDDERS": ["mine"]}}
    (error,) = [message for message in checks.run_checks() if message.id == "catalog.E001"]
    assert "VISEARCH_EMBEDDERS['mine']['OPTIONS']: " in error.msg
    assert says in error.msg


@pytest.mark.parametrize("missing", GIVEN)
def test_nothing_that_changes_a_vector_is_guessed(settings: Settings, missing: str) -> None:
    given = {name: value for name, value in GIVEN.items() if name != missing}
    settings.VISEARCH_EMBEDDERS = {"mine": {"BACKEND": BACKEND, "OPTIONS": given}}
    settings.VISEARCH_PIPELINES = {"brought": {"DETECTOR": "frame", "EMBEDDERS": ["mine"]}}
    (error,) = [message for message in checks.run_checks() if message.id == "catalog.E001"]
    assert f"'{missing}'" in error.msg


def test_describing_it_needs_no_file(settings: Settings, tmp_path: Path) -> None:
    settings.VISEARCH_MODELS_DIR = tmp_path
    settings.VISEARCH_EMBEDDERS = {"mine": {"BACKEND": BACKEND, "OPTIONS": GIVEN}}
    settings.VISEARCH_PIPELINES = {"brought": {"DETECTOR": "frame", "EMBEDDERS": ["mine"]}}
    (about,) = registry.descriptions()
    assert (about.dimension, about.licence, about.source) == (512, "not stated", "")
    assert "/nowhere/network.onnx" in (registry.model_files_problem("mine") or "")
