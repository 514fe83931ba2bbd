"""What a process answers with: it follows the generations, and is exact without one."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from pytest_django import Settings

from catalog.models import Collection, EmbeddingModel
from search import serving
from search.engines.registry import index_for
from search.engines.types import EVERYWHERE
from search.indexing import rebuild_index
from tests.library import InThread
from tests.search.vectors import make_model, store

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("fakes")]


@pytest.fixture
def shop(db: None) -> Collection:
    return Collection.objects.create(name="shop")


@pytest.fixture
def model(db: None) -> EmbeddingModel:
    return make_model()


@pytest.fixture(autouse=True)
def look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "LOOK_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(serving, "LOOK_AGAIN_AFTER_DAMAGE_SECONDS", 0.0)


def found(model: EmbeddingModel, k: int = 9) -> list[int]:
    hits = serving.snapshot(model).search(np.array([1, 0], dtype=np.float32), k, EVERYWHERE)
    return list(hits.ids)


def index_folder(model: EmbeddingModel) -> Path:
    return index_for(model.pipeline, model.fingerprint, model.dimension)[1].root


def damage(model: EmbeddingModel, generation: str) -> None:
    """Turn one bit of its vectors."""
    vectors = index_folder(model) / generation / "vectors.npy"
    data = bytearray(vectors.read_bytes())
    data[-1] ^= 1
    vectors.chmod(0o644)
    vectors.write_bytes(data)


def test_without_a_generation_the_database_answers(shop: Collection, model: EmbeddingModel) -> None:
    assert serving.snapshot(model).generation is None
    assert found(model) == []
    rows = store(shop, model, (1, 0), (2, 0))
    assert found(model) == [row.pk for row in rows]


def test_looking_for_a_generation_in_vain_reads_no_vector_again(shop: Collection, model: EmbeddingModel) -> None:
    store(shop, model, (1, 0), (2, 0))
    delta = serving.snapshot(model).delta
    assert serving.snapshot(model).delta is delta


def test_a_process_follows_the_generations(shop: Collection, model: EmbeddingModel) -> None:
    rows = store(shop, model, (1, 0), (2, 0))
    assert found(model) == [row.pk for row in rows]
    first = rebuild_index(model)
    snapshot = serving.snapshot(model)
    assert snapshot.generation == first.name
    assert len(snapshot.delta) == 0
    assert found(model) == [row.pk for row in rows]
    rows += store(shop, model, (3, 0))
    assert found(model) == [row.pk for row in rows]
    assert found(model, k=1) == [rows[0].pk]
    assert len(serving.snapshot(model).delta) == 1
    second = rebuild_index(model)
    snapshot = serving.snapshot(model)
    assert snapshot.generation == second.name != first.name
    assert len(snapshot.delta) == 0
    assert found(model) == [row.pk for row in rows]


@pytest.mark.parametrize("opened", [False, True], ids=["a new process", "a process that had none"])
def test_a_damaged_generation_is_logged_and_the_answers_are_exact(
    shop: Collection, model: EmbeddingModel, caplog: pytest.LogCaptureFixture, opened: bool
) -> None:
    rows = store(shop, model, (1, 0), (2, 0))
    if opened:
        assert found(model) == [row.pk for row in rows]
    damage(model, rebuild_index(model).name)
    with caplog.at_level(logging.ERROR):
        assert found(model) == [row.pk for row in rows]
    assert serving.snapshot(model).generation is None
    assert "cannot be used, answering exactly" in caplog.text
    healed = rebuild_index(model)
    assert serving.snapshot(model).generation == healed.name
    assert found(model) == [row.pk for row in rows]


def test_a_damaged_generation_is_not_read_again_for_each_query(
    shop: Collection, model: EmbeddingModel, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "LOOK_AGAIN_AFTER_DAMAGE_SECONDS", 3600.0)
    rows = store(shop, model, (1, 0), (2, 0))
    damage(model, rebuild_index(model).name)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert found(model) == [row.pk for row in rows]
    assert caplog.text.count("cannot be used, answering exactly") == 1


def test_an_index_that_was_removed_is_no_obstacle(shop: Collection, model: EmbeddingModel) -> None:
    rows = store(shop, model, (1, 0), (2, 0))
    rebuild_index(model)
    assert serving.snapshot(model).generation is not None
    (index_folder(model) / "current").unlink()
    assert found(model) == [row.pk for row in rows]
    assert serving.snapshot(model).generation is None


def test_another_engine_or_metric_is_another_index(shop: Collection, model: EmbeddingModel, settings: Settings) -> None:
    (row,) = store(shop, model, (2, 0))
    rebuild_index(model)
    query = np.array([1, 0], dtype=np.float32)
    assert serving.snapshot(model).search(query, 1, EVERYWHERE).distances.tolist() == [1.0]
    settings.VISEARCH_INDEXES = {**settings.VISEARCH_INDEXES, "face": {"ENGINE": "exact", "METRIC": "cosine"}}
    hits = serving.snapshot(model).search(query, 1, EVERYWHERE)
    assert (hits.ids.tolist(), hits.distances.tolist()) == ([row.pk], [0.0])
    assert serving.snapshot(model).generation is None


@pytest.mark.django_db(transaction=True)
def test_many_threads_share_one_snapshot(shop: Collection, model: EmbeddingModel) -> None:
    rows = store(shop, model, *[(1 + step, 0) for step in range(50)])
    rebuild_index(model)
    rows += store(shop, model, *[(60 + step, 0) for step in range(50)])
    expected = [row.pk for row in rows]
    threads = [InThread(lambda: found(model, k=100)) for _ in range(6)]
    assert all(thread.outcome() == expected for thread in threads)
