"""What is newer than a generation, searched exactly."""

from __future__ import annotations

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from numpy.typing import NDArray

from catalog.models import Collection, EmbeddingModel
from catalog.storing import vector_bytes
from search.delta import Delta
from search.engines.errors import InvalidVector
from search.engines.types import EVERYWHERE, Metric, Scope
from search.engines.vectors import usable_rows
from tests.search.vectors import make_model, store

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop(db: None) -> Collection:
    return Collection.objects.create(name="shop")


@pytest.fixture
def model(db: None) -> EmbeddingModel:
    return make_model()


def vector(*values: float) -> NDArray[np.float32]:
    return np.array(values, dtype=np.float32)


def found(delta: Delta, query: NDArray[np.float32], k: int = 9, scope: Scope = EVERYWHERE) -> list[int]:
    return list(delta.search(query, k, Metric.L2, scope).ids)


def test_it_grows_by_what_was_stored_since(shop: Collection, model: EmbeddingModel) -> None:
    delta = Delta(model, after_id=0)
    delta.refresh()
    assert found(delta, vector(1, 0)) == []
    first, second = store(shop, model, (1, 0), (2, 0))
    assert found(delta, vector(1, 0)) == []
    delta.refresh()
    assert found(delta, vector(1.9, 0)) == [second.pk, first.pk]
    more = store(shop, model, *[(3 + step, 0) for step in range(40)])
    delta.refresh()
    assert len(delta) == 42
    assert found(delta, vector(9, 0), k=1) == [more[6].pk]
    assert found(delta, vector(1, 0), k=100)[0] == first.pk


def test_when_nothing_is_new_one_query_says_so(shop: Collection, model: EmbeddingModel) -> None:
    store(shop, model, (1, 0))
    delta = Delta(model, after_id=0)
    delta.refresh()
    with CaptureQueriesContext(
        connection,
    ) as queries:
        delta.refresh()
    assert len(queries) == 1
    assert len(delta) == 1


def test_it_holds_what_is_above_its_generation_and_of_its_model(shop: Collection, model: EmbeddingModel) -> None:
    old, new = store(shop, model, (1, 0), (2, 0))
    store(shop, make_model(fingerprint="e" * 64, state="retired"), (1, 0))
    delta = Delta(model, after_id=old.pk)
    delta.refresh()
    assert found(delta, vector(1, 0)) == [new.pk]


def test_distances_are_exact_and_ties_go_by_id(shop: Collection, model: EmbeddingModel) -> None:
    rows = store(shop, model, (3, 4), (0, 5), (0, 10))
    delta = Delta(model, after_id=0)
    delta.refresh()
    hits = delta.search(vector(1e-3, 0), 2, Metric.COSINE, EVERYWHERE)
    assert hits.ids.tolist() == [rows[0].pk, rows[1].pk]
    assert hits.distances == pytest.approx([0.4, 1.0])
    hits = delta.search(vector(0, 5), 3, Metric.L2, EVERYWHERE)
    assert hits.distances == pytest.approx([0, 10**0.5, 5])


def test_a_scope_of_collections(shop: Collection, model: EmbeddingModel) -> None:
    other = Collection.objects.create(name="another")
    (mine,), (theirs,) = store(shop, model, (1, 0)), store(other, model, (1, 0))
    delta = Delta(model, after_id=0)
    delta.refresh()
    for collection, row in ((shop, mine), (other, theirs)):
        scope = Scope(collections=np.array([collection.index_key], dtype=np.int64))
        assert found(delta, vector(1, 0), scope=scope) == [row.pk]
    assert found(delta, vector(1, 0), scope=Scope(collections=np.empty(0, dtype=np.int64))) == []
    assert found(delta, vector(1, 0), scope=Scope(ids=np.array([theirs.pk]))) == [theirs.pk]


@pytest.mark.parametrize("bad", [(1, 0, 0), (np.nan, 0), (0, 0)])
def test_a_vector_that_cannot_be_searched_with_is_refused(
    shop: Collection, model: EmbeddingModel, bad: tuple[float, ...]
) -> None:
    store(shop, model, (1, 0))
    delta = Delta(model, after_id=0)
    delta.refresh()
    with pytest.raises(InvalidVector):
        found(delta, vector(*bad))


BAD = {"zero": (0, 0), "not a number": (np.nan, 1), "infinite": (np.inf, 1), "longest": (3e38, 1), "long": (1e30, 1)}


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("bad", BAD)
def test_a_row_that_no_engine_takes_hides_no_other(
    shop: Collection, model: EmbeddingModel, metric: Metric, bad: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = store(shop, model, *[(1 + step, 1) for step in range(4)])
    (lost,) = store(shop, model, BAD[bad])
    last = store(shop, model, *[(9 + step, 1) for step in range(3)])
    delta = Delta(model, after_id=0)
    for _ in range(2):
        delta.refresh()
    hits = delta.search(vector(1, 1), 8, metric, EVERYWHERE)
    assert hits.ids.tolist() == [row.pk for row in (*first, *last)]
    assert [str(lost.pk) in record.getMessage() for record in caplog.records] == [True]
    (new,) = store(shop, model, (1, 1.1))
    delta.refresh()
    assert delta.search(vector(1, 1.1), 1, metric, EVERYWHERE).ids.tolist() == [new.pk]


def test_only_bad_rows_are_as_none(shop: Collection, model: EmbeddingModel) -> None:
    store(shop, model, *BAD.values())
    delta = Delta(model, after_id=0)
    delta.refresh()
    assert (len(delta), found(delta, vector(1, 0))) == (0, [])


@pytest.mark.parametrize("norm", [0, 0.9e-6, 1.1e-6, 1, 0.9e15, 1.1e15, 3e38, np.inf, np.nan])
def test_what_is_stored_is_what_every_engine_takes(norm: float) -> None:
    row = vector(norm, 0)
    if usable_rows(row[None, :])[0]:
        assert vector_bytes(row) == row.tobytes()
    else:
        with pytest.raises(ValueError, match="norm"):
            vector_bytes(row)
