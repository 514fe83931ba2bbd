"""EfficientNet-Lite0 up to its pooled features (architecture: efficientnet-lite-pytorch 0.1.0, model.py and utils.py).

Convolutions pad as TensorFlow's SAME does (the odd pixel at the bottom right); each one's batch norm is folded into it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from catalog.vision.builders.graph import Graph
from catalog.vision.readers.errors import UnreadableWeights
from catalog.vision.readers.torch_legacy import read_state_dict

SIDE, DIMENSION = 224, 1280
_EPSILON = 1e-3  # utils.py, efficientnet_lite(): batch_norm_epsilon
_STEM_CHANNELS = 32
# repeats, kernel, stride of the first, expansion, filters: utils.py, efficientnet_lite(): blocks_args
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def build(weights: bytes) -> bytes:
    """``x`` (n, 3, 224, 224), ImageNet-normalised RGB, to ``vectors`` (n, 1280). Raises UnreadableWeights."""
    net = _Net(weights)
    x = net.relu6(net.conv("x", "_conv_stem", "_bn0", stride=2))
    channels, index = _STEM_CHANNELS, 0
    for repeats, _size, first_stride, expansion, filters in _STAGES:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            x = net.block(x, f"_blocks.{index}", stride, expansion, shortcut=stride == 1 and channels == filters)
            channels, index = filters, index + 1
    x = net.relu6(net.conv(x, "_conv_head", "_bn1"))
    x = net.graph.add("Flatten", net.graph.add("GlobalAveragePool", x))
    return net.graph.to_bytes({"x": ["n", 3, SIDE, SIDE]}, {"vectors": (x, ["n", DIMENSION])})


class _Net:
    def __init__(self, weights: bytes) -> None:
        self.graph = Graph("efficientnet_lite0")
        self._state = read_state_dict(weights)
        self._side = SIDE

    def relu6(self, x: str) -> str:
        low, high = (self.graph.constant(np.array(limit, np.float32)) for limit in (0, 6))
        return self.graph.add("Clip", x, low, high)

    def block(self, x: str, name: str, stride: int, expansion: int, *, shortcut: bool) -> str:
        """An inverted bottleneck without squeeze and excitation: expand, filter each channel, project."""
        y = x
        if expansion != 1:
            y = self.relu6(self.conv(y, f"{name}._expand_conv", f"{name}._bn0"))
        y = self.relu6(self.conv(y, f"{name}._depthwise_conv", f"{name}._bn1", stride=stride, depthwise=True))
        y = self.conv(y, f"{name}._project_conv", f"{name}._bn2")
        return self.graph.add("Add", y, x) if shortcut else y

    def conv(self, x: str, conv: str, norm: str, *, stride: int = 1, depthwise: bool = False) -> str:
        kernel = self._tensor(f"{conv}.weight")
        gain = self._tensor(f"{norm}.weight") / np.sqrt(self._tensor(f"{norm}.running_var") + _EPSILON)
        shift = self._tensor(f"{norm}.bias") - self._tensor(f"{norm}.running_mean") * gain
        return self.graph.conv(
            x,
            (kernel * gain[:, None, None, None]).astype(np.float32),
            shift.astype(np.float32),
            stride=stride,
            pads=self._same(kernel.shape[-1], stride),
            group=kernel.shape[0] if depthwise else 1,
        )

    def _tensor(self, name: str) -> NDArray[np.float64]:
        if name not in self._state:
            raise UnreadableWeights(f"The weights have no {name}")
        return self._state[name].astype(np.float64)

    def _same(self, size: int, stride: int) -> tuple[int, int, int, int]:
        """Zeros to add so that the output's side is the input's over ``stride``, rounded up; moves on to that side."""
        out = math.ceil(self._side / stride)
        total = max((out - 1) * stride + size - self._side, 0)
        self._side = out
        before, after = total // 2, total - total // 2
        return before, before, after, after
