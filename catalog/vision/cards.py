"""What is known of a detector or embedder without running it: its card, cheap to import.

Web processes, system checks and the admin read cards; onnxruntime and OpenCV are loaded with the class itself.
A card is found by the dotted path of its class in CARDS, or as the class attribute ``CARD`` of any other class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from catalog.vision import networks, preprocess
from catalog.vision.networks import Network, digest


@dataclass(frozen=True, slots=True)
class Context:
    """Where a process finds built networks and how many threads it may give to one."""

    models_dir: Path
    threads: int  # 0: as many as the process has cores


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
class Card:
    """``version`` changes when the code's output changes; ``preprocessing`` names all that is done to its pixels."""

    version: str
    networks: tuple[Network, ...] = ()
    options: type = NoOptions
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    dimension: int = 0  # 0: a detector
    placing: frozenset[str] = frozenset()  # options that say where something lies, not what it computes

    def fingerprint(self, backend: str, options: Any) -> str:
        """sha256 over the networks, the code's version, its options and every preprocessing value."""
        return digest(
            {
                "backend": backend,
                "version": self.version,
                "networks": [network.fingerprint for network in self.networks],
                "options": {name: value for name, value in asdict(options).items() if name not in self.placing},
                "preprocessing": dict(self.preprocessing),
                "dimension": self.dimension,
            }
        )

    @property
    def licence(self) -> str:
        return ", ".join(sorted({source.licence for network in self.networks for source in network.sources}))

    @property
    def source(self) -> str:
        """Addresses of the weights."""
        return ", ".join(sorted({source.url for network in self.networks for source in network.sources}))


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
    version="1",
    networks=(networks.MTCNN_PNET, networks.MTCNN_RNET, networks.MTCNN_ONET),
    options=MtcnnOptions,
    preprocessing={**_DECODING, "detection_side": preprocess.DETECTION_SIDE, "resampling": "bilinear"},
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
        "longest": 4,  # times the short side; beyond it the ends are cut off first
        "resampling": "bicubic",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    },
)

CARDS: dict[str, Card | CardMaker] = {
    "catalog.vision.detectors.mtcnn.Mtcnn": MTCNN,
    "catalog.vision.detectors.frame.Frame": FRAME,
    "catalog.vision.embedders.dlib_resnet.DlibResnet": DLIB_RESNET,
    "catalog.vision.embedders.efficientnet_lite0.EfficientNetLite0": EFFICIENTNET_LITE0,
}
