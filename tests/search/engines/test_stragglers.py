"""The rows that a graph does not lead to are in the answer when they are near, in both metrics."""

from __future__ import annotations

import numpy as np
import pytest

from search.engines.stragglers import Stragglers
from search.engines.types import Metric
from search.engines.vectors import exact_distances, graph_rows
from tests.search.engines.contract import clustered


@pytest.mark.parametrize("metric", Metric)
def test_none_that_is_near_is_missed_and_few_others_are_named(metric: Metric) -> None:
    rows, vectors = np.arange(50, 350), 40 * clustered(300)
    stragglers = Stragglers(rows, vectors, metric)
    for query in (vectors[7], *clustered(20, seed=5)):
        distances = exact_distances(vectors, query, metric)
        target = graph_rows(query[None, :], metric)[0]
        for number in (0, 5, 100, 299):
            distance = float(np.sort(distances)[number])
            named = stragglers.within(target, distance)
            assert set(rows[distances <= distance].tolist()) <= set(named.tolist())
            assert len(named) <= number + 3


def test_there_may_be_none() -> None:
    none = Stragglers(np.empty(0, dtype=np.int64), np.empty((0, 8), dtype=np.float32), Metric.L2)
    assert len(none.within(np.ones(8, dtype=np.float32), 1.0)) == 0
