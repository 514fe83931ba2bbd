"""Searches inside a scope, by the graph and by reading: k is filled with the true neighbours, whatever the plan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from search.engines import graph_reader, planning
from search.engines.nmslib_hnsw import NmslibHnsw
from search.engines.protocols import IndexReader
from search.engines.types import Effort, Hits, IndexSpec, Metric, Scope, Strategy
from tests.search.engines.contract import DIMENSION, FINGERPRINT, clustered, true_distances

ROWS, K = 6_000, 20
SIZES = (1, 6, 60, 600, 1_200, 3_000, 5_999, 6_000)
VECTORS = clustered(ROWS)
COLLECTIONS = np.random.default_rng(3).permutation(np.repeat(np.arange(len(SIZES)), np.diff(SIZES, prepend=0)))
QUERIES = clustered(25, seed=9)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> IndexReader:
    """Row n has the id n."""
    engine = NmslibHnsw()
    root: Path = tmp_path_factory.mktemp("index")
    spec = IndexSpec(root, FINGERPRINT, DIMENSION, Metric.L2, engine.check_options({}))
    writer = engine.start(spec)
    writer.add(np.arange(ROWS), VECTORS, COLLECTIONS)
    writer.publish()
    return engine.open(spec)


def effort_of(hits: Hits) -> Effort:
    assert hits.effort is not None
    return hits.effort


@pytest.fixture(params=[planning.ROWS_PER_NODE, 1, 0], ids=["as it is", "a cheap graph", "always the graph"])
def cost(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """With a cheap graph small scopes are asked of it, as they are of indexes far larger than this."""
    monkeypatch.setattr(planning, "ROWS_PER_NODE", request.param)
    return int(request.param)


@pytest.mark.parametrize("size", SIZES)
def test_scopes_that_have_nothing_to_do_with_likeness(reader: IndexReader, cost: int, size: int) -> None:
    keys = np.arange(SIZES.index(size) + 1)
    rows = np.flatnonzero(np.isin(COLLECTIONS, keys))
    found = wanted = 0
    for query in QUERIES:
        hits = reader.search(query, K, Scope(collections=keys))
        assert len(hits) == min(K, size)
        assert np.isin(hits.ids, rows).all()
        truth = rows[np.argsort(true_distances(VECTORS[rows], query, Metric.L2))[:K]]
        found, wanted = found + len(np.intersect1d(hits.ids, truth)), wanted + len(truth)
        effort = effort_of(hits)
        assert (effort.rows, effort.allowed) == (ROWS, size)
        assert (effort.strategy == Strategy.SCAN) == (effort.nodes == 0)
        assert effort.scanned == (0 if effort.strategy == Strategy.GRAPH else size)
        if effort.strategy != Strategy.GRAPH:
            assert hits.ids.tolist() == truth.tolist()
    assert found >= 0.98 * wanted


@pytest.mark.parametrize("size", [60, 1_200, 3_000])
def test_scopes_far_from_the_query(reader: IndexReader, cost: int, size: int) -> None:
    """None of the graph's nearest are in them."""
    found = 0
    for query in QUERIES:
        rows = np.sort(np.argsort(true_distances(VECTORS, query, Metric.L2))[-size:])
        hits = reader.search(query, K, Scope(ids=rows))
        truth = rows[np.argsort(true_distances(VECTORS[rows], query, Metric.L2))[:K]]
        assert len(hits) == K
        found += len(np.intersect1d(hits.ids, truth))
    assert found >= 0.98 * K * len(QUERIES)


def test_one_percent_is_read_and_exact(reader: IndexReader) -> None:
    hits = reader.search(QUERIES[0], K, Scope(collections=np.array([0, 1, 2])))
    assert effort_of(hits) == Effort(Strategy.SCAN, rows=ROWS, allowed=60, scanned=60)


def test_everything_is_asked_of_the_graph(reader: IndexReader) -> None:
    effort = effort_of(reader.search(QUERIES[0], K))
    assert (effort.strategy, effort.allowed, effort.rounds, effort.scanned) == (Strategy.GRAPH, ROWS, 1, 0)
    assert K < effort.nodes < 300


def test_a_scope_that_allows_nothing(reader: IndexReader) -> None:
    hits = reader.search(QUERIES[0], K, Scope(collections=np.array([77])))
    assert len(hits) == 0
    assert effort_of(hits) == Effort(Strategy.NOTHING, rows=ROWS, allowed=0)


def test_a_graph_that_was_asked_in_vain_is_named(reader: IndexReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "ROWS_PER_NODE", 1)
    monkeypatch.setattr(graph_reader, "plan", planning.plan.__wrapped__)  # which remembers nothing
    query = QUERIES[0]
    far = np.sort(np.argsort(true_distances(VECTORS, query, Metric.L2))[-1_200:])
    effort = effort_of(reader.search(query, K, Scope(ids=far)))
    assert (effort.strategy, effort.scanned) == (Strategy.GRAPH_THEN_SCAN, 1_200)
    assert effort.rounds >= 1
    assert effort.nodes >= K
