"""Small networks as others export them: ONNX files made in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

BACKEND = "catalog.vision.embedders.onnx_file.OnnxEmbedder"
SIDE = 32

Shape = Sequence[int | str]


def options_of(path: Path, **changes: Any) -> dict[str, Any]:
    """The options of a file of `mean_colour` or `hashed`, as an operator would write them."""
    given = {
        "path": str(path),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "dimension": 3,
        "input_size": SIDE,
        "scale": 1,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "crop": "frame",
    }
    return given | changes


def model(
    nodes: Sequence[NodeProto],
    constants: Mapping[str, NDArray[Any]],
    inputs: dict[str, Shape],
    outputs: dict[str, Shape],
    kind: int = TensorProto.FLOAT,
) -> Any:
    return helper.make_model(
        helper.make_graph(
            list(nodes),
            "exported",
            [helper.make_tensor_value_info(name, kind, list(shape)) for name, shape in inputs.items()],
            [helper.make_tensor_value_info(name, kind, list(shape)) for name, shape in outputs.items()],
            [numpy_helper.from_array(values, name) for name, values in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )


def mean_colour(
    batch: int | str = "batch", layout: str = "NCHW", side: int | str = SIDE, names: tuple[str, str] = ("image", "mean")
) -> bytes:
    """The mean of each channel, 3 numbers."""
    given, out = names
    first = [] if layout == "NCHW" else [helper.make_node("Transpose", [given], ["planes"], perm=[0, 3, 1, 2])]
    nodes = [
        *first,
        helper.make_node("GlobalAveragePool", [given if layout == "NCHW" else "planes"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], [out]),
    ]
    shape = [batch, 3, side, side] if layout == "NCHW" else [batch, side, side, 3]
    return bytes(model(nodes, {}, {given: shape}, {out: [batch, 3]}).SerializeToString())


def hashed(dimension: int = 16) -> bytes:
    """Random sums of an 8 x 8 mean of the image: ``dimension`` numbers that tell images apart."""
    kernel = np.random.default_rng(3).normal(0, 0.1, (3 * 8 * 8, dimension)).astype(np.float32)
    nodes = [
        helper.make_node("AveragePool", ["image"], ["pooled"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "kernel"], ["embedding"]),
    ]
    shapes: tuple[dict[str, Shape], dict[str, Shape]] = (
        {"image": ["batch", 3, SIDE, SIDE]},
        {"embedding": ["batch", dimension]},
    )
    return bytes(model(nodes, {"kernel": kernel}, *shapes).SerializeToString())


# --- What is refused --------------------------------------------------------------------------------------------------

_POOL = helper.make_node("GlobalAveragePool", ["image"], ["pooled"])
_FLAT = helper.make_node("Flatten", ["pooled"], ["mean"])
_IMAGE: dict[str, Shape] = {"image": ["batch", 3, SIDE, SIDE]}
_MEAN: dict[str, Shape] = {"mean": ["batch", 3]}


def two_outputs() -> bytes:
    more = helper.make_node("Neg", ["mean"], ["logits"])
    return bytes(model([_POOL, _FLAT, more], {}, _IMAGE, _MEAN | {"logits": ["batch", 3]}).SerializeToString())


def two_inputs() -> bytes:
    add = helper.make_node("Add", ["flat", "text"], ["mean"])
    flat = helper.make_node("Flatten", ["pooled"], ["flat"])
    return bytes(model([_POOL, flat, add], {}, _IMAGE | {"text": ["batch", 3]}, _MEAN).SerializeToString())


def not_finite() -> bytes:
    flat = helper.make_node("Flatten", ["pooled"], ["flat"])
    scaled = helper.make_node("Mul", ["flat", "gain"], ["mean"])
    gain = np.array([1, np.nan, 1], np.float32)
    return bytes(model([_POOL, flat, scaled], {"gain": gain}, _IMAGE, _MEAN).SerializeToString())


def divided_by_its_length() -> bytes:
    """As `mean_colour`, on the unit sphere: no numbers where the mean is zero."""
    flat = helper.make_node("Flatten", ["pooled"], ["flat"])
    length = helper.make_node("ReduceL2", ["flat"], ["length"], axes=[1], keepdims=1)
    divided = helper.make_node("Div", ["flat", "length"], ["mean"])
    return bytes(model([_POOL, flat, length, divided], {}, _IMAGE, _MEAN).SerializeToString())


def of_half_floats() -> bytes:
    return bytes(model([_POOL, _FLAT], {}, _IMAGE, _MEAN, TensorProto.FLOAT16).SerializeToString())


def of_maps() -> bytes:
    """An output that is still a map of 8 x 8 places."""
    pool = helper.make_node("AveragePool", ["image"], ["mean"], kernel_shape=[4, 4], strides=[4, 4])
    return bytes(model([pool], {}, _IMAGE, {"mean": ["batch", 3, 8, 8]}).SerializeToString())


def with_weights_elsewhere() -> bytes:
    flat = helper.make_node("Flatten", ["pooled"], ["flat"])
    made = model(
        [_POOL, flat, helper.make_node("Mul", ["flat", "gain"], ["mean"])],
        {"gain": np.ones(3, np.float32)},
        _IMAGE,
        _MEAN,
    )
    (tensor,) = made.graph.initializer
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return bytes(made.SerializeToString())


def of_one_image_for_good() -> bytes:
    """A batch of 1 that is written into the graph's middle."""
    reshape = helper.make_node("Reshape", ["pooled", "shape"], ["mean"])
    shape = np.array([1, 3], np.int64)
    return bytes(
        model([_POOL, reshape], {"shape": shape}, {"image": [1, 3, SIDE, SIDE]}, {"mean": [1, 3]}).SerializeToString()
    )


def of_one_long_row() -> bytes:
    """As `of_one_image_for_good`, but several images come out as one row."""
    reshape = helper.make_node("Reshape", ["pooled", "shape"], ["mean"])
    constants = {"shape": np.array([1, -1], np.int64)}
    return bytes(
        model([_POOL, reshape], constants, {"image": [1, 3, SIDE, SIDE]}, {"mean": [1, 3]}).SerializeToString()
    )


def of_all_together() -> bytes:
    """Each row depends on the others, as with a batch normalisation that was exported in training mode."""
    flat = helper.make_node("Flatten", ["pooled"], ["flat"])
    whole = helper.make_node("ReduceMax", ["flat"], ["most"], axes=[0], keepdims=1)
    return bytes(
        model(
            [_POOL, flat, whole, helper.make_node("Add", ["flat", "most"], ["mean"])], {}, _IMAGE, _MEAN
        ).SerializeToString()
    )


def with_an_unknown_operator() -> bytes:
    made = model([helper.make_node("Teleport", ["image"], ["mean"], domain="elsewhere")], {}, _IMAGE, _MEAN)
    made.opset_import.append(helper.make_opsetid("elsewhere", 1))
    return bytes(made.SerializeToString())


def with_our_names_inside() -> bytes:
    """``x`` and ``vectors`` stand for something else, also inside a branch."""
    branches = {
        name: helper.make_graph(
            [helper.make_node(operator, ["vectors"], [f"{name}_out"])],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, ["batch", 3])],
        )
        for name, operator in (("yes", "Identity"), ("no", "Neg"))
    }
    nodes = [
        _POOL,
        helper.make_node("Flatten", ["pooled"], ["x"]),
        helper.make_node("Add", ["x", "x"], ["vectors"]),
        helper.make_node("If", ["always"], ["mean"], then_branch=branches["yes"], else_branch=branches["no"]),
    ]
    return bytes(model(nodes, {"always": np.array(True)}, _IMAGE, _MEAN).SerializeToString())
