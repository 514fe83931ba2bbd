"""Vectors that lie as embeddings do: many small clouds (a person, an article) of few dimensions inside many."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROWS_A_CLOUD = 20
LATENT = 64  # dimensions that the centres of clouds differ in
SPREAD = 0.45  # of a cloud, beside centres of about length 1; from 1 on clouds touch
NOISE = 0.05


def clouds_of(rows: int) -> int:
    """How many clouds so many rows have: a catalogue grows by people and articles, not by images of each."""
    return max(1, rows // ROWS_A_CLOUD)


def clustered(count: int, dimension: int, clouds: int, seed: int = 0, spread: float = SPREAD) -> NDArray[np.float32]:
    """Float32 (count, dimension), the same for the same arguments; rows of a cloud are spread over the whole array.

    With another seed: queries of the same clouds.
    """
    fixed = np.random.default_rng(20)
    axes = fixed.normal(size=(LATENT, dimension)) / np.sqrt(dimension)
    centres = fixed.normal(size=(clouds, LATENT)) / np.sqrt(LATENT)
    random = np.random.default_rng(seed)
    rows = np.empty((count, dimension), dtype=np.float32)
    for start in range(0, count, 10_000):
        size = min(10_000, count - start)
        inner = centres[random.integers(0, len(centres), size)]
        inner = inner + spread / np.sqrt(LATENT) * random.normal(size=(size, LATENT))
        rows[start : start + size] = inner @ axes + NOISE / np.sqrt(dimension) * random.normal(size=(size, dimension))
    return rows
