"""Run as a process: learns a projection of unit vectors from their classes, and trains it with Keras on TensorFlow.

It starts as the directions in which classes differ once what varies within them is evened out (within-class covariance
normalisation: Hatch, Kajarekar, Stolcke, Interspeech 2006; then PCA), which needs few labels and holds for classes that
it never saw, too. From there it is trained by a cosine softmax (Wang et al., NormFace, ACM Multimedia 2017) with much
dropout. Both stages are given back: with few labels the start often finds more than what training makes of it
(clothing, 32 labels of each of 8 classes in 1,280 numbers: P@10 of held-out labels 0.57 to 0.74 by the start, to 0.69
trained), with many the other way round, so labels that were kept back choose. Nothing of the site imports this module.
"""

from __future__ import annotations

import os

# Before the first import of TensorFlow. No GPU: its sums come in any order. The rest keeps its chatter out.
os.environ.update(KERAS_BACKEND="tensorflow", CUDA_VISIBLE_DEVICES="-1", TF_CPP_MIN_LOG_LEVEL="3")

import math
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from search.engines.child import child_main
from search.engines.errors import BuildFailed
from search.engines.types import Progress
from search.teaching.training import INPUT, OUTPUT

Floats = NDArray[np.float32]

LEARNED = 64  # numbers that the projection gives, at most half of what it gets
RIDGE = 0.02  # of the largest variance within classes: below it a direction counts as not measured
STEPS, BATCH = 150, 64
SCALE = 8.0  # of the cosines before the softmax
SMOOTHING = 0.1
DROPOUT = 0.5  # of the inputs: no single number decides
RATE, DECAY = 2e-4, 1e-3


def work(folder: Path, request: Any, _: Progress) -> dict[str, str]:
    """Learn from every job of ``folder``; the libraries' versions."""
    for number in range(request["jobs"]):
        keras.utils.set_random_seed(request["seed"])
        tf.config.experimental.enable_op_determinism()
        with np.load(folder / INPUT.format(number), allow_pickle=False) as arrays:
            vectors, classes = arrays["vectors"].astype(np.float64), arrays["classes"]
        unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        mean = unit.mean(axis=0)
        first = start(unit - mean, classes)
        trained = train((unit - mean).astype(np.float32), classes, first)
        for stage, projection in enumerate((first, trained)):
            np.savez(folder / OUTPUT.format(number, stage), projection=projection, mean=mean.astype(np.float32))
    return {name: metadata.version(name) for name in ("keras", "tensorflow")}


def start(centred: NDArray[np.float64], classes: NDArray[np.int64]) -> Floats:
    """(d, h) from ``centred`` (n, d): what varies within classes evened out, then the main directions of the rest."""
    centres = np.stack([centred[classes == each].mean(axis=0) for each in range(int(classes.max()) + 1)])
    sizes, axes = _axes((centred - centres[classes]) / math.sqrt(len(centred)))
    ridge = max(RIDGE * float(sizes[0]) ** 2 if len(sizes) else 0.0, 1e-9)
    gains = 1 / np.sqrt(sizes**2 + ridge) - 1 / math.sqrt(ridge)

    def evened(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(rows / math.sqrt(ridge) + ((rows @ axes.T) * gains) @ axes)

    _, main = _axes(evened(centred))
    if not len(main):
        raise BuildFailed("All labelled vectors are one and the same: there is nothing to tell apart.")
    projection = evened(main[: max(1, min(LEARNED, centred.shape[1] // 2))]).T
    return np.asarray(projection / np.linalg.norm(projection, axis=0).mean(), dtype=np.float32)


def _axes(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Singular values of ``rows`` (n, d), largest first, and the right singular vectors as rows; not those near zero.

    From the products along the shorter side: many times as fast as the decomposition itself.
    """
    is_wide = len(rows) < rows.shape[1]
    values, vectors = np.linalg.eigh(rows @ rows.T if is_wide else rows.T @ rows)
    kept = np.flatnonzero(values > 1e-10 * values[-1])[::-1]
    sizes = np.sqrt(values[kept])
    axes = (vectors[:, kept].T @ rows) / sizes[:, None] if is_wide else vectors[:, kept].T
    return sizes, axes


def train(inputs: Floats, classes: NDArray[np.int64], projection: Floats) -> Floats:
    """``projection`` (d, h) after STEPS steps on ``inputs`` (n, d) and their classes, one unit vector for each."""
    count = int(classes.max()) + 1
    model = keras.Sequential(
        [
            keras.Input((inputs.shape[1],)),
            keras.layers.Dropout(DROPOUT),
            keras.layers.Dense(projection.shape[1], use_bias=False),
            keras.layers.UnitNormalization(),
            keras.layers.Dense(count, use_bias=False, kernel_constraint=keras.constraints.UnitNorm(axis=0)),
            keras.layers.Rescaling(SCALE),
        ]
    )
    _, dense, _, prototypes, _ = model.layers
    dense.set_weights([projection])
    prototypes.set_weights([_prototypes(inputs @ projection, classes)])
    model.compile(
        optimizer=keras.optimizers.AdamW(RATE, weight_decay=DECAY),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=SMOOTHING),
        jit_compile=False,  # compiling takes longer than all steps
    )
    targets = np.eye(count, dtype=np.float32)[classes]
    epochs = math.ceil(STEPS * BATCH / len(inputs))
    model.fit(inputs, targets, batch_size=BATCH, epochs=epochs, shuffle=True, verbose=0)
    (learned,) = dense.get_weights()
    return np.asarray(learned, dtype=np.float32)


def _prototypes(projected: Floats, classes: NDArray[np.int64]) -> Floats:
    """(h, classes): the mean direction of each class."""
    unit = projected / np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-12)
    means = np.stack([unit[classes == each].mean(axis=0) for each in range(int(classes.max()) + 1)])
    return np.asarray((means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)).T, dtype=np.float32)


if __name__ == "__main__":
    child_main(work)
