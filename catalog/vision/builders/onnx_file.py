"""A network that somebody exported, proved to be what the settings say of it and brought to our form.

Whatever is refused is refused in words for whoever wrote the settings. The file runs here for the first time, without
access to other files: tensors that lie outside it are refused before onnxruntime sees it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, compose, helper
from onnx.external_data_helper import uses_external_data

from catalog.vision.errors import onnxruntime_words
from catalog.vision.readers.errors import UnreadableWeights

PROBES = 3  # rows that are run one by one and together
TOLERANCE = 1e-4  # between the two, relative to the longest of the vectors
_FLAT = (0.0, 1.0, -1.0)  # the mean colour of most preprocessing, and a colour to each side of it
_INPUT, _OUTPUT = "x", "vectors"
_PREFIX = "given_"


def build(data: bytes, *, dimension: int, size: tuple[int, int], layout: str, output: str) -> bytes:
    """``data`` with one input ``x``, float32 (n, 3, height, width) or (n, height, width, 3) by ``layout``, and one
    output ``vectors``, float32 (n, ``dimension``), for any n.

    ``size`` is width and height. A batch that the export fixed to 1 is freed where the graph allows it. Runs the result
    on noise: one row gives what the given file gives, several give the same as each alone, and all are finite, also
    for images of one colour.
    Raises UnreadableWeights saying which of this the file is not.
    """
    model = _parsed(data)
    width, height = size
    shape = (3, height, width) if layout == "NCHW" else (height, width, 3)
    source = _checked_input(model, shape, layout)
    wanted = _checked_output(model, output)
    noise = np.random.default_rng(1).standard_normal((PROBES, *shape)).astype(np.float32)
    expected = _expected(data, source, wanted, noise[:1], dimension)
    built = _rewritten(model, source, wanted, shape, expected.shape)
    _prove(built, noise, expected.reshape(1, dimension))
    _prove_flat(built, shape)
    return built


# --- What the file says -----------------------------------------------------------------------------------------------


def _parsed(data: bytes) -> ModelProto:
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise UnreadableWeights("it is not an ONNX file, or it is cut off.") from error
    if not model.graph.node or not model.opset_import:
        raise UnreadableWeights("it is not an ONNX file, or it is cut off.")
    if any(uses_external_data(tensor) for tensor in _tensors(model)):
        raise UnreadableWeights("its weights lie in another file; export it as a single file.")
    return model


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """``graph`` and those inside its nodes."""
    yield graph
    for node in graph.node:
        yield from _graphs_of(node)


def _graphs_of(node: Any) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):  # g is empty where it is not set
            yield from _graphs(inner)


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Every constant of the model, wherever it is kept."""
    nodes = [node for function in model.functions for node in function.node]
    sparse = []
    for graph in [*_graphs(model.graph), *(graph for node in nodes for graph in _graphs_of(node))]:
        nodes.extend(graph.node)
        sparse.extend(graph.sparse_initializer)
        yield from graph.initializer
    for attribute in (attribute for node in nodes for attribute in node.attribute):
        sparse.extend([attribute.sparse_tensor, *attribute.sparse_tensors])
        yield from (attribute.t, *attribute.tensors)
    yield from (tensor for each in sparse for tensor in (each.values, each.indices))


def _checked_input(model: ModelProto, shape: Sequence[int], layout: str) -> str:
    """The name of the one input, which takes images of ``shape`` one at a time or several."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs)
        raise UnreadableWeights(
            f"it has {len(inputs)} inputs ({names}) instead of one image; export the image tower alone."
        )
    (value,) = inputs
    _check_float(value, "input")
    given = _dimensions(value)
    asked = (None, *shape)
    fits = len(given) == 4 and all(
        side is None or side == want for side, want in zip(given[1:], asked[1:], strict=True)
    )
    if not fits:
        raise UnreadableWeights(
            f"its input {value.name!r} has the shape {_shown(given)}, but the options layout {layout!r} and input_size "
            f"mean {_shown(asked)}."
        )
    if given[0] not in (None, 1):
        raise UnreadableWeights(f"its input takes {given[0]} images at once; export it with a dynamic batch.")
    return str(value.name)


def _checked_output(model: ModelProto, output: str) -> str:
    outputs = {value.name: value for value in model.graph.output}
    names = ", ".join(outputs)
    if output and output not in outputs:
        raise UnreadableWeights(f"it has no output {output!r}, only {names}; correct the option output.")
    if not output and len(outputs) != 1:
        raise UnreadableWeights(f"it has {len(outputs)} outputs ({names}); name one of them in the option output.")
    name = output or names
    _check_float(outputs[name], "output")
    return name


def _check_float(value: ValueInfoProto, which: str) -> None:
    kind = value.type.tensor_type.elem_type
    if kind != TensorProto.FLOAT:
        shown = TensorProto.DataType.Name(kind).lower()
        raise UnreadableWeights(f"its {which} {value.name!r} is {shown}; export it in 32-bit floats.")


def _dimensions(value: ValueInfoProto) -> list[int | None]:
    """None for what is left open."""
    return [side.dim_value or None for side in value.type.tensor_type.shape.dim]


def _shown(shape: Sequence[int | None]) -> str:
    return f"({', '.join('any' if side is None else str(side) for side in shape)})"


# --- What it computes -------------------------------------------------------------------------------------------------


def _expected(data: bytes, source: str, wanted: str, one: NDArray[np.float32], dimension: int) -> NDArray[np.float32]:
    """The given file's answer to one image: (1, ``dimension``), perhaps with sides of 1 behind."""
    rows = _run(_session(data), wanted, source, one)
    if rows.shape[:2] != (1, dimension) or rows.size != dimension:
        raise UnreadableWeights(
            f"its output {wanted!r} has the shape {_shown(rows.shape)} for one image, but the option dimension means "
            f"{_shown((1, dimension))}. Correct dimension, or name another output."
        )
    if not np.isfinite(rows).all():
        raise UnreadableWeights(f"its output {wanted!r} is not finite for an image of noise.")
    return rows


def _rewritten(model: ModelProto, source: str, wanted: str, shape: Sequence[int], given: Sequence[int]) -> bytes:
    """Our names and shapes around the given graph. ``given`` is the shape of the output for one image."""
    if _taken(model, source, wanted):
        model = compose.add_prefix(model, _PREFIX)
        source, wanted = _PREFIX + source, _PREFIX + wanted
    graph = model.graph
    if source != _INPUT:
        graph.node.insert(0, helper.make_node("Identity", [_INPUT], [source]))
    if wanted != _OUTPUT:
        graph.node.append(helper.make_node("Flatten" if len(given) > 2 else "Identity", [wanted], [_OUTPUT]))
    kept = [value for value in graph.input if value.name not in (source, _INPUT)]
    dimension = given[1]
    for values, ours in (
        (graph.input, [helper.make_tensor_value_info(_INPUT, TensorProto.FLOAT, ["n", *shape]), *kept]),
        (graph.output, [helper.make_tensor_value_info(_OUTPUT, TensorProto.FLOAT, ["n", dimension])]),
        (graph.value_info, []),  # shapes with the batch of the export
    ):
        del values[:]
        values.extend(ours)
    return bytes(model.SerializeToString(deterministic=True))


def _taken(model: ModelProto, source: str, wanted: str) -> bool:
    """Whether one of our names stands for something else in the graph."""
    used = {name for graph in _graphs(model.graph) for node in graph.node for name in (*node.input, *node.output)}
    used |= {
        value.name for graph in _graphs(model.graph) for value in (*graph.input, *graph.output, *graph.initializer)
    }
    return (_INPUT in used and source != _INPUT) or (_OUTPUT in used and wanted != _OUTPUT)


def _prove(built: bytes, noise: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    """One row gives what was expected, and several give each what it gives alone."""
    session = _session(built)
    alone = np.concatenate([_run(session, _OUTPUT, _INPUT, row[None]) for row in noise])
    allowed = TOLERANCE * max(1.0, float(np.linalg.norm(alone, axis=1).max()))
    if not np.isfinite(alone).all():
        raise UnreadableWeights("its output is not finite for an image of noise.")
    if np.abs(alone[:1] - expected).max() > allowed:
        raise UnreadableWeights("it gives other numbers when its input and output are renamed; export it anew.")
    advice = "Export it with a dynamic batch (torch.onnx.export: dynamic_axes, or dynamic_shapes)."
    try:
        together = _run(session, _OUTPUT, _INPUT, noise)
    except UnreadableWeights as error:
        raise UnreadableWeights(f"it cannot take several images at once: {error} {advice}") from error
    if together.shape != alone.shape:
        raise UnreadableWeights(
            f"it cannot take several images at once: {PROBES} give {_shown(together.shape)}. {advice}"
        )
    if np.abs(together - alone).max() > allowed:
        raise UnreadableWeights(f"an image gets another vector in the company of others. {advice}")


def _prove_flat(built: bytes, shape: Sequence[int]) -> None:
    """Finite for images of one colour, where a network that divides by a length or by a deviation has zeros."""
    session = _session(built)
    for value in _FLAT:
        if not np.isfinite(_run(session, _OUTPUT, _INPUT, np.full((1, *shape), value, np.float32))).all():
            raise UnreadableWeights(
                "its output is not finite for an image of one colour. Export it with a small number added to whatever "
                "it divides by, or leave out its last normalisation and set the option normalise."
            )


def _session(data: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it has to say is in its errors
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise UnreadableWeights(f"onnxruntime does not load it: {onnxruntime_words(error)}") from error


def _run(
    session: onnxruntime.InferenceSession, output: str, source: str, x: NDArray[np.float32]
) -> NDArray[np.float32]:
    try:
        (rows,) = session.run([output], {source: x})
    except Exception as error:
        raise UnreadableWeights(f"onnxruntime does not run it: {onnxruntime_words(error)}") from error
    return np.asarray(rows)
