"""How well held-out digits are found among the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from catalog.digits.rows import Digits

_BATCH = 500
Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Precision:
    """P@1 and mean P@100 of so many held-out queries, each against so many rows that are not held out."""

    queries: int
    against: int
    p_at_1: float
    p_at_100: float

    def __str__(self) -> str:
        return (
            f"P@1 {self.p_at_1:.4f}, mean P@100 {self.p_at_100:.4f} "
            f"({self.queries:,} held-out queries against {self.against:,})"
        )


def vectors_of(model: bytes, ink: NDArray[np.uint8]) -> Vectors:
    """What the ONNX file gives for ``ink`` (n, 28, 28): (n, 64)."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    x = ink[:, None].astype(np.float32)
    parts = [session.run(["vectors"], {"x": x[at : at + _BATCH]})[0] for at in range(0, len(x), _BATCH)]
    return np.concatenate(parts)


def measure(vectors: Vectors, digits: Digits) -> Precision:
    """``vectors`` (n, d) of all rows, of length 1."""
    apart = digits.apart
    p_at_1, p_at_100 = precisions(
        vectors[apart], digits.labels[apart], vectors[~apart], digits.labels[~apart], (1, 100)
    )
    return Precision(int(apart.sum()), int((~apart).sum()), p_at_1, p_at_100)


def precisions(
    queries: Vectors,
    labels: NDArray[np.generic],
    others: Vectors,
    labels_of_others: NDArray[np.generic],
    depths: Sequence[int],
) -> list[float]:
    """For each k of ``depths`` the mean share of a query's own label among its k nearest others, by cosine.

    Vectors have length 1. Equally near ones keep their order. Fewer than k others count as if the rest were wrong.
    """
    own = np.zeros((len(depths), len(queries)))
    for at in range(0, len(queries), _BATCH):
        near = np.argsort(-(queries[at : at + _BATCH] @ others.T), axis=1, kind="stable")[:, : max(depths)]
        alike = labels_of_others[near] == labels[at : at + _BATCH, None]
        own[:, at : at + _BATCH] = [alike[:, :k].sum(axis=1) / k for k in depths]
    return [round(float(value), 6) for value in own.mean(axis=1)]
