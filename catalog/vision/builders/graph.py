"""Writing an ONNX graph node by node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

_OPSET, _IR_VERSION = 17, 8

Shape = Sequence[int | str]


class Graph:
    """Collects nodes and constants; every method that adds a node returns the name of its one output."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def constant(self, values: NDArray[np.generic]) -> str:
        name = f"w{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Adds one node of ``operator`` (an ONNX name)."""
        output = f"v{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def scaled(self, x: str, mean: NDArray[np.float32], factor: float) -> str:
        """(x - mean) * factor; ``mean`` is broadcast."""
        return self.add("Mul", self.add("Sub", x, self.constant(mean)), self.constant(np.array([factor], np.float32)))

    def conv(
        self,
        x: str,
        kernel: NDArray[np.float32],
        bias: NDArray[np.float32],
        *,
        stride: int = 1,
        pads: Sequence[int] = (0, 0, 0, 0),
        group: int = 1,
    ) -> str:
        """A convolution; ``kernel`` is (out, in / group, height, width), ``pads`` top, left, bottom, right."""
        return self.add(
            "Conv",
            x,
            self.constant(kernel),
            self.constant(bias),
            kernel_shape=list(kernel.shape[2:]),
            strides=[stride, stride],
            pads=list(pads),
            group=group,
        )

    def to_bytes(self, inputs: Mapping[str, Shape], outputs: Mapping[str, tuple[str, Shape]]) -> bytes:
        """The checked model file. ``inputs``: name to shape; ``outputs``: name to (node output, shape); all float32."""
        for name, (value, _shape) in outputs.items():
            self._nodes.append(helper.make_node("Identity", [value], [name]))
        graph = helper.make_graph(
            self._nodes,
            self._name,
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in inputs.items()],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
                for name, (_, shape) in outputs.items()
            ],
            self._constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))
