"""Training `digit-cnn`: Keras in a process of its own, the ONNX file from what it learnt, and how good that is.

The held-out rows (catalog.digits.rows.Digits.apart) are not given to that process at all, nor a row that is the very
same as one of them, and the net that is kept is the one that was measured: its record's figures are its own.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.digits.augment import NO_DIGIT, augmented, shapes
from catalog.digits.measuring import Precision, measure, vectors_of
from catalog.digits.rows import Digits
from catalog.vision.builders import digit_cnn
from catalog.vision.errors import ModelUnavailable
from catalog.vision.networks import write_aside
from catalog.vision.originals.client import Original
from catalog.vision.weights import DIGIT_CNN

PROGRAM = "catalog.digits.keras_net"
BATCH = 128
SHAPES = 10  # one shape that is no digit for so many digits
PROBES = 64
SAME = 1e-5  # the most by which a number of the ONNX file may differ from Keras's
CHUNK = 64 * BATCH  # rows sent at once
CHUNK_SECONDS = 900  # 23 s alone on two cores
NEEDED = ("tensorflow", "keras")
VERSIONS = (*NEEDED, "numpy", "onnx", "opencv-python-headless")
ASKED_P_AT_1, ASKED_P_AT_100 = 0.985, 0.97  # of a net that is to be committed, on the table

Ink = NDArray[np.uint8]


class TrainingImpossible(Exception):
    """Nothing was trained; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int = 1
    epochs: int = 40


@dataclass(frozen=True, slots=True)
class Trained:
    """``model``: the ONNX file. ``record``: what is kept beside it."""

    model: bytes
    precision: Precision
    record: dict[str, Any]


def check_tensorflow() -> None:
    """Raises TrainingImpossible where it is not installed. It is looked for, not imported."""
    if any(find_spec(name) is None for name in NEEDED):
        raise TrainingImpossible(
            "Digits are trained by Keras on TensorFlow, which is not installed: "
            "run `pip install -r requirements/tensorflow.txt`. Searching needs neither."
        )


def train(digits: Digits, plan: Plan, on_epoch: Callable[[int, float], None]) -> Trained:
    """Train on the rows that are not held out, export, check, measure; ``on_epoch`` hears each epoch and its loss.

    Raises TrainingImpossible, also where Keras's process dies.
    """
    check_tensorflow()
    began = time.monotonic()
    kept = ~digits.apart & ~_twins(digits)
    probes = digits.ink[kept][:: max(1, int(kept.sum()) // PROBES)]  # some of each digit: rows may be sorted
    learnt, loss = _learn(digits.ink[kept], digits.labels[kept], probes, plan, on_epoch)
    model, difference = _exported(learnt, digits.ink[kept], probes)
    precision = measure(vectors_of(model, digits.ink), digits)
    record = {
        "name": DIGIT_CNN.name,
        "sha256": hashlib.sha256(model).hexdigest(),
        "size": len(model),
        "licence": DIGIT_CNN.licence if digits.licence else "",
        "data": digits.source,
        "files": digits.files,
        "licence_of_data": digits.licence,
        "trained_on": f"{int(kept.sum())} rows: all that are not held out, nor the very same as one that is",
        "held_out": {**asdict(precision), "rule": digits.rule, "of": "this very net, which never saw these queries"},
        "seed": plan.seed,
        "epochs": plan.epochs,
        "last_loss": round(loss, 5),
        "largest_difference_from_keras": difference,
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": round(time.monotonic() - began),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in VERSIONS}},
    }
    return Trained(model, precision, record)


def falls_short(precision: Precision) -> bool:
    """Whether a net finds held-out digits less well than is asked of one that is committed."""
    return precision.p_at_1 < ASKED_P_AT_1 or precision.p_at_100 < ASKED_P_AT_100


def write(trained: Trained, folder: Path) -> Path:
    """The file and its record, each written aside and renamed; where the file is. Raises OSError."""
    path = folder / DIGIT_CNN.locate().name
    write_aside(path, trained.model)
    write_aside(path.with_suffix(".json"), (json.dumps(trained.record, indent=2, allow_nan=False) + "\n").encode())
    return path


def committed_record() -> dict[str, Any]:
    """Of the file in this repository, which the site runs."""
    record: dict[str, Any] = json.loads(DIGIT_CNN.locate().with_suffix(".json").read_text())
    return record


def _twins(digits: Digits) -> NDArray[np.bool_]:
    """(n,): which rows are, pixel for pixel, one that is held out."""
    apart = {ink.tobytes() for ink in digits.ink[digits.apart]}
    return np.array([ink.tobytes() in apart for ink in digits.ink], bool)


def _version(package: str) -> str:
    """Minutes of training must not be lost because a package goes by another name, as tensorflow-cpu does."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def _learn(
    ink: Ink, labels: NDArray[np.uint8], probes: Ink, plan: Plan, on_epoch: Callable[[int, float], None]
) -> tuple[dict[str, NDArray[Any]], float]:
    """What Keras has learnt from these rows alone (see keras_net.finish), and the last epoch's loss."""
    random = np.random.default_rng(plan.seed)
    no_digits = shapes(len(ink) // SHAPES, random)
    ink = np.concatenate([ink, no_digits])
    labels = np.concatenate([labels, np.full(len(no_digits), NO_DIGIT, np.uint8)])
    steps = plan.epochs * -(-len(ink) // BATCH)
    keras = Original("training of the digits", PROGRAM, [str(plan.seed)], answer_seconds=CHUNK_SECONDS)
    try:
        with closing(keras):
            keras.ask("start", steps=np.array(steps), batch=np.array(BATCH))
            for epoch in range(1, plan.epochs + 1):
                loss = _epoch(keras, ink, labels, random)
                on_epoch(epoch, loss)
            return keras.ask("finish", probes=probes), loss
    except ModelUnavailable as error:
        raise TrainingImpossible(f"The training broke off, and nothing of it is kept: {error}") from error


def _epoch(keras: Original, ink: Ink, labels: NDArray[np.uint8], random: np.random.Generator) -> float:
    """Every row once, in any order, changed anew; the mean loss."""
    order = random.permutation(len(ink))
    total = 0.0
    for at in range(0, len(order), CHUNK):
        rows = order[at : at + CHUNK]
        answer = keras.ask("epoch", ink=augmented(ink[rows], random), labels=labels[rows])
        total += float(answer["loss"]) * len(rows)
    return total / len(order)


def _exported(learnt: dict[str, NDArray[Any]], ink: Ink, probes: Ink) -> tuple[bytes, float]:
    """The ONNX file and the largest difference of its vectors from Keras's. Raises TrainingImpossible.

    ``ink``: what it was trained on, from which follows what is far from every digit.
    """
    trained_on = vectors_of(digit_cnn.from_weights({**learnt, "nothing": np.zeros(digit_cnn.DIMENSION)}), ink)
    model = digit_cnn.from_weights({**learnt, "nothing": _unlike_all(trained_on)})
    difference = float(np.abs(vectors_of(model, probes) - learnt["vectors"]).max())
    if not difference <= SAME:
        raise TrainingImpossible(
            f"The ONNX file does not compute what Keras does (they differ by {difference:.2g}): it was not kept. "
            "This is an error of ours, or of a new version of one of the packages."
        )
    return model, difference


def _unlike_all(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The direction, of length 1, in which ``vectors`` (n, d) have least: nearly perpendicular to each of them.

    Of its two ends the one whose largest number is positive, so that the same vectors give the same.
    """
    direction = np.linalg.svd(vectors.astype(np.float64), full_matrices=False)[2][-1]
    return np.asarray(direction * np.sign(direction[np.abs(direction).argmax()]), np.float32)
