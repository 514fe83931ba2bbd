"""The net of `digit-cnn`: its architecture, its graph from trained weights, and the file in this repository.

Convolutions with their batch norms folded in, one pooling, a last convolution without a bend, then the unit sphere:
217,000 numbers, 7 million multiplications for a digit. Where there is no ink it gives a vector that no digit is near.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from catalog.vision.builders.graph import Graph
from catalog.vision.readers.errors import UnreadableWeights

SIDE, DIMENSION = 28, 64
EPSILON = 1e-3  # of the batch norms
_TINY = 1e-12  # against a division by zero


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution of ``size`` x ``size``, and what follows it."""

    filters: int
    size: int
    stride: int = 1
    padded: bool = True  # by half the size with zeros, else not at all
    activates: bool = True  # batch norm (already in the kernel) and ReLU
    pooled: bool = False  # the largest of each 2 x 2


LAYERS = (
    Layer(32, 5, stride=2, padded=False),  # MNIST's rim is empty
    Layer(48, 3),
    Layer(48, 3, pooled=True),
    Layer(64, 3),
    Layer(96, 3, padded=False),
    Layer(DIMENSION, 4, padded=False, activates=False),
)


def from_weights(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """``x`` (n, 1, 28, 28), ink 0..255 on 0, to ``vectors`` (n, 64) of length 1.

    ``arrays``: for layer N `kernelN` (out, in, h, w) and `biasN` (out,), and `nothing` (64,), of length 1, which is the
    vector of a frame without any ink; float32.
    """
    graph = Graph("digit_cnn")
    most = graph.add("Flatten", graph.add("ReduceMax", "x", axes=[1, 2, 3], keepdims=1))
    has_ink = graph.add("Greater", most, graph.constant(np.array(0, np.float32)))
    x = graph.scaled("x", np.zeros((1, 1, 1, 1), np.float32), 1 / 255)
    for number, layer in enumerate(LAYERS):
        pad = layer.size // 2 if layer.padded else 0
        kernel, bias = arrays[f"kernel{number}"], arrays[f"bias{number}"]
        x = graph.conv(x, kernel, bias, stride=layer.stride, pads=(pad, pad, pad, pad))
        if layer.activates:
            x = graph.add("Relu", x)
        if layer.pooled:
            x = graph.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = graph.add("Flatten", x)
    norm = graph.add("ReduceL2", x, axes=[1], keepdims=1)
    x = graph.add("Div", x, graph.add("Max", norm, graph.constant(np.array(_TINY, np.float32))))
    x = graph.add("Where", has_ink, x, graph.constant(arrays["nothing"][None].astype(np.float32)))
    return graph.to_bytes({"x": ["n", 1, SIDE, SIDE]}, {"vectors": (x, ["n", DIMENSION])})


def build(model: bytes) -> bytes:
    """The file of this repository as it is, once it is seen to be what the embedder runs. Raises UnreadableWeights."""
    try:
        graph = onnx.load_from_string(model).graph
        sizes = [
            [each.dim_value or each.dim_param for each in value.type.tensor_type.shape.dim]
            for value in (*graph.input, *graph.output)
        ]
    except Exception as error:  # onnx raises protobuf's own errors, which have no common class
        raise UnreadableWeights(f"The file is no ONNX model ({error})") from error
    if sizes != [["n", 1, SIDE, SIDE], ["n", DIMENSION]]:
        raise UnreadableWeights(f"The model goes from and to {sizes}, not from 28 x 28 px to {DIMENSION} numbers")
    return model
