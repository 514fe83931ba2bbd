"""A taught head: the base's vector and, beside it, a projection of it that was trained on labels.

With u = x / |x| and g = (u - mean) P, made a unit vector, the output is [sqrt(1 - w) u, sqrt(w) g], a unit vector
again: the cosine of two outputs is (1 - w) times the base's plus w times the projection's. So the base keeps its say
over what was never taught, and at w = 0 nothing has changed. By l2 the order is the same, as both are unit vectors.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from catalog.vision.builders.graph import Graph

_TINY = 1e-12  # against a division by zero; norms are about 1


def build(projection: NDArray[np.float32], mean: NDArray[np.float32], weight: float) -> bytes:
    """``x`` (n, d) to ``vectors`` (n, d + h), from ``projection`` (d, h), ``mean`` (d,) and ``weight`` w, 0 to 1."""
    dimension, learned = projection.shape
    graph = Graph("head")
    unit = _unit(graph, "x")
    centred = graph.add("Sub", unit, graph.constant(mean.astype(np.float32)))
    taught = _unit(graph, graph.add("MatMul", centred, graph.constant(projection.astype(np.float32))))
    parts = [_times(graph, unit, math.sqrt(1 - weight)), _times(graph, taught, math.sqrt(weight))]
    vectors = graph.add("Concat", *parts, axis=1)
    return graph.to_bytes({"x": ["n", dimension]}, {"vectors": (vectors, ["n", dimension + learned])})


def _unit(graph: Graph, x: str) -> str:
    norm = graph.add("ReduceL2", x, axes=[1], keepdims=1)
    return graph.add("Div", x, graph.add("Max", norm, graph.constant(np.array(_TINY, np.float32))))


def _times(graph: Graph, x: str, factor: float) -> str:
    return graph.add("Mul", x, graph.constant(np.array(factor, np.float32)))
