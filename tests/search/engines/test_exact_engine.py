"""The exact engine keeps the contract, and the scan behind it is the definition of nearest."""

from __future__ import annotations

import numpy as np
import pytest

from search.engines.exact import Exact
from search.engines.scan import exact_search, nearest_of, squared_norms
from search.engines.types import Metric
from tests.search.engines.contract import EngineContract, Stored, clustered


class TestExact(EngineContract):
    engine = Exact()


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e6, 1e12])
def test_the_float32_pass_loses_no_true_neighbour(metric: Metric, scale: float) -> None:
    """Norms a thousandfold apart in one set, and rows all but equal, where float32 sums cancel most."""
    vectors = clustered(400) * np.float32(scale)
    vectors[::3] *= np.float32(1e-3)
    vectors[1::50] = vectors[1] * np.float32(1 + 1e-6)  # all but equal
    stored = Stored.of(vectors)
    for place in (0, 1, 2, 51):
        hits = exact_search(stored.ids, vectors, vectors[place], 15, metric)
        every = exact_search(stored.ids, vectors, vectors[place], 400, metric)
        kept = exact_search(stored.ids, vectors, vectors[place], 15, metric, squares=squared_norms(vectors))
        assert hits.ids.tolist() == kept.ids.tolist() == every.ids[:15].tolist()


def test_rows_limit_the_scan() -> None:
    stored = Stored.of(clustered(100))
    hits = exact_search(stored.ids, stored.vectors, stored.vectors[7], 50, Metric.L2, rows=np.array([90, 7, 3]))
    assert set(hits.ids.tolist()) == set(stored.ids[[3, 7, 90]].tolist())
    assert hits.ids[0] == stored.ids[7]


def test_lists_of_disjoint_sets_become_one() -> None:
    stored = Stored.of(clustered(100))
    query = clustered(1, seed=3)[0]
    parts = [
        exact_search(stored.ids[part], stored.vectors[part], query, 10, Metric.L2)
        for part in (slice(0, 50), slice(50, 100), slice(0, 0))
    ]
    whole = exact_search(stored.ids, stored.vectors, query, 10, Metric.L2)
    assert nearest_of(parts, 10).ids.tolist() == whole.ids.tolist()
    assert len(nearest_of([], 10)) == 0
