"""The judge of `benchmarks.parity`: figures beside what is asked, pairs of faces, and layers of two networks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from catalog.vision.originals.proof import LARGEST_DIFFERENCE, absolute_difference
from catalog.vision.types import Detection

MATCH = 0.5  # the IoU from which on two boxes are of one face
LAYER_DIFFERENCE = 1e-5
# From this number on what is allowed grows with the numbers: to LARGEST_DIFFERENCE, as of the VGG networks. A sum of
# hundreds of products in 32-bit floats is not known to 1e-5 where it is about 20, and spacings are 2e-6.
LARGE = LAYER_DIFFERENCE / LARGEST_DIFFERENCE


@dataclass(frozen=True)
class Figure:
    """``at_least``: the figure must not be below what is asked; otherwise not above. NaN is never good."""

    what: str
    figure: float
    asked: float
    at_least: bool = False

    @property
    def good(self) -> bool:
        return self.figure >= self.asked if self.at_least else self.figure <= self.asked

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        return f"{'ok   ' if self.good else 'SHORT'} {self.what:<90} {self.figure:>10.4g}   {sign} {self.asked:g}"


# --- Faces ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Matched:
    """The faces of one image: ``overlaps`` of the pairs, and what is left of either side."""

    overlaps: list[float]
    lost: list[Detection]  # theirs alone
    more: list[Detection]  # ours alone


def matched(ours: Sequence[Detection], theirs: Sequence[Detection]) -> Matched:
    """Pairs of an IoU of at least MATCH, each face in one at most, the best pairs first."""
    pairs = sorted(
        ((mine.box.iou(their.box), i, k) for i, mine in enumerate(ours) for k, their in enumerate(theirs)), reverse=True
    )
    mine_left, theirs_left = dict(enumerate(ours)), dict(enumerate(theirs))
    overlaps = []
    for overlap, mine, their in pairs:
        if overlap >= MATCH and mine in mine_left and their in theirs_left:
            del mine_left[mine], theirs_left[their]
            overlaps.append(overlap)
    return Matched(overlaps, list(theirs_left.values()), list(mine_left.values()))


# --- Layers -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Compared:
    """One layer's output here and there: its largest difference, and ``size``, its largest number there."""

    operator: str
    is_result: bool
    difference: float
    size: float


def compared(
    operator: str, ours: NDArray[np.floating[Any]], theirs: NDArray[np.floating[Any]], *, is_result: bool = False
) -> Compared:
    """The difference is infinite where shapes differ or a number is not finite."""
    return Compared(operator, is_result, absolute_difference(ours, theirs), float(np.abs(theirs).max(initial=0)))


def layer_figures(network: str, layers: Sequence[Compared]) -> Iterator[Figure]:
    """Results and small numbers within LAYER_DIFFERENCE as it is, large ones within LARGEST_DIFFERENCE of the largest.

    A layer whose numbers are not finite counts as small, so that it is SHORT by any measure.
    """
    large = [each for each in layers if LARGE < each.size < math.inf and not each.is_result]
    results = [each for each in layers if each.is_result]
    small = [each for each in layers if each not in large and not each.is_result]
    largest = _largest(each.difference for each in results)
    yield Figure(f"{network}: absolute difference of {len(results)} results", largest, LAYER_DIFFERENCE)
    if small:
        largest = _largest(each.difference for each in small)
        what = f"{network}: absolute difference of {len(small)} other layers with numbers up to {LARGE:g}"
        yield Figure(what, largest, LAYER_DIFFERENCE)
    if large:
        largest = _largest(each.difference / each.size for each in large)
        what = f"{network}: difference of {len(large)} layers with larger numbers, over the largest"
        yield Figure(what, largest, LARGEST_DIFFERENCE)


def _largest(values: Iterator[float]) -> float:
    """NaN where one is, infinite where there is none: nothing was compared."""
    found = list(values)
    return float(np.max(found)) if found else math.inf


def layers_in_words(network: str, layers: Sequence[Compared]) -> str:
    """Of all layers alike, by both measures: how many are within LAYER_DIFFERENCE as it stands, and the worst."""
    within = sum(each.difference <= LAYER_DIFFERENCE for each in layers)
    worst = max(layers, key=lambda each: each.difference)
    relative = max(each.difference / max(each.size, 1e-30) for each in layers)
    return (
        f"     {network}: {within} of all {len(layers)} layer outputs are within {LAYER_DIFFERENCE:g} as they are; the "
        f"largest difference is {worst.difference:.2g} ({worst.operator}, numbers up to {worst.size:.3g}), "
        f"the largest over a layer's largest number {relative:.2g}"
    )


def layer_outputs(data: bytes, x: NDArray[np.float32]) -> list[tuple[str, bool, NDArray[Any]]]:
    """Of the ONNX file ``data`` for its input ``x``: every layer's operator, whether it is a result, and its output.

    In order; without what comes before the first convolution (normalising the pixels, which both sides do: what it
    gives is seen in that convolution), without names for what is there already, and softmax counted with its layer.
    """
    model = onnx.load_from_string(data)
    nodes = list(model.graph.node)
    first = next(number for number, node in enumerate(nodes) if node.op_type == "Conv")
    before_softmax = {node.input[0] for node in nodes if node.op_type == "Softmax"}
    layers = [node for node in nodes[first:] if node.op_type != "Identity" and node.output[0] not in before_softmax]
    results = {output.name for output in model.graph.output}
    named = {node.input[0] for node in nodes if node.op_type == "Identity" and node.output[0] in results}
    model.graph.output.extend(
        onnx.ValueInfoProto(name=node.output[0]) for node in layers if node.output[0] not in results
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs = session.run([node.output[0] for node in layers], {"x": x})
    return [
        (node.op_type, node.output[0] in results | named, output) for node, output in zip(layers, outputs, strict=True)
    ]
