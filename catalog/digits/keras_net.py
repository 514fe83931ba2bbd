"""The net and its training in Keras: a program of `catalog.vision.originals.child`, the only one here with TensorFlow.

A small convolutional net to the unit sphere, trained so that the cosine of a digit's vector with its own class's is
larger by MARGIN than with any other's: CosFace, Wang et al., CVPR 2018. What is trained with stays outside the net
that is kept: it has no classes, only distances.
"""

from __future__ import annotations

import os

# Before the first import of TensorFlow. No GPU, whose sums come in any order.
os.environ.update(KERAS_BACKEND="tensorflow", CUDA_VISIBLE_DEVICES="-1")

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from numpy.typing import NDArray

from catalog.digits.augment import NO_DIGIT
from catalog.vision.builders.digit_cnn import DIMENSION, EPSILON, LAYERS, SIDE

CLASSES = NO_DIGIT + 1
MARGIN, SCALE = 0.25, 16.0
RATE, DECAY = 3e-3, 1e-3  # the first learning rate, which falls to 0 as a cosine does, and AdamW's decay of weights
DROPPED = 0.2

Arrays = dict[str, NDArray[Any]]


def load(arguments: Sequence[str]) -> dict[str, Any]:
    """The tasks `start`, `epoch` and `finish`. ``arguments``: the seed."""
    keras.utils.set_random_seed(int(arguments[0]))
    tf.config.experimental.enable_op_determinism()
    training = _Training()
    return {"start": training.start, "epoch": training.epoch, "finish": training.finish}


class _Training:
    def start(self, steps: NDArray[np.int64], batch: NDArray[np.int64]) -> Arrays:
        """A new net, to be trained for so many batches of so many rows."""
        self._batch = int(batch)
        self._net = _net()
        self._taught = keras.Sequential([self._net, _Cosines()])
        rate = keras.optimizers.schedules.CosineDecay(RATE, int(steps))
        self._taught.compile(keras.optimizers.AdamW(rate, weight_decay=DECAY), _margin_softmax)
        return {"parameters": np.array(self._net.count_params())}

    def epoch(self, ink: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Arrays:
        """Every row once, in this order. ``ink``: (n, 28, 28)."""
        history = self._taught.fit(ink[..., None], labels.astype(np.int32), self._batch, shuffle=False, verbose=0)
        return {"loss": np.array(history.history["loss"][0])}

    def finish(self, probes: NDArray[np.uint8]) -> Arrays:
        """Every convolution with its batch norm folded in, `kernelN` (out, in, h, w) and `biasN`; and the net's own
        `vectors` (n, 64) of ``probes`` (n, 28, 28)."""
        found: Arrays = {"vectors": np.asarray(self._net(probes[..., None].astype(np.float32), training=False))}
        for number, layer in enumerate(LAYERS):
            kernel = np.asarray(self._net.get_layer(f"conv{number}").kernel, np.float64)
            bias = np.zeros(layer.filters)
            if layer.activates:
                gamma, beta, mean, variance = (
                    np.asarray(each, np.float64) for each in self._net.get_layer(f"norm{number}").weights
                )
                gain = gamma / np.sqrt(variance + EPSILON)
                kernel, bias = kernel * gain, beta - mean * gain
            found[f"kernel{number}"] = kernel.transpose(3, 2, 0, 1).astype(np.float32)
            found[f"bias{number}"] = bias.astype(np.float32)
        return found


def _net() -> Any:
    """(n, 28, 28, 1), 0 to 255, to unit vectors (n, 64)."""
    x = inputs = keras.Input((SIDE, SIDE, 1))
    x = layers.Rescaling(1 / 255)(x)
    for number, layer in enumerate(LAYERS):
        if not layer.activates:
            x = layers.Dropout(DROPPED)(x)
        padding = "same" if layer.padded else "valid"
        x = layers.Conv2D(layer.filters, layer.size, layer.stride, padding, use_bias=False, name=f"conv{number}")(x)
        if layer.activates:
            x = layers.ReLU()(layers.BatchNormalization(epsilon=EPSILON, name=f"norm{number}")(x))
        if layer.pooled:
            x = layers.MaxPooling2D()(x)
    return keras.Model(inputs, layers.UnitNormalization()(layers.Reshape((DIMENSION,))(x)))


class _Cosines(layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Of a unit vector with one for each class."""

    def build(self, shape: tuple[int, ...]) -> None:
        self._classes = self.add_weight(shape=(DIMENSION, CLASSES), initializer="glorot_normal")

    def call(self, vectors: Any) -> Any:
        return ops.matmul(vectors, ops.normalize(self._classes, axis=0))


def _margin_softmax(labels: Any, cosines: Any) -> Any:
    own = ops.one_hot(ops.reshape(labels, (-1,)), CLASSES)
    return keras.losses.categorical_crossentropy(own, SCALE * (cosines - MARGIN * own), from_logits=True)
