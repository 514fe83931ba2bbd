"""VGG-Face's VGG16 and VGGFace2's ResNet50 and SENet50 up to their features, from keras-vggface's .h5 files.

Architecture: keras-vggface 0.6, keras_vggface/models.py, with ``include_top=False, pooling="avg"`` at 224 px. Papers:
Parkhi, Vedaldi, Zisserman: Deep Face Recognition, BMVC 2015; Cao, Shen, Xie, Parkhi, Zisserman: VGGFace2, FG 2018.
Batch norms are folded into their convolutions. Every builder takes the bytes of an .h5 file and gives those of an ONNX
file from ``x`` (n, 3, 224, 224), BGR with the network's mean subtracted, to ``vectors``; all raise UnreadableWeights.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from catalog.vision.builders.graph import Graph
from catalog.vision.readers import vggface
from catalog.vision.readers.vggface import Layers, Weights

SIDE = 224
VGG16_DIMENSION, RESNET_DIMENSION = 512, 2048
_RESNET_EPSILON = 1e-3  # Keras' default of BatchNormalization
_SENET_EPSILON = 1e-4  # models.py: bn_eps
# TensorFlow's SAME for a kernel of 7 and a stride of 2 on an even side: 2 zeros before and 3 behind.
_STEM_PADS = (2, 2, 3, 3)


def build_vgg16(weights: bytes) -> bytes:
    """``vectors`` (n, 512): the average of pool5, the pooled output of conv5_3."""
    net = _Net("vggface_vgg16", vggface.vgg16_layers(), weights)
    x = "x"
    for block, (convolutions, _width) in enumerate(vggface.VGG16_BLOCKS, start=1):
        for number in range(1, convolutions + 1):
            x = net.relu(net.conv(x, f"conv{block}_{number}"))
        x = net.graph.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    return net.pooled(x, VGG16_DIMENSION)


def build_resnet50(weights: bytes) -> bytes:
    """``vectors`` (n, 2048)."""
    return _residual("vggface2_resnet50", vggface.resnet50_layers(), weights, _RESNET_EPSILON)


def build_senet50(weights: bytes) -> bytes:
    """``vectors`` (n, 2048)."""
    return _residual("vggface2_senet50", vggface.senet50_layers(), weights, _SENET_EPSILON)


def _residual(name: str, layers: Layers, weights: bytes, epsilon: float) -> bytes:
    net = _Net(name, layers, weights, epsilon)
    x = net.relu(net.normed("x", "conv1/7x7_s2", stride=2, pads=_STEM_PADS))
    x = net.graph.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2])
    for stage, blocks, _width in vggface.RESNET_STAGES:
        for block in range(1, blocks + 1):
            x = net.block(x, f"conv{stage}_{block}", stride=2 if block == 1 and stage > 2 else 1)
    return net.pooled(x, RESNET_DIMENSION)


class _Net:
    def __init__(self, name: str, layers: Layers, weights: bytes, epsilon: float = 0.0) -> None:
        self.graph = Graph(name)
        self._weights: Weights = vggface.read(layers, weights)
        self._epsilon = epsilon

    def relu(self, x: str) -> str:
        return self.graph.add("Relu", x)

    def conv(self, x: str, name: str) -> str:
        """A convolution with a bias, at stride 1, that keeps the side."""
        kernel, bias = self._weights[name]
        return self._conv(x, kernel.astype(np.float64), bias)

    def normed(self, x: str, name: str, *, stride: int = 1, pads: tuple[int, ...] | None = None) -> str:
        """A convolution without a bias and its batch norm, as one."""
        (kernel,) = self._weights[name]
        gamma, beta, mean, variance = (values.astype(np.float64) for values in self._weights[f"{name}/bn"])
        gain = gamma / np.sqrt(variance + self._epsilon)
        return self._conv(x, kernel * gain, beta - mean * gain, stride, pads)

    def _conv(
        self,
        x: str,
        kernel: NDArray[np.float64],
        bias: NDArray[np.floating],
        stride: int = 1,
        pads: tuple[int, ...] | None = None,
    ) -> str:
        """``kernel`` is Keras': (height, width, in, out)."""
        half = kernel.shape[0] // 2
        return self.graph.conv(
            x,
            kernel.transpose(3, 2, 0, 1).astype(np.float32),
            bias.astype(np.float32),
            stride=stride,
            pads=pads or (half, half, half, half),
        )

    def block(self, x: str, name: str, *, stride: int) -> str:
        """A bottleneck beside its shortcut, which is a convolution where the file has one for it."""
        y = self.relu(self.normed(x, f"{name}_1x1_reduce", stride=stride))
        y = self.relu(self.normed(y, f"{name}_3x3"))
        y = self.normed(y, f"{name}_1x1_increase")
        if f"{name}_1x1_down" in self._weights:
            y = self.graph.add("Mul", y, self._excitation(y, name))
        if f"{name}_1x1_proj" in self._weights:
            x = self.normed(x, f"{name}_1x1_proj", stride=stride)
        return self.relu(self.graph.add("Add", y, x))

    def _excitation(self, y: str, name: str) -> str:
        """A factor for each channel, from the averages of all."""
        squeezed = self.relu(self.conv(self.graph.add("GlobalAveragePool", y), f"{name}_1x1_down"))
        return self.graph.add("Sigmoid", self.conv(squeezed, f"{name}_1x1_up"))

    def pooled(self, x: str, dimension: int) -> bytes:
        vectors = self.graph.add("Flatten", self.graph.add("GlobalAveragePool", x))
        return self.graph.to_bytes({"x": ["n", 3, SIDE, SIDE]}, {"vectors": (vectors, ["n", dimension])})
