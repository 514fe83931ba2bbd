"""What is known of a detector or embedder without running it: its card, cheap to import.

Web processes, system checks and the admin read cards; onnxruntime and OpenCV are loaded with the class itself.
A card is found by the dotted path of its class in CARDS, or as the class attribute ``CARD`` of any other class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from catalog.vision import networks, preprocess, published, weights
from catalog.vision.networks import Network, digest
from catalog.vision.onnx_options import OnnxOptions
from catalog.vision.originals.packages import MTCNN_ON_TENSORFLOW, VGGFACE_ON_TENSORFLOW, Packages
from catalog.vision.weights import LocalFile, Source


@dataclass(frozen=True, slots=True)
class Context:
    """Where a process finds built networks, how many threads it may give to one, and what they run on."""

    models_dir: Path
    threads: int  # 0: as many as the process has cores
    providers: tuple[str, ...] = ("CPU",)  # names of catalog.vision.providers, best first


@dataclass(frozen=True, slots=True)
class NoOptions:
    """Of a detector or embedder that has nothing to choose."""


@dataclass(frozen=True, slots=True)
class MtcnnOptions:
    """``min_face_px``: the smallest face looked for, in pixels of the image given to the detector.

    ``factor``: size of each pyramid level over the one before. ``thresholds``: the least probability of a face after
    each of the three networks. The defaults are the paper's and mtcnn 1.0.0's. Raises ValueError.
    """

    min_face_px: int = 20
    factor: float = 0.709
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.8)

    def __post_init__(self) -> None:
        object.__setattr__(self, "thresholds", tuple(self.thresholds))
        if isinstance(self.min_face_px, bool) or not isinstance(self.min_face_px, int) or self.min_face_px < 12:
            raise ValueError(f"min_face_px must be a whole number of at least 12, not {self.min_face_px!r}")
        if not 0.1 <= self.factor <= 0.95:
            raise ValueError(f"factor must be between 0.1 and 0.95, not {self.factor!r}")
        if len(self.thresholds) != 3 or not all(0 < threshold < 1 for threshold in self.thresholds):
            raise ValueError(f"thresholds must be three numbers between 0 and 1, not {self.thresholds!r}")


@dataclass(frozen=True, slots=True)
class MtcnnTensorflowOptions(MtcnnOptions):
    """`MtcnnOptions`, refused where the package would silently find nothing in some images. Raises ValueError.

    mtcnn 1.0.0 decides how many levels its pyramid has by the image's size alone (utils/images.py,
    build_scale_pyramid). With m = ``min_face_px``, the shorter side of the last one is at least
    144 * factor ** -1.5 / m pixels; its first network needs 11. Where that is less, TensorFlow raises, and the package
    takes what was raised for "no faces". With its own factor, 0.709, m may be 21 at most: at 24 a quarter of all
    image sizes have no faces any more, at 40 all.
    """

    def __post_init__(self) -> None:
        MtcnnOptions.__post_init__(self)
        most = int(144 * self.factor**-1.5 / 11)
        if self.min_face_px > most:
            raise ValueError(
                f"min_face_px must be at most {most} here, not {self.min_face_px}: above it mtcnn 1.0.0 finds no faces "
                "at all in images of many sizes, and does not say so. The detector mtcnn takes any size"
            )


@dataclass(frozen=True, slots=True)
class Card:
    """``version`` changes when the code's output changes; ``preprocessing`` names all that is done to its pixels."""

    version: str
    networks: tuple[Network, ...] = ()
    options: type = NoOptions
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    dimension: int = 0  # 0: a detector
    placing: frozenset[str] = frozenset()  # options that say where something lies, not what it computes
    weights: tuple[Source, ...] = ()  # that an original reads as they were published; no network is built of them
    packages: Packages | None = None  # that an original runs on

    def fingerprint(self, backend: str, options: Any) -> str:
        """sha256 over the networks, the code's version, its options and every preprocessing value."""
        content = {
            "backend": backend,
            "version": self.version,
            "networks": [network.fingerprint for network in self.networks],
            "options": {name: value for name, value in asdict(options).items() if name not in self.placing},
            "preprocessing": dict(self.preprocessing),
            "dimension": self.dimension,
        }
        if self.weights:
            content["weights"] = [source.sha256 for source in self.weights]
        return digest(content)

    def problem(self, name: str) -> str | None:
        """What is wrong with what an original needs, in a sentence that says what to do, or None. Reads no file."""
        missing = self.packages and self.packages.problem(name)
        absent = (source.absent() for source in self.weights if isinstance(source, LocalFile))
        return missing or next((sentence for sentence in absent if sentence), None)

    @property
    def licence(self) -> str:
        return ", ".join(sorted({source.licence for source in self._sources()}))

    @property
    def source(self) -> str:
        """Addresses of the weights."""
        return ", ".join(sorted({source.url for source in self._sources()}))

    def _sources(self) -> Iterator[Source]:
        """All weights, also those that networks were built of."""
        yield from self.weights
        for network in self.networks:
            yield from network.sources


@dataclass(frozen=True, slots=True)
class CardMaker:
    """In place of a card where the options decide which networks there are, and what is known of them.

    ``make`` takes the options and the folder of models. It never fails for a missing file: that is found when the
    network is built or loaded, so that one model is unavailable and not the site.
    """

    options: type
    make: Callable[[Any, Path], Card]


_DECODING = {"decoded_side": preprocess.DECODED_SIDE, "reduction": "powers of two, mean", "alpha": "white"}

MTCNN = Card(
    version="2",
    networks=(networks.MTCNN_PNET, networks.MTCNN_RNET, networks.MTCNN_ONET),
    options=MtcnnOptions,
    preprocessing={**_DECODING, "detection_side": preprocess.DETECTION_SIDE, "resampling": "bilinear"},
)
MTCNN_TENSORFLOW = Card(
    version="1",
    options=MtcnnTensorflowOptions,
    preprocessing=MTCNN.preprocessing,
    weights=(weights.MTCNN_PNET, weights.MTCNN_RNET, weights.MTCNN_ONET),
    packages=MTCNN_ON_TENSORFLOW,
)
FRAME = Card(version="1")

# The five landmarks in dlib's 150 px chip (padding 0.25), x and y in pixels: left eye, right eye, nose, mouth corners.
DLIB_TEMPLATE = ((46.6, 44.2), (99.8, 45.0), (73.3, 77.4), (50.3, 103.5), (97.0, 104.2))
# Where the chip lies around a face's box when there are no landmarks: its side over the box's longer side, and how far
# its middle is below the box's, over the same. Medians of MTCNN's boxes in the chips of 78 aligned faces of web photos.
# With them 25 of 25 queries among the same photos find their person first; with a chip of 1.5 times the box (dlib's
# padding) 14 do.
DLIB_BOX_SCALE, DLIB_BOX_SHIFT = 1.05, 0.07

DLIB_RESNET = Card(
    version="1",
    networks=(networks.DLIB_RESNET,),
    dimension=128,
    preprocessing={
        **_DECODING,
        "chip": 150,
        "template": DLIB_TEMPLATE,
        "warp": "similarity, mean then bilinear",
        "without_landmarks": (DLIB_BOX_SCALE, DLIB_BOX_SHIFT),
    },
)
EFFICIENTNET_LITE0 = Card(
    version="1",
    networks=(networks.EFFICIENTNET_LITE0,),
    dimension=1280,
    preprocessing={
        **_DECODING,
        "short_side": 256,
        "crop": 224,
        "longest": preprocess.LONGEST,  # times the short side; beyond it the ends are cut off first
        "resampling": "bicubic",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    },
)
DIGIT_CNN = Card(
    version="2",
    networks=(networks.DIGIT_CNN,),
    dimension=64,
    preprocessing={**_DECODING, "form": "MNIST: 28 x 28, light on dark, 20 px, centre of mass at 14, 14"},
)


ONNX_VERSION = "1"


def _onnx_card(options: OnnxOptions, models_dir: Path) -> Card:
    return Card(
        version=ONNX_VERSION,
        networks=(networks.onnx_file(options, models_dir),),
        options=OnnxOptions,
        preprocessing={**_DECODING, "longest": preprocess.LONGEST, "without_landmarks": "as dlib-resnet"},
        dimension=options.dimension,
        placing=frozenset({"path", "licence", "source"}),
    )


# Any network that somebody exported, from settings alone.
ONNX_FILE = CardMaker(OnnxOptions, _onnx_card)

# How far a face's box is extended, 0.15 of its sides to each side, and how narrow it may be for its height: VGGFace2's
# own cropping (ox-vgg/vgg_face2, standard_evaluation/demo_proj.m, det_tight_ratio and scal_ratio_min).
VGGFACE_EXTENSION, VGGFACE_NARROWEST = 0.3, 112 / 128
# keras-vggface 0.6, keras_vggface/utils.py, preprocess_input, versions 1 and 2: blue, green, red.
VGGFACE_MEANS = {1: (93.5940, 104.7624, 129.1863), 2: (91.4953, 103.8827, 131.0912)}


@dataclass(frozen=True, slots=True)
class PinOptions:
    """``sha256`` (hexadecimal) pins the file of weights: another one is refused, also by `models fetch`.

    Empty: what the first fetch recorded is the pin. Raises ValueError.
    """

    sha256: str = ""

    def __post_init__(self) -> None:
        if self.sha256:
            object.__setattr__(self, "sha256", published.pin(self.sha256))


def vggface_preprocessing(version: int) -> dict[str, Any]:
    """All that is done to a face's pixels; ``version`` is keras-vggface's."""
    return {
        **_DECODING,
        "extension": VGGFACE_EXTENSION,
        "narrowest": VGGFACE_NARROWEST,
        "crop": "middle square, 224",
        "resampling": "bilinear",
        "channels": "BGR",
        "mean": VGGFACE_MEANS[version],
    }


def _vggface(name: str, builder: str, dimension: int, version: int) -> CardMaker:
    """Of the published weights ``name``; ``version`` is keras-vggface's of the preprocessing."""

    proof = f"catalog.vision.originals.proof.{name.rpartition('-')[2]}"

    def make(options: PinOptions, models_dir: Path) -> Card:
        source = published.PUBLISHED[name].source(models_dir, options.sha256)
        return Card(
            version="1",
            networks=(Network(name, (source,), f"catalog.vision.builders.vggface.{builder}", "1", proof=proof),),
            options=PinOptions,
            dimension=dimension,
            placing=frozenset({"sha256"}),  # its network has it, pinned or recorded
            preprocessing=vggface_preprocessing(version),
        )

    return CardMaker(PinOptions, make)


VGGFACE_VGG16 = _vggface("vggface-vgg16", "build_vgg16", 512, 1)
VGGFACE2_RESNET50 = _vggface("vggface2-resnet50", "build_resnet50", 2048, 2)
VGGFACE2_SENET50 = _vggface("vggface2-senet50", "build_senet50", 2048, 2)


def _keras_vggface(name: str, dimension: int, version: int) -> CardMaker:
    """keras-vggface itself, on the published weights ``name``."""

    def make(options: PinOptions, models_dir: Path) -> Card:
        return Card(
            version="1",
            options=PinOptions,
            dimension=dimension,
            placing=frozenset({"sha256"}),  # its weights have it, pinned or recorded
            preprocessing=vggface_preprocessing(version),
            weights=(published.PUBLISHED[name].source(models_dir, options.sha256),),
            packages=VGGFACE_ON_TENSORFLOW,
        )

    return CardMaker(PinOptions, make)


KERAS_VGGFACE_VGG16 = _keras_vggface("vggface-vgg16", 512, 1)
KERAS_VGGFACE_RESNET50 = _keras_vggface("vggface2-resnet50", 2048, 2)
KERAS_VGGFACE_SENET50 = _keras_vggface("vggface2-senet50", 2048, 2)

CARDS: dict[str, Card | CardMaker] = {
    "catalog.vision.detectors.mtcnn.Mtcnn": MTCNN,
    "catalog.vision.detectors.mtcnn_tensorflow.MtcnnTensorflow": MTCNN_TENSORFLOW,
    "catalog.vision.detectors.frame.Frame": FRAME,
    "catalog.vision.embedders.dlib_resnet.DlibResnet": DLIB_RESNET,
    "catalog.vision.embedders.efficientnet_lite0.EfficientNetLite0": EFFICIENTNET_LITE0,
    "catalog.vision.embedders.digit_cnn.DigitCnn": DIGIT_CNN,
    "catalog.vision.embedders.vggface.VggFaceVgg16": VGGFACE_VGG16,
    "catalog.vision.embedders.vggface.VggFace2ResNet50": VGGFACE2_RESNET50,
    "catalog.vision.embedders.vggface.VggFace2SeNet50": VGGFACE2_SENET50,
    "catalog.vision.embedders.keras_vggface.KerasVggfaceVgg16": KERAS_VGGFACE_VGG16,
    "catalog.vision.embedders.keras_vggface.KerasVggfaceResNet50": KERAS_VGGFACE_RESNET50,
    "catalog.vision.embedders.keras_vggface.KerasVggfaceSeNet50": KERAS_VGGFACE_SENET50,
    "catalog.vision.embedders.onnx_file.OnnxEmbedder": ONNX_FILE,
}
