"""dlib's face recognition ResNet, ``anet_type`` of dlib's examples/dnn_face_recognition_ex.cpp.

29 convolutions; each one's affine layer (a batch norm frozen after training) is folded into it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from catalog.vision.builders.graph import Graph
from catalog.vision.readers.dlib_tensors import TensorStream

SIDE, DIMENSION = 150, 128
_MEAN_RGB = np.array([122.782, 117.001, 104.298], np.float32)  # dlib/dnn/input.h, input_rgb_image
_STEM_CHANNELS, _STEM_SIDE = 32, 35  # after the 7x7 convolution and the pooling, both of stride 2
# Channels, whether the level begins with a down-sampling block, and how many plain blocks follow.
_LEVELS = ((32, False, 3), (64, True, 3), (128, True, 2), (256, True, 2), (256, True, 0))


def build(weights: bytes) -> bytes:
    """``x`` (n, 3, 150, 150), RGB 0..255, to ``vectors`` (n, 128). Raises UnreadableWeights."""
    net = _Net(weights)
    x = net.graph.scaled("x", _MEAN_RGB.reshape(1, 3, 1, 1), 1 / 256)
    x = net.relu(net.conv(x, 3, _STEM_CHANNELS, 7, stride=2))
    x = net.graph.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2])
    channels, side = _STEM_CHANNELS, _STEM_SIDE
    for width, shrinks, blocks in _LEVELS:
        if shrinks:
            x, side = net.down_block(x, channels, width, side)
        channels = width
        for _ in range(blocks):
            x = net.block(x, channels)
    x = net.graph.add("Flatten", net.graph.add("GlobalAveragePool", x))
    last = net.stream.read(channels * DIMENSION).reshape(channels, DIMENSION)
    x = net.graph.add("MatMul", x, net.graph.constant(last))
    return net.graph.to_bytes({"x": ["n", 3, SIDE, SIDE]}, {"vectors": (x, ["n", DIMENSION])})


class _Net:
    def __init__(self, weights: bytes) -> None:
        self.graph = Graph("dlib_face_resnet")
        self.stream = TensorStream(weights)

    def relu(self, x: str) -> str:
        return self.graph.add("Relu", x)

    def conv(self, x: str, channels: int, filters: int, size: int, *, stride: int = 1) -> str:
        """A convolution and its affine layer. dlib pads by half the kernel at stride 1 and not at all otherwise."""
        count = filters * channels * size * size
        weights = self.stream.read(count + filters)
        kernel, bias = weights[:count].reshape(filters, channels, size, size), weights[count:]
        gain, shift = np.split(self.stream.read(2 * filters), 2)
        pad = size // 2 if stride == 1 else 0
        return self.graph.conv(
            x, kernel * gain[:, None, None, None], bias * gain + shift, stride=stride, pads=(pad, pad, pad, pad)
        )

    def block(self, x: str, channels: int) -> str:
        """dlib's ``residual``: two convolutions beside an identity."""
        y = self.conv(self.relu(self.conv(x, channels, channels, 3)), channels, channels, 3)
        return self.relu(self.graph.add("Add", y, x))

    def down_block(self, x: str, channels: int, filters: int, side: int) -> tuple[str, int]:
        """dlib's ``residual_down`` and its output's side: the shortcut is pooled 2 x 2; the smaller is zero-padded."""
        y = self.conv(self.relu(self.conv(x, channels, filters, 3, stride=2)), filters, filters, 3)
        shortcut = self.graph.add("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
        conv_side, pool_side = (side - 3) // 2 + 1, (side - 2) // 2 + 1
        y = self._grown(y, rows=pool_side - conv_side)
        shortcut = self._grown(shortcut, channels=filters - channels)
        return self.relu(self.graph.add("Add", y, shortcut)), pool_side

    def _grown(self, x: str, *, rows: int = 0, channels: int = 0) -> str:
        """``x`` with zeros appended: channels, and as many rows as columns."""
        if not rows and not channels:
            return x
        pads: NDArray[np.int64] = np.array([0, 0, 0, 0, 0, channels, rows, rows], np.int64)
        return self.graph.add("Pad", x, self.graph.constant(pads))
