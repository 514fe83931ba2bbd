"""What distances and queries are, number by number."""

from __future__ import annotations

import numpy as np
import pytest

from search.engines.types import Metric
from search.engines.vectors import exact_distances
from tests.search.engines.contract import clustered


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("dimension", [1, 7, 128, 513])
def test_a_distance_does_not_depend_on_the_rows_beside_it(metric: Metric, dimension: int) -> None:
    rows, query = clustered(300, dimension), clustered(1, dimension, seed=5)[0]
    together = exact_distances(rows, query, metric)
    alone = [float(exact_distances(row[None, :], query, metric)[0]) for row in rows]
    assert together.tolist() == alone
    assert exact_distances(rows[7:8], rows[7], metric).tolist() == [0.0]


def test_more_rows_than_are_handled_at_a_time() -> None:
    rows, query = clustered(40_000, 16), clustered(1, 16, seed=5)[0]
    expected = np.linalg.norm(rows.astype(np.float64) - query, axis=1)
    np.testing.assert_allclose(exact_distances(rows, query, Metric.L2), expected, rtol=1e-12)
