"""Our networks beside the originals they were made from: `make parity`.

    python -m benchmarks.parity [DATA]

Over the committed photos, and those of DATA/faces where the folder is there (../shared/data by default). Every figure
is printed beside what is asked; exits 1 where one falls short.

1. MTCNN beside the package mtcnn on TensorFlow: the faces found, and each layer's output of the three networks
2. VGG16, ResNet50 and SENet50 beside keras-vggface on TensorFlow, on files that keras-vggface saved itself: random
   kernels and statistics of batches. Each is built as by `manage.py models build`, which holds it to the original too
3. dlib's ResNet beside dlib, on the same 150 px chips (dlib's own predictor of landmarks is never loaded)
4. EfficientNet-Lite0 beside torch running efficientnet-lite-pytorch, where both are installed
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import io
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from PIL.Image import Image as PILImage

from benchmarks.machine import describe
from catalog.vision import cards, networks, preprocess, published
from catalog.vision.cards import Context, MtcnnOptions, MtcnnTensorflowOptions, NoOptions, PinOptions
from catalog.vision.decode import Limits, read_image
from catalog.vision.detectors.mtcnn import Mtcnn
from catalog.vision.detectors.mtcnn_tensorflow import PROGRAM, MtcnnTensorflow
from catalog.vision.embedders.dlib_resnet import DlibResnet
from catalog.vision.embedders.vggface import VggFace2ResNet50, VggFace2SeNet50, VggFaceVgg16, face_crop
from catalog.vision.originals.client import Original
from catalog.vision.originals.packages import MTCNN_ON_TENSORFLOW, VGGFACE_ON_TENSORFLOW
from catalog.vision.originals.proof import LARGEST_DIFFERENCE, read_probe, relative_difference
from catalog.vision.originals.vggface import original
from catalog.vision.runtime import Session
from catalog.vision.types import DecodedImage, Detection
from catalog.vision.weights import DLIB_RESNET, EFFICIENTNET_LITE0

SAMPLES = Path(__file__).resolve().parents[1] / "catalog" / "samples" / "leaders"
MATCH, RECALL, MEAN_IOU, MORE_FACES = 0.5, 1.0, 0.9, 0.05
LAYER_DIFFERENCE, DLIB_DIFFERENCE, LITE0_DIFFERENCE = 1e-5, 1e-5, 1e-4
FACES, CROPS = 12, 32  # how many of the found faces, and of the crops for a network, are compared
LIMITS = Limits(bytes=50 << 20, pixels=64_000_000, frames=1_000)

VGG = {
    "vgg16": (cards.VGGFACE_VGG16, VggFaceVgg16, "vggface-vgg16"),
    "resnet50": (cards.VGGFACE2_RESNET50, VggFace2ResNet50, "vggface2-resnet50"),
    "senet50": (cards.VGGFACE2_SENET50, VggFace2SeNet50, "vggface2-senet50"),
}


@dataclass(frozen=True)
class Figure:
    """``at_least``: the figure must not be below what is asked; otherwise not above."""

    what: str
    figure: float
    asked: float
    at_least: bool = False

    @property
    def good(self) -> bool:
        return self.figure >= self.asked if self.at_least else self.figure <= self.asked

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        return f"{'ok   ' if self.good else 'SHORT'} {self.what:<72} {self.figure:>10.4g}   {sign} {self.asked:g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=Path("../shared/data"))
    arguments = parser.parse_args()
    missing = VGGFACE_ON_TENSORFLOW.problem("keras-vggface") or MTCNN_ON_TENSORFLOW.problem("mtcnn-tensorflow")
    if missing:
        sys.exit(missing)
    print(describe("mtcnn", "keras-vggface", "tensorflow", "tf-keras", "onnxruntime", "numpy"))
    photos = [_decoded(path) for path in photo_files(arguments.data)]
    print(f"{len(photos)} photos")
    with tempfile.TemporaryDirectory() as name:
        figures = list(_all(photos, Context(Path(name), 0)))
    print("\n" + "\n".join(map(str, figures)))
    sys.exit(0 if all(figure.good for figure in figures) else 1)


def photo_files(data: Path) -> list[Path]:
    """The committed photos and those of ``data``/faces, sorted."""
    folders = [SAMPLES, data / "faces"]
    return [path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix in (".jpg", ".png")]


def _decoded(path: Path) -> DecodedImage:
    with path.open("rb") as file:
        return read_image(file, path.name, LIMITS)


def _all(photos: Sequence[DecodedImage], context: Context) -> Iterator[Figure]:
    for network in (*cards.MTCNN.networks, *cards.DLIB_RESNET.networks, *cards.EFFICIENTNET_LITE0.networks):
        networks.build(network, context.models_dir)
    ours = Mtcnn(context, MtcnnOptions())
    small = [preprocess.capped(photo.pixels, preprocess.DETECTION_SIDE) for photo in photos]
    with _timed("MTCNN's faces"):
        found = [ours.detect(image) for image in small]
        yield from _said(_detections(found, MtcnnTensorflow(context, MtcnnTensorflowOptions()), small))
    with _timed("MTCNN's layers"):
        yield from _said(_mtcnn_layers(small, context))
    faces = [
        (photo, detection.scaled(max(photo.header.width, photo.header.height) / max(image.size)))
        for photo, image, detections in zip(photos, small, found, strict=True)
        for detection in detections
    ][:FACES]
    for architecture in VGG:
        with _timed(architecture):
            yield from _said(_vgg(architecture, faces, context))
    with _timed("dlib"):
        yield from _said(_dlib(faces, context))
    with _timed("EfficientNet-Lite0"):
        yield from _said(_efficientnet(photos, context))


def _said(figures: Iterator[Figure]) -> Iterator[Figure]:
    for figure in figures:
        print(figure, flush=True)
        yield figure


class _timed:  # noqa: N801 - used as a function
    """Says how long the block took."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        self._start = time.monotonic()

    def __exit__(self, *_: object) -> None:
        print(f"     {self._what}: {time.monotonic() - self._start:.0f} s", flush=True)


# --- MTCNN ------------------------------------------------------------------------------------------------------------


def _detections(
    ours: Sequence[Sequence[Detection]], package: MtcnnTensorflow, images: Sequence[PILImage]
) -> Iterator[Figure]:
    theirs = [package.detect(image) for image in images]
    overlaps = [overlap for mine, their in zip(ours, theirs, strict=True) for overlap in _matches(mine, their)]
    count, found = sum(map(len, theirs)), sum(map(len, ours))
    yield Figure(f"MTCNN: recall of the package's {count} faces, IoU >= {MATCH}", len(overlaps) / count, RECALL, True)
    yield Figure("MTCNN: mean IoU of these", float(np.mean(overlaps)), MEAN_IOU, True)
    yield Figure(f"MTCNN: how many more faces we find ({found})", found / count - 1, MORE_FACES)


def _matches(ours: Sequence[Detection], theirs: Sequence[Detection]) -> list[float]:
    """The overlaps of at least MATCH, each face paired once, the best pairs first."""
    pairs = sorted(
        ((mine.box.iou(their.box), i, k) for i, mine in enumerate(ours) for k, their in enumerate(theirs)), reverse=True
    )
    taken: tuple[set[int], set[int]] = set(), set()
    overlaps = []
    for overlap, mine, their in pairs:
        if overlap >= MATCH and mine not in taken[0] and their not in taken[1]:
            taken[0].add(mine)
            taken[1].add(their)
            overlaps.append(overlap)
    return overlaps


def _mtcnn_layers(images: Sequence[PILImage], context: Context) -> Iterator[Figure]:
    """The same pixels through both: two whole photos for the first network, crops of photos for the others."""
    inputs = {
        "pnet": [np.asarray(image)[None] for image in (images[0].resize((301, 202)), images[-1].resize((97, 64)))],
        "rnet": [_crops(images, 24)],
        "onet": [_crops(images, 48)],
    }
    package = Original("mtcnn-tensorflow", PROGRAM)
    for network in cards.MTCNN.networks:
        name = network.name.removeprefix("mtcnn-")
        data = networks.read(network, context.models_dir)
        pairs = [pair for x in inputs[name] for pair in _layer_pairs(data, package, name, x)]
        largest = max(_difference(ours, theirs) for ours, theirs in pairs)
        yield Figure(f"MTCNN {name}: largest difference in {len(pairs)} layer outputs", largest, LAYER_DIFFERENCE)
    package.close()


def _difference(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """The largest; where a layer's numbers are larger than 1, over the largest of them."""
    return float(np.abs(ours - theirs).max() / max(1.0, float(np.abs(theirs).max())))


def _crops(images: Sequence[PILImage], side: int) -> NDArray[np.uint8]:
    """The middles of CROPS photos: faces, mostly."""
    crops = []
    for number in range(CROPS):
        image = images[number % len(images)]
        margin = (image.width - min(image.size)) / 2
        square = (margin, 0, image.width - margin, min(image.size))
        crops.append(np.asarray(image.resize((side, side), box=square)))
    return np.stack(crops)


def _layer_pairs(
    data: bytes, package: Original, name: str, x: NDArray[np.uint8]
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """What each layer gives here and there, in the form it has here (channels first)."""
    ours = _layer_outputs(data, np.ascontiguousarray(x.transpose(0, 3, 1, 2), np.float32))
    theirs = package.ask("layers", network=np.array(name), x=x)
    for (operator, mine), their in zip(ours, (theirs[key] for key in sorted(theirs)), strict=True):
        yield mine, their.transpose(0, 3, 1, 2) if their.ndim == 4 and operator != "Transpose" else their


def _layer_outputs(data: bytes, x: NDArray[np.float32]) -> list[tuple[str, NDArray[Any]]]:
    """Operator and output of every layer, in order: without the normalising, and softmax counted with its layer."""
    model = onnx.load_from_string(data)
    before_softmax = {node.input[0] for node in model.graph.node if node.op_type == "Softmax"}
    layers = [
        node
        for node in model.graph.node
        if node.op_type not in ("Sub", "Mul", "Identity") and node.output[0] not in before_softmax
    ]
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(
        onnx.ValueInfoProto(name=node.output[0]) for node in layers if node.output[0] not in known
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs = session.run([node.output[0] for node in layers], {"x": x})
    return list(zip((node.op_type for node in layers), outputs, strict=True))


# --- Embedders --------------------------------------------------------------------------------------------------------

Faces = Sequence[tuple[DecodedImage, Detection]]


def _vgg(architecture: str, faces: Faces, context: Context) -> Iterator[Figure]:
    maker, embedder_class, name = VGG[architecture]
    file = published.PUBLISHED[name].path(context.models_dir)
    file.parent.mkdir(exist_ok=True)
    keras = original(architecture)
    keras.ask("save", path=np.array(str(file)), seed=np.array(4))
    pinned = PinOptions(hashlib.sha256(file.read_bytes()).hexdigest())
    (network,) = maker.make(pinned, context.models_dir).networks
    networks.build(network, context.models_dir)
    probe = read_probe(network.path(context.models_dir), pinned.sha256)
    assert probe, "the build kept no probe"
    difference = probe.difference(networks.read(network, context.models_dir))
    yield Figure(f"{architecture}: relative difference from the build's probe", difference, LARGEST_DIFFERENCE)
    crops = [face_crop(photo, detection) for photo, detection in faces]
    theirs = keras.ask("embed", crops=np.stack([np.asarray(crop) for crop in crops]))["vectors"]
    keras.close()
    difference = relative_difference(embedder_class(context, pinned).embed(crops), theirs)
    yield Figure(f"{architecture}: relative difference over {len(crops)} faces", difference, LARGEST_DIFFERENCE)
    file.unlink()


def _dlib(faces: Faces, context: Context) -> Iterator[Figure]:
    if importlib.util.find_spec("dlib") is None:
        sys.exit("dlib is not installed: run `pip install -r requirements/tensorflow.txt`.")
    import dlib

    ours = DlibResnet(context, NoOptions())
    chips = [ours.crop(photo, detection) for photo, detection in faces]
    net = dlib.face_recognition_model_v1(str(DLIB_RESNET.locate()))
    theirs = np.array([net.compute_face_descriptor(np.asarray(chip)) for chip in chips])
    difference = float(np.abs(ours.embed(chips) - theirs).max())
    yield Figure(f"dlib-resnet: largest difference over {len(chips)} chips", difference, DLIB_DIFFERENCE)


def _efficientnet(photos: Sequence[DecodedImage], context: Context) -> Iterator[Figure]:
    missing = [name for name in ("torch", "efficientnet_lite_pytorch") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"left out: EfficientNet-Lite0, as {' and '.join(missing)} are not installed (not required)")
        return
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    pixels = np.stack([np.asarray(photo.pixels.resize((224, 224))) for photo in photos[:FACES]])
    x = np.ascontiguousarray((pixels.transpose(0, 3, 1, 2) / 255 - 0.45) / 0.225, np.float32)
    net = EfficientNet.from_name("efficientnet-lite0").eval()
    net.load_state_dict(torch.load(io.BytesIO(EFFICIENTNET_LITE0.read()), weights_only=False))
    with torch.no_grad():
        theirs = net.extract_features(torch.from_numpy(x)).mean((2, 3)).numpy()
    ours = Session(networks.EFFICIENTNET_LITE0, context).run(x)["vectors"]
    difference = float(np.abs(ours - theirs).max())
    yield Figure(f"efficientnet-lite0: largest difference over {len(x)} photos", difference, LITE0_DIFFERENCE)


if __name__ == "__main__":
    main()
