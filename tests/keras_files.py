"""Weights files as Keras 2 writes them, made with h5py: keras-vggface's networks with random numbers, and smaller."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from catalog.vision.readers.keras_h5 import Shape
from catalog.vision.readers.vggface import Layers

Weights = Mapping[str, Sequence[NDArray[Any]]]

# Layers of a network that is small enough to be written in a moment, one of each kind.
SMALL: Layers = {
    "conv1_1": ((3, 3, 3, 64), (64,)),
    "conv1/7x7_s2": ((7, 7, 3, 64),),
    "conv1/7x7_s2/bn": ((64,),) * 4,
}
_LEAVES = {1: ["kernel"], 2: ["kernel", "bias"], 4: ["gamma", "beta", "moving_mean", "moving_variance"]}


def random_weights(layers: Layers, seed: int = 1) -> dict[str, list[NDArray[np.float32]]]:
    """Of a size that keeps what flows through the network neither vanishing nor growing much."""
    rng = np.random.default_rng(seed)
    return {name: _of_layer(rng, name, shapes) for name, shapes in layers.items()}


def _of_layer(rng: np.random.Generator, name: str, shapes: tuple[Shape, ...]) -> list[NDArray[np.float32]]:
    if len(shapes) == 4:
        gamma, variance = rng.uniform(0.5, 1.5, (2, *shapes[0]))
        beta, mean = rng.normal(0, 0.1, (2, *shapes[0]))
        if name.endswith("increase/bn"):
            gamma *= 0.3  # sixteen blocks are added up
        return [values.astype(np.float32) for values in (gamma, beta, mean, variance)]
    kernel = rng.standard_normal(shapes[0], np.float32) * np.float32(np.sqrt(2 / np.prod(shapes[0][:-1])))
    if shapes[0][-2] == 3:
        kernel /= 50  # pixels
    return [kernel, *(rng.normal(0, 0.1, shape).astype(np.float32) for shape in shapes[1:])]


def keras_file(weights: Weights, *, whole_model: bool = False, empty: Iterable[str] = ("input_1", "pool1")) -> bytes:
    """As keras 2.2 saves them; ``empty`` are layers without weights, which it lists first."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        group = file.create_group("model_weights") if whole_model else file
        group.attrs["layer_names"] = np.array([name.encode() for name in (*empty, *weights)])
        for name in empty:
            group.create_group(name).attrs["weight_names"] = np.array([], "S1")
        for name, arrays in weights.items():
            layer = group.require_group(name)
            names = [f"{name}/{leaf}:0" for leaf in _LEAVES[len(arrays)]]
            layer.attrs["weight_names"] = np.array([weight.encode() for weight in names])
            for weight, array in zip(names, arrays, strict=True):
                layer.create_dataset(weight, data=array)
    return buffer.getvalue()


def random_file(layers: Layers, seed: int = 1) -> bytes:
    return keras_file(random_weights(layers, seed))
