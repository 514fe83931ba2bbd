"""The three networks of MTCNN (architecture: mtcnn 1.0.0, mtcnn/network/*.py, after Zhang et al. 2016).

Inputs are RGB values 0..255, (n, 3, height, width). The weights are Keras's: kernels (height, width, in, out), dense
layers over a flattened (width, height, channels) block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from catalog.vision.builders.graph import Graph
from catalog.vision.readers.errors import UnreadableWeights
from catalog.vision.readers.joblib_arrays import read_arrays


class _Layers:
    """Layers that take their weights from the list, in its order."""

    def __init__(self, graph: Graph, arrays: Iterator[NDArray[np.float32]]) -> None:
        self.graph = graph
        self._arrays = arrays

    def conv(self, x: str) -> str:
        return self.graph.conv(x, next(self._arrays).transpose(3, 2, 0, 1), next(self._arrays))

    def prelu(self, x: str) -> str:
        return self.graph.add("PRelu", x, self.graph.constant(next(self._arrays).reshape(-1, 1, 1)))

    def pool(self, x: str, size: int, *, to_edge: bool = True) -> str:
        """Maxima at every second pixel; ``to_edge`` keeps the incomplete window at the far edge."""
        return self.graph.add("MaxPool", x, kernel_shape=[size, size], strides=[2, 2], ceil_mode=int(to_edge))

    def dense(self, x: str) -> str:
        weights, bias = (self.graph.constant(next(self._arrays)) for _ in range(2))
        return self.graph.add("Gemm", x, weights, bias)

    def hidden(self, x: str) -> str:
        """Flattens as Keras does and applies the one hidden layer."""
        flat = self.graph.add("Flatten", self.graph.add("Transpose", x, perm=[0, 3, 2, 1]), axis=1)
        return self.graph.add("PRelu", self.dense(flat), self.graph.constant(next(self._arrays).ravel()))

    def probabilities(self, x: str) -> str:
        return self.graph.add("Softmax", x, axis=1)


def build_pnet(weights: bytes) -> bytes:
    """``x`` (1, 3, h, w) to ``offsets`` (1, 4, h', w') and ``probabilities`` (1, 2, h', w'), a cell every 2 pixels."""

    def body(layers: _Layers, x: str) -> dict[str, tuple[str, list[int | str]]]:
        x = layers.prelu(layers.conv(x))
        x = layers.prelu(layers.conv(layers.pool(x, 2)))
        x = layers.prelu(layers.conv(x))
        offsets, scores = layers.conv(x), layers.conv(x)
        return {
            "offsets": (offsets, ["n", 4, "cells_y", "cells_x"]),
            "probabilities": (layers.probabilities(scores), ["n", 2, "cells_y", "cells_x"]),
        }

    return _build("mtcnn_pnet", weights, ["n", 3, "height", "width"], body)


def build_rnet(weights: bytes) -> bytes:
    """``x`` (n, 3, 24, 24) to ``offsets`` (n, 4) and ``probabilities`` (n, 2)."""

    def body(layers: _Layers, x: str) -> dict[str, tuple[str, list[int | str]]]:
        x = layers.prelu(layers.conv(x))
        x = layers.prelu(layers.conv(layers.pool(x, 3)))
        x = layers.prelu(layers.conv(layers.pool(x, 3, to_edge=False)))
        x = layers.hidden(x)
        offsets, scores = layers.dense(x), layers.dense(x)
        return {"offsets": (offsets, ["n", 4]), "probabilities": (layers.probabilities(scores), ["n", 2])}

    return _build("mtcnn_rnet", weights, ["n", 3, 24, 24], body)


def build_onet(weights: bytes) -> bytes:
    """``x`` (n, 3, 48, 48) to ``offsets`` (n, 4), ``landmarks`` (n, 10) and ``probabilities`` (n, 2).

    ``landmarks`` are five x and then five y, as shares of the box.
    """

    def body(layers: _Layers, x: str) -> dict[str, tuple[str, list[int | str]]]:
        x = layers.prelu(layers.conv(x))
        x = layers.prelu(layers.conv(layers.pool(x, 3)))
        x = layers.prelu(layers.conv(layers.pool(x, 3, to_edge=False)))
        x = layers.prelu(layers.conv(layers.pool(x, 2)))
        x = layers.hidden(x)
        offsets, landmarks, scores = layers.dense(x), layers.dense(x), layers.dense(x)
        return {
            "offsets": (offsets, ["n", 4]),
            "landmarks": (landmarks, ["n", 10]),
            "probabilities": (layers.probabilities(scores), ["n", 2]),
        }

    return _build("mtcnn_onet", weights, ["n", 3, 48, 48], body)


def _build(
    name: str,
    weights: bytes,
    shape: list[int | str],
    body: Callable[[_Layers, str], dict[str, tuple[str, list[int | str]]]],
) -> bytes:
    graph, arrays = Graph(name), iter(read_arrays(weights))
    outputs = body(_Layers(graph, arrays), graph.scaled("x", np.array([127.5], np.float32), 1 / 128))
    if next(arrays, None) is not None:
        raise UnreadableWeights(f"{name}: more weights than layers")
    return graph.to_bytes({"x": shape}, outputs)
