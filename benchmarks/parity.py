"""Our networks beside the originals they were made from: `make parity`.

    python -m benchmarks.parity [DATA]

Over the committed photos, and those of DATA/faces (without DATA: of ../shared/data, where that is there). Every figure
is printed beside what is asked; exits 1 where one falls short.

1. MTCNN beside the package mtcnn on TensorFlow, both at the package's thresholds: the faces found, and each layer's
   output of the three networks. What the site's own thresholds keep and lose of the package's faces is told, not judged
2. VGG16, ResNet50 and SENet50 beside keras-vggface on TensorFlow, on files that keras-vggface saved itself: random
   kernels and statistics of batches, resnet50's with its classifier. Each is built as by `manage.py models build`,
   which holds it to the original too, and compared with the embedder `keras-vggface-*` on the same file
3. dlib's ResNet beside dlib, on the same 150 px chips (dlib's own predictor of landmarks is never loaded)
4. EfficientNet-Lite0 beside torch running efficientnet-lite-pytorch, where both are installed

Differences are as they are, but for the VGG networks over the largest number of each vector (2e-6 is asked), and for
layers of MTCNN with large numbers, see `benchmarks.parity_figures.layer_figures`.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import io
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image as PILImage

from benchmarks.machine import describe
from benchmarks.parity_figures import (
    MATCH,
    Compared,
    Figure,
    compared,
    layer_figures,
    layer_outputs,
    layers_in_words,
    matched,
)
from catalog.vision import cards, networks, preprocess, published
from catalog.vision.cards import Context, MtcnnOptions, MtcnnTensorflowOptions, NoOptions, PinOptions
from catalog.vision.decode import Limits, read_image
from catalog.vision.detectors.mtcnn import Mtcnn
from catalog.vision.detectors.mtcnn_tensorflow import PROGRAM, MtcnnTensorflow
from catalog.vision.embedders.dlib_resnet import DlibResnet
from catalog.vision.embedders.keras_vggface import KerasVggfaceResNet50, KerasVggfaceSeNet50, KerasVggfaceVgg16
from catalog.vision.embedders.vggface import VggFace2ResNet50, VggFace2SeNet50, VggFaceVgg16, face_crop
from catalog.vision.errors import ModelUnavailable
from catalog.vision.originals.client import Original
from catalog.vision.originals.packages import MTCNN_ON_TENSORFLOW, VGGFACE_ON_TENSORFLOW
from catalog.vision.originals.proof import (
    LARGEST_DIFFERENCE,
    LEAST_SPREAD,
    absolute_difference,
    read_probe,
    relative_difference,
    spread,
)
from catalog.vision.originals.vggface import original
from catalog.vision.runtime import Session
from catalog.vision.types import DecodedImage, Detection
from catalog.vision.weights import DLIB_RESNET, EFFICIENTNET_LITE0

SAMPLES = Path(__file__).resolve().parents[1] / "catalog" / "samples" / "leaders"
DATA = Path("../shared/data")
RECALL, MEAN_IOU, MORE_FACES = 1.0, 0.9, 0.05
DLIB_DIFFERENCE, LITE0_DIFFERENCE = 1e-5, 1e-4
ANSWER_SECONDS, AT_ONCE = 600, 4  # an embedder has a minute for an answer, also on a busy machine
FACES, CROPS = 12, 32  # how many of the found faces, and of the crops for a network, are compared
LIMITS = Limits(bytes=50 << 20, pixels=64_000_000, frames=1_000)

VGG = {
    "vgg16": (cards.VGGFACE_VGG16, VggFaceVgg16, KerasVggfaceVgg16, "vggface-vgg16"),
    "resnet50": (cards.VGGFACE2_RESNET50, VggFace2ResNet50, KerasVggfaceResNet50, "vggface2-resnet50"),
    "senet50": (cards.VGGFACE2_SENET50, VggFace2SeNet50, KerasVggfaceSeNet50, "vggface2-senet50"),
}
WITH_CLASSIFIER = "resnet50"  # as keras-vggface publishes files of each network, too


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    arguments = parser.parse_args()
    missing = VGGFACE_ON_TENSORFLOW.problem("keras-vggface") or MTCNN_ON_TENSORFLOW.problem("mtcnn-tensorflow")
    if missing:
        sys.exit(missing)
    if importlib.util.find_spec("dlib") is None:
        sys.exit("dlib is not installed: run `pip install -r requirements/tensorflow.txt`.")
    files = photo_files(arguments.data)
    print(describe("mtcnn", "keras-vggface", "tensorflow", "tf-keras", "onnxruntime", "numpy"))
    began = time.monotonic()
    photos = [_decoded(path) for path in files]
    committed = len(_photos_in(SAMPLES))
    print(
        f"{len(photos)} photos: {committed} committed ones, and {len(photos) - committed} of {arguments.data or DATA}"
    )
    with tempfile.TemporaryDirectory() as name:
        figures = list(_all(photos, [f"{path.parent.name}/{path.name}" for path in files], Context(Path(name), 0)))
    print("\n" + "\n".join(map(str, figures)))
    print(f"{time.monotonic() - began:.0f} s")
    sys.exit(0 if all(figure.good for figure in figures) else 1)


def photo_files(data: Path | None) -> list[Path]:
    """The committed photos and those of ``data``/faces, sorted; ends the program where a folder that was named is not
    there. None: of DATA/faces, if it is there.
    """
    if data is not None and not (data / "faces").is_dir():
        sys.exit(f"There is no folder {data / 'faces'}.")
    return _photos_in(SAMPLES) + _photos_in((data or DATA) / "faces")


def _photos_in(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg", ".png")]


def site_options() -> MtcnnOptions:
    """With which the site runs MTCNN, by its settings."""
    elsewhere = {"SECRET_KEY": "parity", "DATABASE_URL": "postgres://nobody/nowhere", "REDIS_URL": "redis://nowhere"}
    for name, value in {"DJANGO_SETTINGS_MODULE": "visearch_site.settings", **elsewhere}.items():
        os.environ.setdefault(name, value)
    from django.conf import settings

    return MtcnnOptions(**settings.VISEARCH_DETECTORS["mtcnn"]["OPTIONS"])


def _decoded(path: Path) -> DecodedImage:
    with path.open("rb") as file:
        return read_image(file, path.name, LIMITS)


def _all(photos: Sequence[DecodedImage], names: Sequence[str], context: Context) -> Iterator[Figure]:
    for network in (*cards.MTCNN.networks, *cards.DLIB_RESNET.networks, *cards.EFFICIENTNET_LITE0.networks):
        networks.build(network, context.models_dir)
    ours = Mtcnn(context, MtcnnOptions())
    small = [preprocess.capped(photo.pixels, preprocess.DETECTION_SIDE) for photo in photos]
    with _timed("MTCNN's faces"):
        package = MtcnnTensorflow(context, MtcnnTensorflowOptions())
        theirs = [package.detect(image) for image in small]
        found = [ours.detect(image) for image in small]
        yield from _said(_detections(found, theirs))
        options = site_options()
        as_run = Mtcnn(context, options)
        _tell_what_the_site_finds(options, [as_run.detect(image) for image in small], theirs, names)
        del package
    with _timed("MTCNN's layers"):
        yield from _said(_mtcnn_layers(small, context))
    faces = [
        (photo, detection.scaled(max(photo.header.width, photo.header.height) / max(image.size)))
        for photo, image, detections in zip(photos, small, found, strict=True)
        for detection in detections
    ][:FACES]
    with closing(original("resnet50", answer_seconds=ANSWER_SECONDS)) as keras:
        for architecture in VGG:
            with _timed(architecture):
                yield from _said(_vgg(architecture, faces, keras, context))
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


def _detections(ours: Sequence[Sequence[Detection]], theirs: Sequence[Sequence[Detection]]) -> Iterator[Figure]:
    overlaps = [overlap for mine, their in zip(ours, theirs, strict=True) for overlap in matched(mine, their).overlaps]
    count, found = sum(map(len, theirs)), sum(map(len, ours))
    yield Figure(f"MTCNN: recall of the package's {count} faces, IoU >= {MATCH}", len(overlaps) / count, RECALL, True)
    yield Figure("MTCNN: mean IoU of these", float(np.mean(overlaps)), MEAN_IOU, True)
    yield Figure(f"MTCNN: how many more faces we find ({found})", found / count - 1, MORE_FACES)


def _tell_what_the_site_finds(
    options: MtcnnOptions,
    ours: Sequence[Sequence[Detection]],
    theirs: Sequence[Sequence[Detection]],
    names: Sequence[str],
) -> None:
    """For whoever reads it: the site asks for a little more than the package, so some of its faces are not found."""
    pairs = [matched(mine, their) for mine, their in zip(ours, theirs, strict=True)]
    count, kept, more = (
        sum(map(len, some)) for some in (theirs, (pair.overlaps for pair in pairs), (pair.more for pair in pairs))
    )
    thresholds = ", ".join(f"{threshold:g}" for threshold in options.thresholds)
    print(
        f"     MTCNN as the site runs it (thresholds {thresholds}; not judged): {kept} of the package's {count} faces "
        f"at its own thresholds are found (recall {kept / count:.4f}), {count - kept} lost, {more} more found"
    )
    for name, pair in zip(names, pairs, strict=True):
        for face in pair.lost:
            place = f"{face.box.width:.0f} x {face.box.height:.0f} px at {face.box.x:.0f}, {face.box.y:.0f}"
            print(f"         lost: {name}, {place}, the package's score {face.score:.3f}")


def _mtcnn_layers(images: Sequence[PILImage], context: Context) -> Iterator[Figure]:
    """The same pixels through both: two whole photos for the first network, crops of photos for the others."""
    inputs = {
        "pnet": [np.asarray(image)[None] for image in (images[0].resize((301, 202)), images[-1].resize((97, 64)))],
        "rnet": [_crops(images, 24)],
        "onet": [_crops(images, 48)],
    }
    with closing(Original("mtcnn-tensorflow", PROGRAM, answer_seconds=ANSWER_SECONDS, stateless=True)) as package:
        for network in cards.MTCNN.networks:
            name = network.name.removeprefix("mtcnn-")
            data = networks.read(network, context.models_dir)
            layers = [layer for x in inputs[name] for layer in _layers(data, package, name, x)]
            yield from layer_figures(f"MTCNN {name}", layers)
            print(layers_in_words(f"MTCNN {name}", layers))


def _crops(images: Sequence[PILImage], side: int) -> NDArray[np.uint8]:
    """The middles of CROPS photos: faces, mostly."""
    crops = []
    for number in range(CROPS):
        image = images[number % len(images)]
        margin = (image.width - min(image.size)) / 2
        square = (margin, 0, image.width - margin, min(image.size))
        crops.append(np.asarray(image.resize((side, side), box=square)))
    return np.stack(crops)


def _layers(data: bytes, package: Original, name: str, x: NDArray[np.uint8]) -> Iterator[Compared]:
    """What each layer gives here and there, in the form it has here (channels first)."""
    ours = layer_outputs(data, np.ascontiguousarray(x.transpose(0, 3, 1, 2), np.float32))
    theirs = package.ask("layers", network=np.array(name), x=x)
    for (operator, is_result, mine), their in zip(ours, (theirs[key] for key in sorted(theirs)), strict=True):
        same_form = their.transpose(0, 3, 1, 2) if their.ndim == 4 and operator != "Transpose" else their
        yield compared(operator, mine, same_form, is_result=is_result)


# --- Embedders --------------------------------------------------------------------------------------------------------

Faces = Sequence[tuple[DecodedImage, Detection]]


def _vgg(architecture: str, faces: Faces, keras: Original, context: Context) -> Iterator[Figure]:
    maker, ours_class, theirs_class, name = VGG[architecture]
    file = published.PUBLISHED[name].path(context.models_dir)
    file.parent.mkdir(exist_ok=True)
    classifier = architecture == WITH_CLASSIFIER
    arguments = {"network": architecture, "classifier": classifier, "path": str(file), "seed": 4}
    keras.ask("save", **{key: np.array(value) for key, value in arguments.items()})
    pinned = PinOptions(hashlib.sha256(file.read_bytes()).hexdigest())
    (network,) = maker.make(pinned, context.models_dir).networks
    saved = f"{architecture}{', saved with its classifier' if classifier else ''}"
    try:
        networks.build(network, context.models_dir)
        probe = read_probe(network.path(context.models_dir), pinned.sha256)
        assert probe, "the build kept no probe"
        difference = probe.difference(networks.read(network, context.models_dir))
        crops = [face_crop(photo, detection) for photo, detection in faces]
        keras_vggface = theirs_class(context, pinned)
        theirs = np.concatenate([keras_vggface.embed(crops[i : i + AT_ONCE]) for i in range(0, len(crops), AT_ONCE)])
        ours = ours_class(context, pinned).embed(crops)
    except ModelUnavailable as error:
        print(f"     {error}")
        yield Figure(f"{saved}: it was refused, see above", math.inf, LARGEST_DIFFERENCE)
        return
    finally:
        file.unlink()
    yield Figure(f"{saved}: relative difference from the build's probe", difference, LARGEST_DIFFERENCE)
    found = relative_difference(ours, theirs)
    yield Figure(f"{saved}: relative difference from keras-vggface-*, {len(crops)} faces", found, LARGEST_DIFFERENCE)
    yield Figure(f"{architecture}: how far apart its vectors of these faces are", spread(theirs), LEAST_SPREAD, True)


def _dlib(faces: Faces, context: Context) -> Iterator[Figure]:
    import dlib

    ours = DlibResnet(context, NoOptions())
    chips = [ours.crop(photo, detection) for photo, detection in faces]
    net = dlib.face_recognition_model_v1(str(DLIB_RESNET.locate()))
    theirs = np.array([net.compute_face_descriptor(np.asarray(chip)) for chip in chips])
    difference = absolute_difference(ours.embed(chips), theirs)
    yield Figure(f"dlib-resnet: absolute difference over {len(chips)} chips", difference, DLIB_DIFFERENCE)


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
    difference = absolute_difference(ours, theirs)
    yield Figure(f"efficientnet-lite0: absolute difference over {len(x)} photos", difference, LITE0_DIFFERENCE)


if __name__ == "__main__":
    main()
