"""A network built from keras-vggface's weights is taken only if it gives what keras-vggface gives for the same input.

The original runs once, in a process of its own, where its packages are installed; what it was given and what it gave
are kept beside the model (``.probe.npz``), so that the model is held to it again by a machine without TensorFlow.
"""

from __future__ import annotations

import hashlib
import io
import logging
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from catalog.vision import networks
from catalog.vision.errors import ModelUnavailable
from catalog.vision.originals.packages import VGGFACE_ON_TENSORFLOW
from catalog.vision.originals.vggface import original

LARGEST_DIFFERENCE = 2e-6  # over the largest number of the vector that the original gives
LEAST_SPREAD = 100 * LARGEST_DIFFERENCE  # by which vectors of different images differ; less would prove little
SIDE = 224

logger = logging.getLogger(__name__)

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Probe:
    """``x`` (n, 3, 224, 224) goes into the network, ``vectors`` (n, dimension) is what the original makes of it."""

    x: Floats
    vectors: Floats

    def difference(self, data: bytes) -> float:
        """`relative_difference` of the ONNX file ``data``."""
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        ours = session.run(["vectors"], {"x": self.x})[0]
        return relative_difference(ours, self.vectors)


def absolute_difference(ours: NDArray[np.floating[Any]], theirs: NDArray[np.floating[Any]]) -> float:
    """The largest; infinite where shapes differ, there is no number at all, or one of them is not finite."""
    if ours.shape != theirs.shape or not ours.size or not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return float("inf")
    return float(np.abs(ours.astype(np.float64) - theirs).max())


def relative_difference(ours: NDArray[np.floating[Any]], theirs: NDArray[np.floating[Any]]) -> float:
    """The largest difference in a vector (row) over the largest number of that vector of ``theirs``, of all rows.

    Infinite where `absolute_difference` is, or where a vector of ``theirs`` is zero and ours is not.
    """
    if not np.isfinite(absolute_difference(ours, theirs)):
        return float("inf")
    differences = np.abs(ours.astype(np.float64) - theirs).reshape(len(theirs), -1).max(axis=1)
    sizes = np.abs(theirs).reshape(len(theirs), -1).max(axis=1)
    return float((differences / np.maximum(sizes, 1e-30)).max())


def spread(vectors: NDArray[np.floating[Any]]) -> float:
    """How far apart the two nearest of ``vectors`` (n, d) are: their largest difference over the largest number of all.

    0 where all are zero, or two are the same.
    """
    size = float(np.abs(vectors).max())
    rows = vectors.astype(np.float64)
    nearest = min(np.abs(rows[i + 1 :] - rows[i]).max(axis=1).min() for i in range(len(rows) - 1))
    return float(nearest / size) if size else 0.0


def vgg16(path: Path, data: bytes, weights: bytes) -> None:
    """`_hold_to_original` for VGG16."""
    _hold_to_original("vgg16", path, data, weights)


def resnet50(path: Path, data: bytes, weights: bytes) -> None:
    """`_hold_to_original` for ResNet50."""
    _hold_to_original("resnet50", path, data, weights)


def senet50(path: Path, data: bytes, weights: bytes) -> None:
    """`_hold_to_original` for SENet50."""
    _hold_to_original("senet50", path, data, weights)


def _hold_to_original(architecture: str, path: Path, data: bytes, weights: bytes) -> None:
    """Raises ModelUnavailable where the ONNX file ``data``, to be kept at ``path``, does not do as the original does.

    ``weights`` are the bytes of the .h5 file. Where neither the original's packages nor a probe of these weights is
    there, the network is taken unseen, which the log says.
    """
    sha256 = hashlib.sha256(weights).hexdigest()
    probe = read_probe(path, sha256)
    if probe is None:
        missing = VGGFACE_ON_TENSORFLOW.problem(f"keras-vggface-{architecture}")
        if missing:
            logger.warning("%s was not compared with keras-vggface. %s", path.stem, missing)
            return
        probe = _ask(architecture, path, weights, sha256)
        _refuse_what_proves_nothing(path.stem, probe)
        _write(path, probe, sha256)
    difference = probe.difference(data)
    if not difference <= LARGEST_DIFFERENCE:
        raise ModelUnavailable(
            path.stem,
            f"The model {path.stem} does not do what keras-vggface does with the same weights: its numbers differ by "
            f"{difference:.1e} of a vector's largest, {LARGEST_DIFFERENCE:.0e} is allowed. It was not kept.",
        )
    logger.info("%s does what keras-vggface does (largest relative difference %.1e)", path.stem, difference)


def _refuse_what_proves_nothing(name: str, probe: Probe) -> None:
    """Where the network itself gives the same for everything, as one whose activations died does, ours agrees cheaply.

    Raises ModelUnavailable.
    """
    found = spread(probe.vectors)
    if not found >= LEAST_SPREAD:
        raise ModelUnavailable(
            name,
            f"keras-vggface gives nearly the same vector for different images with the weights of {name} (they differ "
            f"by {found:.1e} of the largest number): these weights tell no faces apart. Fetch others.",
        )


def _ask(architecture: str, path: Path, weights: bytes, sha256: str) -> Probe:
    """What the original gives for `probe_crops`. Beside ``path`` its file may lie for that moment."""
    file = path.with_name(f".{path.stem}-original.h5")  # what a killed build left of it, the next one removes
    try:
        file.write_bytes(weights)
        with closing(original(architecture, str(file), sha256, answer_seconds=600)) as child:
            x = child.ask("preprocess", crops=probe_crops())["x"]
            vectors = child.ask("features", x=x)["vectors"]
    finally:
        file.unlink(missing_ok=True)
    return Probe(np.ascontiguousarray(x.transpose(0, 3, 1, 2)), vectors)


def probe_crops() -> NDArray[np.uint8]:
    """(3, 224, 224, 3): smooth, rough and half black, always the same."""
    ramp = np.linspace(0, 255, SIDE)
    smooth = np.stack([np.broadcast_to(ramp, (SIDE, SIDE)), np.broadcast_to(ramp[:, None], (SIDE, SIDE))] * 2, axis=2)
    rough = np.random.default_rng(7).integers(0, 256, (SIDE, SIDE, 3))
    dark = rough.copy()
    dark[:, SIDE // 2 :] = 0
    return np.stack([smooth[..., :3], rough, dark]).astype(np.uint8)


def _probe_path(path: Path) -> Path:
    return path.with_suffix(".probe.npz")


def _write(path: Path, probe: Probe, sha256: str) -> None:
    buffer = io.BytesIO()
    said = {"original": np.array(VGGFACE_ON_TENSORFLOW.versions()), "weights": np.array(sha256)}
    np.savez_compressed(buffer, allow_pickle=False, x=probe.x, vectors=probe.vectors, **said)
    networks.write_aside(_probe_path(path), buffer.getvalue())


def read_probe(path: Path, sha256: str) -> Probe | None:
    """What was kept beside the model file ``path``, None where nothing was of the weights with this ``sha256``."""
    try:
        with np.load(_probe_path(path), allow_pickle=False) as file:
            probe = Probe(file["x"], file["vectors"])
            return probe if str(file["weights"]) == sha256 and _is_whole(probe) else None
    except Exception:  # noqa: BLE001 - of a damaged file NumPy raises what zip, zlib, tokenize and others raise
        return None


def _is_whole(probe: Probe) -> bool:
    return (
        probe.x.shape == (len(probe_crops()), 3, SIDE, SIDE)
        and probe.vectors.ndim == 2
        and len(probe.vectors) == len(probe.x)
        and all(values.dtype == np.float32 and np.isfinite(values).all() for values in (probe.x, probe.vectors))
        and spread(probe.vectors) >= LEAST_SPREAD
    )
