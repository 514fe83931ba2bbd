"""Training `digit-cnn`: Keras in a process of its own, the ONNX file from what it learnt, and how good that is.

The held-out rows (catalog.digits.rows.held_out) are not given to that process at all, and the net that is kept is the
one that was measured: its record's figures are its own.
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
from catalog.digits.rows import Digits, held_out
from catalog.vision.builders import digit_cnn
from catalog.vision.networks import write_aside
from catalog.vision.originals.client import Original
from catalog.vision.weights import DIGIT_CNN

PROGRAM = "catalog.digits.keras_net"
BATCH = 128
SHAPES = 10  # one shape that is no digit for so many digits
PROBES = 64
SAME = 1e-5  # the most by which a number of the ONNX file may differ from Keras's
EPOCH_SECONDS = 900
VERSIONS = ("tensorflow", "keras", "numpy", "onnx", "opencv-python-headless")

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
    if find_spec("tensorflow") is None:
        raise TrainingImpossible(
            "Digits are trained by Keras on TensorFlow, which is not installed: "
            "run `pip install -r requirements/tensorflow.txt`. Searching needs neither."
        )


def train(digits: Digits, plan: Plan, on_epoch: Callable[[int, float], None]) -> Trained:
    """Train on the rows that are not held out, export, check, measure; ``on_epoch`` hears each epoch and its loss.

    Raises TrainingImpossible, and ModelUnavailable where Keras's process dies.
    """
    check_tensorflow()
    began = time.monotonic()
    kept = ~held_out(len(digits))
    probes = digits.ink[kept][:: max(1, int(kept.sum()) // PROBES)]  # some of each digit: rows may be sorted
    learnt, loss = _learn(digits.ink[kept], digits.labels[kept], probes, plan, on_epoch)
    model, difference = _exported(learnt, probes)
    precision = measure(vectors_of(model, digits.ink), digits)
    record = {
        "name": DIGIT_CNN.name,
        "sha256": hashlib.sha256(model).hexdigest(),
        "size": len(model),
        "data": digits.source,
        "files": digits.files,
        "licence_of_data": "CC BY-SA 3.0, Yann LeCun and Corinna Cortes (MNIST)",
        "trained_on": f"{int(kept.sum())} rows: those whose index % 5 is not 4",
        "held_out": {**asdict(precision), "of": "this very net, which never saw these queries"},
        "seed": plan.seed,
        "epochs": plan.epochs,
        "last_loss": round(loss, 5),
        "largest_difference_from_keras": difference,
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": round(time.monotonic() - began),
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in VERSIONS}},
    }
    return Trained(model, precision, record)


def write(trained: Trained, folder: Path) -> Path:
    """The file and its record, each written aside and renamed; where the file is. Raises OSError."""
    path = folder / DIGIT_CNN.locate().name
    write_aside(path, trained.model)
    write_aside(path.with_suffix(".json"), (json.dumps(trained.record, indent=2) + "\n").encode())
    return path


def committed_record() -> dict[str, Any]:
    """Of the file in this repository, which the site runs."""
    record: dict[str, Any] = json.loads(DIGIT_CNN.locate().with_suffix(".json").read_text())
    return record


def _learn(
    ink: Ink, labels: NDArray[np.uint8], probes: Ink, plan: Plan, on_epoch: Callable[[int, float], None]
) -> tuple[dict[str, NDArray[Any]], float]:
    """What Keras has learnt from these rows alone (see keras_net.finish), and the last epoch's loss."""
    random = np.random.default_rng(plan.seed)
    no_digits = shapes(len(ink) // SHAPES, random)
    ink = np.concatenate([ink, no_digits])
    labels = np.concatenate([labels, np.full(len(no_digits), NO_DIGIT, np.uint8)])
    steps = plan.epochs * -(-len(ink) // BATCH)
    keras = Original("training of the digits", PROGRAM, [str(plan.seed)], answer_seconds=EPOCH_SECONDS)
    with closing(keras):
        keras.ask("start", steps=np.array(steps), batch=np.array(BATCH))
        for epoch in range(1, plan.epochs + 1):
            order = random.permutation(len(ink))
            loss = float(keras.ask("epoch", ink=augmented(ink[order], random), labels=labels[order])["loss"])
            on_epoch(epoch, loss)
        return keras.ask("finish", probes=probes), loss


def _exported(learnt: dict[str, NDArray[Any]], probes: Ink) -> tuple[bytes, float]:
    """The ONNX file and the largest difference of its vectors from Keras's. Raises TrainingImpossible."""
    model = digit_cnn.from_weights(learnt)
    difference = float(np.abs(vectors_of(model, probes) - learnt["vectors"]).max())
    if not difference <= SAME:
        raise TrainingImpossible(
            f"The ONNX file does not compute what Keras does (they differ by {difference:.2g}): it was not kept. "
            "This is an error of ours, or of a new version of one of the packages."
        )
    return model, difference
