"""Distances of many to many are those of one to many, by whichever way they are computed."""

from __future__ import annotations

import numpy as np
import pytest

from search.engines.types import Metric
from search.engines.vectors import distance_table, exact_distances


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("scale", [1.0, 1e-4, 300.0])
def test_it_agrees_with_exact_distances(metric: Metric, scale: float) -> None:
    random = np.random.default_rng(1)
    vectors = (random.normal(size=(700, 512)) * scale).astype(np.float32)  # more than a block
    vectors[5] = vectors[3] * np.float32(1 + 1e-6)  # where the expanded formula has no digits left
    vectors[6] = vectors[3]
    queries = vectors[:8]
    expected = np.stack([exact_distances(vectors, query, metric) for query in queries])
    found = distance_table(queries, vectors, metric)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=0)
    assert [found[row, row] for row in range(8)] == [0.0] * 8
    assert found[3, 6] == 0.0


def test_no_queries_and_no_vectors_give_an_empty_table() -> None:
    vectors = np.ones((3, 4), np.float32)
    assert distance_table(vectors[:0], vectors, Metric.L2).shape == (0, 3)
    assert distance_table(vectors, vectors[:0], Metric.COSINE).shape == (3, 0)
