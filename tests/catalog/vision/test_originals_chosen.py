"""The article's packages as detector and embedder, by settings, and as judge of what is built from their weights."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Image as PILImage
from pytest_django.fixtures import Settings

from catalog.vision import networks, published, registry, weights
from catalog.vision.builders.graph import Graph
from catalog.vision.cards import Context, MtcnnTensorflowOptions, PinOptions
from catalog.vision.detectors import mtcnn_tensorflow
from catalog.vision.detectors.mtcnn_tensorflow import MtcnnTensorflow
from catalog.vision.embedders.keras_vggface import KerasVggfaceResNet50
from catalog.vision.errors import ModelFailed, ModelUnavailable
from catalog.vision.networks import Network
from catalog.vision.originals import packages, proof, vggface
from catalog.vision.originals.programs import vggface_tensorflow
from catalog.vision.protocols import Detector, Embedder
from catalog.vision.types import Box
from catalog.vision.weights import LocalFile
from tests.catalog.vision.contract import DetectorContract, EmbedderContract
from tests.catalog.vision.test_detectors import SAMPLES, small
from tests.fake_original import NAME
from tests.keras_files import SMALL, keras_file, random_weights
from tests.stack import ROOT

INSTALL = "run `pip install -r requirements/tensorflow.txt`"
WEIGHTS = b"weights"


@pytest.fixture
def not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if nothing of requirements/tensorflow.txt were there."""

    def distribution(name: str) -> metadata.Distribution:
        if name in ("tensorflow", "tf-keras", "keras-applications", "keras-vggface"):
            raise metadata.PackageNotFoundError(name)
        return metadata.Distribution.from_name(name)

    monkeypatch.setattr(packages.metadata, "distribution", distribution)


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> None:
    """tests.fake_original in the place of both packages, which need not be installed."""
    monkeypatch.setattr(mtcnn_tensorflow, "PROGRAM", NAME)
    monkeypatch.setattr(vggface, "_PROGRAM", NAME)
    monkeypatch.setattr(packages, "_installed", lambda name: True)


def choose(settings: Settings, detector: str, embedder: str) -> None:
    settings.VISEARCH_PIPELINES = {"face": {"DETECTOR": detector, "EMBEDDERS": [embedder]}}


def warnings() -> list[str]:
    return [str(found.msg) for found in checks.run_checks() if found.id == "catalog.W001"]


# --- Settings ---------------------------------------------------------------------------------------------------------


def test_without_tensorflow_a_check_says_what_to_install(settings: Settings, not_installed: None) -> None:
    choose(settings, "mtcnn-tensorflow", "keras-vggface-resnet50")
    said = warnings()
    assert [INSTALL in sentence for sentence in said] == [True, True]
    assert "The model mtcnn-tensorflow runs on tensorflow, which is not installed" in said[0]
    assert "keras-vggface, keras-applications, tf-keras, tensorflow, which are not installed" in said[1]
    assert registry.model_files_problem("mtcnn-tensorflow") == said[0]
    with pytest.raises(ModelUnavailable, match="tensorflow, which is not installed"):
        registry.detector("mtcnn-tensorflow").detect(Image.new("RGB", (90, 90)))


def test_without_weights_a_check_says_how_to_fetch_them(settings: Settings, faked: None, tmp_path: Path) -> None:
    settings.VISEARCH_MODELS_DIR = tmp_path
    choose(settings, "mtcnn-tensorflow", "keras-vggface-senet50")
    assert ["run `manage.py models fetch vggface2-senet50`" in sentence for sentence in warnings()] == [True]


def test_the_defaults_need_nothing_of_it(not_installed: None, built_models: Path, settings: Settings) -> None:
    settings.VISEARCH_MODELS_DIR = built_models
    assert registry.model_problems() == {}


def test_it_is_described_without_being_loaded() -> None:
    program = (
        "import sys, django\ndjango.setup()\nfrom django.conf import settings\nfrom catalog.vision import registry\n"
        "settings.VISEARCH_PIPELINES = {'face': {'DETECTOR': 'mtcnn-tensorflow', 'EMBEDDERS': "
        "['keras-vggface-resnet50', 'keras-vggface-senet50', 'keras-vggface-vgg16']}}\n"
        "print([about.dimension for about in registry.descriptions()])\nregistry.model_problems()\n"
        "registry.detector('mtcnn-tensorflow'), registry.embedder('keras-vggface-vgg16')\n"
        "print([name for name in ('tensorflow', 'mtcnn', 'tf_keras', 'keras_vggface') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[2048, 2048, 512]", "[]"]


def test_a_vector_of_the_original_is_not_compared_with_one_of_ours(settings: Settings, tmp_path: Path) -> None:
    """Of the same weights."""
    fetched(tmp_path)
    ours, theirs = "vggface2-resnet50", "keras-vggface-resnet50"
    settings.VISEARCH_MODELS_DIR = tmp_path
    pinned = {"sha256": hashlib.sha256(WEIGHTS).hexdigest()}
    known = settings.VISEARCH_EMBEDDERS
    settings.VISEARCH_EMBEDDERS = {name: {**known[name], "OPTIONS": pinned} for name in (ours, theirs)}
    settings.VISEARCH_PIPELINES = {"face": {"DETECTOR": "mtcnn", "EMBEDDERS": [ours, theirs]}}
    assert [about.name for about in registry.descriptions()] == [ours, theirs]
    assert len({about.fingerprint for about in registry.descriptions()}) == 2


def test_a_region_of_the_original_detector_is_told_from_one_of_ours() -> None:
    assert registry.detector_fingerprint("mtcnn-tensorflow") != registry.detector_fingerprint("mtcnn")


def test_tensorflow_counts_under_its_other_names(monkeypatch: pytest.MonkeyPatch) -> None:
    def distribution(name: str) -> Any:
        if name not in ("mtcnn", "tensorflow-cpu"):
            raise metadata.PackageNotFoundError(name)
        return SimpleNamespace(version="9.9")

    monkeypatch.setattr(packages.metadata, "distribution", distribution)
    assert packages.MTCNN_ON_TENSORFLOW.problem("mtcnn-tensorflow") is None
    assert packages.MTCNN_ON_TENSORFLOW.versions() == "mtcnn 9.9 on tensorflow 9.9 (tensorflow-cpu)"


@pytest.mark.parametrize(
    ("options", "most"), [({"min_face_px": 22}, 21), ({"min_face_px": 40}, 21), ({"factor": 0.85}, 16)]
)
def test_options_with_which_it_would_find_nothing_are_refused(
    settings: Settings, options: dict[str, Any], most: int
) -> None:
    path = settings.VISEARCH_DETECTORS["mtcnn-tensorflow"]["BACKEND"]
    settings.VISEARCH_DETECTORS = {
        **settings.VISEARCH_DETECTORS,
        "mtcnn-tensorflow": {"BACKEND": path, "OPTIONS": options},
    }
    choose(settings, "mtcnn-tensorflow", "dlib-resnet")
    with pytest.raises(ImproperlyConfigured, match=f"min_face_px must be at most {most} here"):
        registry.pipelines()


# --- As detector and embedder, over the wire --------------------------------------------------------------------------


class TestMtcnnOverTheWire(DetectorContract):
    @pytest.fixture
    def detector(self, faked: None) -> Detector:
        return MtcnnTensorflow(Context(Path("unused"), 1), MtcnnTensorflowOptions())

    @pytest.fixture
    def image(self) -> PILImage:
        return Image.new("RGB", (100, 80), "white")

    def test_faces_are_clipped_and_the_largest_comes_first(self, detector: Detector, image: PILImage) -> None:
        first, second = detector.detect(image)
        assert first.box == Box(0, 20, 60, 60) and first.score == 0.9
        assert second.box == Box(5.5, 5, 9.5, 10)
        assert second.landmarks == ((0, 5), (1, 6), (2, 7), (3, 8), (4, 9))

    def test_weights_that_are_not_the_packages_own_are_refused(
        self, detector: Detector, image: PILImage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """They are in the detector's fingerprint, and the package would load any that lie there."""
        others = replace(weights.MTCNN_PNET, sha256="0" * 64)
        monkeypatch.setattr(MtcnnTensorflow, "CARD", replace(MtcnnTensorflow.CARD, weights=(others,)))
        with pytest.raises(ModelUnavailable, match=r"mtcnn-pnet in .* are not the published ones"):
            detector.detect(image)

    def test_nonsense_is_refused(self, detector: Detector) -> None:
        with pytest.raises(ModelFailed, match=r"gave float64 of shape \(2, 3\) for boxes"):
            detector.detect(Image.new("RGB", (100, 80), "#f00"))


class TestKerasVggfaceOverTheWire(EmbedderContract):
    @pytest.fixture
    def embedder(self, faked: None, tmp_path: Path) -> Embedder:
        return KerasVggfaceResNet50(Context(tmp_path, 1), PinOptions(fetched(tmp_path)))

    def test_numbers_of_another_network_are_refused(self, embedder: Embedder, crops: list[PILImage]) -> None:
        embedder.dimension = 512
        with pytest.raises(ModelFailed, match=r"of shape \(5, 2048\) for vectors"):
            embedder.embed(crops)


def fetched(folder: Path) -> str:
    """Puts a file where `models fetch` puts the resnet50's; its sha256."""
    path = published.PUBLISHED["vggface2-resnet50"].path(folder)
    path.parent.mkdir()
    path.write_bytes(WEIGHTS)
    return hashlib.sha256(WEIGHTS).hexdigest()


# --- As judge of a build ----------------------------------------------------------------------------------------------


def averages(factor: float = 1) -> bytes:
    """An ONNX file that gives the means of the three channels, which is what the fake original gives, times this."""
    graph = Graph("averages")
    means = graph.add("Flatten", graph.add("GlobalAveragePool", "x"))
    scaled = graph.scaled(means, np.zeros(1, np.float32), factor)
    return graph.to_bytes({"x": ["n", 3, 224, 224]}, {"vectors": (scaled, ["n", 3])})


def right(weights: bytes) -> bytes:
    return averages()


def wrong(weights: bytes) -> bytes:
    """By a little more than is allowed."""
    return averages(1 + 1e-5)


@pytest.fixture
def source(tmp_path: Path) -> LocalFile:
    path = tmp_path / "resnet50.h5"
    path.write_bytes(WEIGHTS)
    return LocalFile("resnet50", str(path), hashlib.sha256(WEIGHTS).hexdigest(), "none", "https://example.org", "look")


@pytest.fixture
def models(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "models"
    assert list((tmp_path / "models").glob(".*.h5")) == [], "the weights that the original was given are still there"


def network(source: LocalFile, builder: str) -> Network:
    return Network("averages", (source,), f"{__name__}.{builder}", "1", proof="catalog.vision.originals.proof.resnet50")


def test_what_does_as_the_original_does_is_kept_with_the_probe(faked: None, source: LocalFile, models: Path) -> None:
    built = network(source, "right")
    assert networks.build(built, models) is True
    with np.load(built.path(models).with_suffix(".probe.npz"), allow_pickle=False) as probe:
        assert probe["x"].shape == (3, 3, 224, 224)
        np.testing.assert_allclose(probe["vectors"], probe["x"].mean(axis=(2, 3)), rtol=1e-5)
        assert str(probe["weights"]) == source.sha256
        assert "tensorflow" in str(probe["original"])


def test_what_does_otherwise_is_not_published(faked: None, source: LocalFile, models: Path) -> None:
    refused = network(source, "wrong")
    with pytest.raises(ModelUnavailable, match=r"differ by [\d.]+e-0[56] of a vector's largest, 2e-06 is allowed"):
        networks.build(refused, models)
    assert not refused.path(models).exists()
    assert "does not do what keras-vggface does" in (networks.problem(refused, models) or "")


def test_without_the_original_it_is_taken_unseen_and_the_log_says_so(
    not_installed: None, source: LocalFile, models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unseen = network(source, "wrong")
    assert networks.build(unseen, models) is True
    assert not unseen.path(models).with_suffix(".probe.npz").exists()
    assert "was not compared with keras-vggface" in caplog.text and INSTALL in caplog.text


@pytest.mark.usefixtures("faked")
def test_a_kept_probe_judges_where_the_original_is_not_installed(
    source: LocalFile, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks.build(network(source, "right"), models)
    monkeypatch.setattr(packages, "_installed", lambda name: False)
    assert networks.build(network(source, "right"), models, force=True) is True
    with pytest.raises(ModelUnavailable, match="does not do what keras-vggface does"):
        networks.build(network(source, "wrong"), models, force=True)


@pytest.mark.usefixtures("faked")
def test_the_copy_of_the_weights_that_a_killed_build_left_is_removed(source: LocalFile, models: Path) -> None:
    built = network(source, "right")
    networks.build(built, models)
    (models / f".{built.path(models).stem}-original.h5").write_bytes(WEIGHTS)
    networks.build(built, models, force=True)  # with the kept probe: the original is not asked


def test_a_copy_of_the_weights_that_does_not_fit_on_the_disk_is_removed(models: Path) -> None:
    models.mkdir()
    path = models / "averages-0.onnx"
    (models / ".averages-0-original.h5").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        proof._ask("resnet50", path, WEIGHTS, hashlib.sha256(WEIGHTS).hexdigest())


def test_a_damaged_probe_is_made_anew(faked: None, source: LocalFile, models: Path) -> None:
    built = network(source, "right")
    networks.build(built, models)
    probe = built.path(models).with_suffix(".probe.npz")
    probe.write_bytes(probe.read_bytes()[:1000])
    networks.build(built, models, force=True)
    with np.load(probe, allow_pickle=False) as file:
        assert file["vectors"].shape == (3, 3)


VECTORS = np.array([[1, 2, 3], [1, 2, 4], [9, 2, 3]], np.float32)


def probe_file(path: Path, **changed: Any) -> Path:
    """Beside the model file ``path``, whole but for what is ``changed``."""
    x = np.zeros((3, 3, 224, 224), np.float32)
    probe = path.with_suffix(".probe.npz")
    np.savez_compressed(probe, allow_pickle=True, **{"x": x, "vectors": VECTORS, "weights": np.array("a"), **changed})
    return probe


def test_a_probe_with_any_bit_of_it_turned_is_read_or_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "averages-0.onnx"
    whole = probe_file(path).read_bytes()
    places = list(range(0, len(whole), 9))
    readable = 0
    for number, place in enumerate(places):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << number % 8
        path.with_suffix(".probe.npz").write_bytes(damaged)
        readable += proof.read_probe(path, "a") is not None
    assert 0 < readable < len(places) / 2  # some bits say nothing: times, attributes


@pytest.mark.parametrize(
    "changed",
    [
        {"x": np.zeros((3, 224, 224, 3), np.float32)},
        {"x": np.zeros((2, 3, 224, 224), np.float32)},
        {"x": np.zeros((3, 3, 224, 224), np.float64)},
        {"vectors": np.zeros(3, np.float32)},
        {"vectors": VECTORS[:2]},
        {"vectors": VECTORS * np.float32(np.nan)},
        {"vectors": np.zeros_like(VECTORS)},
        {"vectors": np.array([["a"] * 3] * 3)},
        {"weights": np.array("b")},
        {"vectors": np.array([{}, {}, {}], object)},
    ],
    ids="-".join,
)
def test_a_probe_that_is_none_is_made_anew(tmp_path: Path, changed: dict[str, NDArray[Any]]) -> None:
    path = tmp_path / "averages-0.onnx"
    probe_file(path)
    assert proof.read_probe(path, "a") is not None
    probe_file(path, **changed)
    assert proof.read_probe(path, "a") is None


@pytest.mark.parametrize("answer", ["zeros", "same"])
def test_weights_that_give_the_same_for_every_image_prove_nothing(
    faked: None, models: Path, tmp_path: Path, answer: str
) -> None:
    """Zeros agree with zeros, whatever the network does."""
    path = tmp_path / f"{answer}.h5"
    path.write_bytes(answer.encode())  # which tells the fake what to answer
    sha256 = hashlib.sha256(answer.encode()).hexdigest()
    source = LocalFile("resnet50", str(path), sha256, "none", "https://example.org", "look")
    with pytest.raises(ModelUnavailable, match=r"nearly the same vector for different images.* tell no faces apart"):
        networks.build(network(source, "right"), models)
    assert list(models.glob("*.probe.npz")) == []


def test_a_faint_vector_is_not_hidden_by_a_bright_one() -> None:
    theirs = np.array([[1000.0, 500], [0.001, 0.002]], np.float32)
    ours = theirs + np.array([[0, 0], [0, 1e-6]], np.float32)
    assert proof.relative_difference(ours, theirs) == pytest.approx(5e-4, rel=1e-2)
    assert proof.relative_difference(theirs[0:0], theirs[0:0]) == float("inf")
    assert proof.spread(theirs) == pytest.approx(1, rel=1e-5)
    assert proof.spread(np.concatenate([theirs, theirs[:1]])) == 0


def test_every_vgg_network_is_held_to_its_original() -> None:
    for name in ("vgg16", "resnet50", "senet50"):
        owner = next(key for key in published.PUBLISHED if key.endswith(name))
        (built,) = registry.model_networks(owner)
        assert built.proof == f"catalog.vision.originals.proof.{name}"


@pytest.mark.parametrize(
    ("names", "by_name"),
    [
        (list(SMALL), True),
        (["classifier", *reversed(SMALL)], True),
        (["a", "b", "c"], False),
        (["conv1_1", "b", "c"], False),
    ],
)
@pytest.mark.parametrize("whole_model", [False, True])
def test_keras_loads_a_file_as_our_reader_takes_it(
    tmp_path: Path, names: list[str], by_name: bool, whole_model: bool
) -> None:
    arrays = [*random_weights(SMALL).values(), [np.zeros((8, 3)), np.zeros(3)]]
    path = tmp_path / "file.h5"
    path.write_bytes(keras_file(dict(zip(names, arrays, strict=False)), whole_model=whole_model))
    loaded: list[dict[str, Any]] = []

    class Model:
        layers = [SimpleNamespace(name=name, weights=[1]) for name in SMALL]

        def load_weights(self, path: str, **how: Any) -> None:
            loaded.append(how)

    Model.layers.append(SimpleNamespace(name="pool5", weights=[]))
    vggface_tensorflow._fill(Model(), str(path))
    assert loaded == [{"by_name": by_name}]


# --- The real one -----------------------------------------------------------------------------------------------------


@pytest.mark.models
def test_the_package_itself_finds_the_face_of_a_portrait() -> None:
    """The rest of what it does is compared by `make parity`."""
    detector = MtcnnTensorflow(Context(Path("unused"), 0), MtcnnTensorflowOptions())
    image = small(SAMPLES / "Barack Obama" / "portrait-2012.jpg")
    face = detector.detect(image)[0]
    assert face.score > 0.95 and face.landmarks
    assert all(face.box.x < x < face.box.right and face.box.y < y < face.box.bottom for x, y in face.landmarks)
    for size in [(12, 12), (640, 12), (13, 300), (30, 30)]:
        assert detector.detect(Image.new("RGB", size, "white")) == []
    # What the package takes for "no faces" without having looked (min_face_px above 21, which options refuse).
    thresholds = np.array([0.6, 0.7, 0.8])
    with pytest.raises(ModelFailed, match=r"StageFailed: Stage PNET cannot be run on this image"):
        detector._original.ask(
            "detect",
            image=np.zeros((300, 300, 3), np.uint8),
            min_face_px=np.array(40),
            factor=np.array(0.709),
            thresholds=thresholds,
        )
