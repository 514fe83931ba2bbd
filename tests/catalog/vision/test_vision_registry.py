"""What the settings may say, and what the registry makes of it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django.fixtures import Settings

from catalog.vision import registry
from catalog.vision.registry import Pipeline, UnknownPipeline
from tests.catalog.vision.exported import BACKEND
from tests.fakes import ColourSquares, MeanColour

ROOT = Path(__file__).resolve().parents[3]
MTCNN = "catalog.vision.detectors.mtcnn.Mtcnn"
OPTIONS = {"path": "x", "sha256": "0" * 64, "dimension": 3, "input_size": 32, "scale": 1, "std": 1, "crop": "frame"}


@pytest.fixture
def fakes(settings: Settings) -> Settings:
    """One pipeline, ``squares``, that needs no weights."""
    settings.VISEARCH_DETECTORS = {"squares": {"BACKEND": "tests.fakes.ColourSquares", "OPTIONS": {"min_side_px": 9}}}
    settings.VISEARCH_EMBEDDERS = {"mean-colour": {"BACKEND": "tests.fakes.MeanColour"}}
    settings.VISEARCH_PIPELINES = {"squares": {"DETECTOR": "squares", "EMBEDDERS": ["mean-colour"]}}
    return settings


def test_the_shipped_settings_are_described() -> None:
    face, image, digit = registry.descriptions()
    assert (face.name, face.pipeline, face.dimension, face.licence) == ("dlib-resnet", "face", 128, "CC0-1.0")
    assert (image.name, image.pipeline, image.dimension) == ("efficientnet-lite0", "image", 1280)
    assert image.licence == "Apache-2.0"
    assert (digit.name, digit.pipeline, digit.dimension, digit.licence) == ("digit-cnn", "digit", 64, "CC-BY-SA-3.0")
    assert [registry.pipeline(name).is_whole for name in ("face", "image", "digit")] == [False, True, True]
    assert face.source.startswith("https://")
    assert len(face.fingerprint) == 64 and face.fingerprint != image.fingerprint
    assert registry.fingerprint("dlib-resnet") == face.fingerprint
    assert registry.pipeline("face") == Pipeline("face", "mtcnn", ("dlib-resnet",))


def test_describing_models_loads_no_heavy_library() -> None:
    program = (
        "import sys, django\ndjango.setup()\nfrom catalog.vision import extract, registry\n"
        "registry.descriptions(), registry.model_problems(), registry.detector_fingerprint('mtcnn')\n"
        "heavy = ('onnxruntime', 'onnx', 'cv2', 'joblib', 'lz4', 'h5py', 'tensorflow', 'torch', 'mtcnn', 'nmslib')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_pipeline_is_refused_with_those_there_are() -> None:
    with pytest.raises(UnknownPipeline, match="no pipeline 'cats', only face, image"):
        registry.pipeline("cats")


def test_other_backends_are_used_by_dotted_path(fakes: Settings) -> None:
    detector = registry.detector("squares")
    assert isinstance(detector, ColourSquares)
    assert isinstance(registry.embedder("mean-colour"), MeanColour)
    assert registry.detector("squares") is detector
    assert registry.describe("mean-colour").dimension == 8
    assert registry.networks_in_use() == ()
    assert registry.model_problems() == {}


def test_a_changed_setting_is_noticed(fakes: Settings) -> None:
    before, old = registry.detector("squares"), registry.detector_fingerprint("squares")
    fakes.VISEARCH_DETECTORS = {"squares": {"BACKEND": "tests.fakes.ColourSquares", "OPTIONS": {"min_side_px": 30}}}
    assert registry.detector("squares") is not before
    assert registry.detector_fingerprint("squares") != old


def test_one_instance_for_all_threads(fakes: Settings) -> None:
    made: list[Any] = []
    threads = [threading.Thread(target=lambda: made.append(registry.embedder("mean-colour"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8 and len({id(one) for one in made}) == 1


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("DETECTORS", {"squares": {"BACKEND": "tests.fakes.Nothing"}}, r"VISEARCH_DETECTORS\['squares'\]\['BACKEND'\]"),
        ("DETECTORS", {"squares": {"BACKEND": "nowhere"}}, r"VISEARCH_DETECTORS\['squares'\]\['BACKEND'\]"),
        ("DETECTORS", {"squares": {"BACKEND": "pathlib.Path"}}, "pathlib.Path has no CARD"),
        ("DETECTORS", {"squares": {"OPTIONS": {}}}, r"VISEARCH_DETECTORS\['squares'\] needs a BACKEND"),
        ("DETECTORS", {"squares": {"BACKEND": MTCNN, "OPTION": {}}}, "needs a BACKEND and may have OPTIONS"),
        ("DETECTORS", {}, "VISEARCH_DETECTORS has no entry 'squares'"),
        ("EMBEDDERS", {}, "VISEARCH_EMBEDDERS has no entry 'mean-colour'"),
        (
            "EMBEDDERS",
            {"mean-colour": {"BACKEND": "tests.fakes.MeanColour", "OPTIONS": {"zoom": 2}}},
            r"VISEARCH_EMBEDDERS\['mean-colour'\]\['OPTIONS'\].*zoom",
        ),
        ("PIPELINES", {"squares": {"DETECTOR": "squares"}}, r"VISEARCH_PIPELINES\['squares'\] needs"),
        ("PIPELINES", {"squares": {"DETECTOR": "squares", "EMBEDDERS": []}}, r"VISEARCH_PIPELINES\['squares'\] needs"),
        *(
            ("PIPELINES", {"squares": wrong}, r"VISEARCH_PIPELINES\['squares'\] needs the name of a DETECTOR")
            for wrong in (
                {"DETECTOR": "squares", "EMBEDDERS": 5},
                {"DETECTOR": "squares", "EMBEDDERS": "mean-colour"},
                {"DETECTOR": "squares", "EMBEDDERS": [["mean-colour"]]},
                {"DETECTOR": ["squares"], "EMBEDDERS": ["mean-colour"]},
                ["squares"],
            )
        ),
        ("DETECTORS", {"squares": 5}, r"VISEARCH_DETECTORS\['squares'\] needs a BACKEND"),
        (
            "EMBEDDERS",
            {"mean-colour": {"BACKEND": 5}},
            r"VISEARCH_EMBEDDERS\['mean-colour'\]: BACKEND is a",
        ),
        (
            "EMBEDDERS",
            {"mean-colour": {"BACKEND": BACKEND, "OPTIONS": {**OPTIONS, "mean": 10**400}}},
            r"VISEARCH_EMBEDDERS\['mean-colour'\]\['OPTIONS'\]: .*too large",
        ),
        (
            "EMBEDDERS",
            {"mean-colour": {"BACKEND": "tests.fakes.MeanColour", "OPTIONS": [1]}},
            r"VISEARCH_EMBEDDERS\['mean-colour'\]: .* OPTIONS are names",
        ),
        (
            "PIPELINES",
            {name: {"DETECTOR": "squares", "EMBEDDERS": ["mean-colour"]} for name in ("a", "b")},
            "VISEARCH_PIPELINES: mean-colour is used twice",
        ),
    ],
)
def test_a_bad_setting_is_named(fakes: Settings, setting: str, value: object, says: str) -> None:
    setattr(fakes, f"VISEARCH_{setting}", value)
    with pytest.raises(ImproperlyConfigured, match=says):
        registry.descriptions()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"min_face": 20}, "min_face"),
        ({"min_face_px": 11}, "min_face_px must be a whole number of at least 12, not 11"),
        ({"min_face_px": "20"}, "min_face_px"),
        ({"min_face_px": True}, "min_face_px"),
        ({"factor": 1.0}, "factor must be between"),
        ({"factor": float("nan")}, "factor must be between"),
        ({"thresholds": [0.6, 0.7]}, "thresholds must be three"),
        ({"thresholds": [0.6, 0.7, 1.5]}, "thresholds must be three"),
        ({"thresholds": 5}, "OPTIONS"),
    ],
)
def test_a_bad_option_of_mtcnn_is_named(settings: Settings, options: dict[str, Any], says: str) -> None:
    settings.VISEARCH_DETECTORS = {
        **settings.VISEARCH_DETECTORS,
        "mtcnn": {"BACKEND": MTCNN, "OPTIONS": options},
    }
    with pytest.raises(ImproperlyConfigured, match=says):
        registry.pipelines()


def test_an_unknown_limit_is_named(settings: Settings) -> None:
    settings.VISEARCH_LIMITS = {"megapixels": 64}
    with pytest.raises(ImproperlyConfigured, match=r"VISEARCH_LIMITS.*megapixels"):
        registry.limits()


def test_the_limits_are_those_of_the_settings(settings: Settings) -> None:
    settings.VISEARCH_LIMITS = {"bytes": 1, "pixels": 2, "frames": 3}
    found = registry.limits()
    assert (found.bytes, found.pixels, found.frames) == (1, 2, 3)


# --- Evaluations ------------------------------------------------------------------------------------------------------


def evaluation(fingerprint: str) -> str:
    numbers = {"metric": "l2", "same": 0.5, "near": 0.9, "n_pairs": 12, "date": "2026-01-01"}
    return json.dumps({"fingerprint": fingerprint, **numbers, "data": "squares", "method": "median"})


def test_an_evaluation_belongs_to_one_fingerprint(
    fakes: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "EVALUATIONS_DIR", tmp_path)
    assert registry.describe("mean-colour").evaluation is None
    (tmp_path / "mean-colour.json").write_text(evaluation(registry.fingerprint("mean-colour")))
    fakes.VISEARCH_THREADS = 1  # any change forgets what was read
    found = registry.describe("mean-colour").evaluation
    assert found and (found.metric, found.same, found.near, found.n_pairs) == ("l2", 0.5, 0.9, 12)
    (tmp_path / "mean-colour.json").write_text(evaluation("0" * 64))
    fakes.VISEARCH_THREADS = 2
    assert registry.describe("mean-colour").evaluation is None


def test_shipped_evaluations_fit_their_models() -> None:
    for path in registry.EVALUATIONS_DIR.glob("*.json"):
        found = registry.describe(path.stem).evaluation
        assert found is not None, f"{path.name} was measured at another fingerprint: measure again"
        assert 0 < found.same < found.near
