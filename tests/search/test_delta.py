"""What is newer than a generation, searched exactly."""

from __future__ import annotations

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from numpy.typing import NDArray

from catalog.models import Collection, EmbeddingModel
from search.delta import Delta
from search.engines.errors import InvalidVector
from search.engines.types import EVERYWHERE, Metric, Scope
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
