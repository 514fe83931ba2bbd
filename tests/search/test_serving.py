"""What a process answers with: it follows the generations, and is exact without one."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest_django import Settings

from catalog.models import Collection, EmbeddingModel
from search import serving
from search.engines.exact import Exact, ExactReader
from search.engines.generations import Generations
from search.engines.manifest import read_manifest
from search.engines.registry import index_for
from search.engines.types import EVERYWHERE
from search.indexing import rebuild_index
from tests.library import InThread
from tests.search.index_files import flip_last_bit
from tests.search.vectors import embed, make_model, store
from tests.stack import wait_for

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
    flip_last_bit(index_folder(model) / generation / "vectors.npy")


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


class Refusing:
    """``refuse``: what reading a generation raises instead."""

    def __init__(self, patched: pytest.MonkeyPatch) -> None:
        self.refuse: Exception | None = None
        reader = Exact.reader

        def read(engine: Exact, folder: Path, *rest: Any) -> ExactReader:
            if self.refuse is not None:
                raise self.refuse
            return reader(engine, folder, *rest)

        patched.setattr(Exact, "reader", read)


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Refusing:
    return Refusing(monkeypatch)


UNFORESEEN = [
    MemoryError(),
    RuntimeError("std::bad_alloc"),
    OSError(24, "Too many open files"),
    ImportError("no faiss"),
]


@pytest.mark.parametrize("error", UNFORESEEN, ids=lambda error: type(error).__name__)
def test_what_keeps_a_newer_generation_from_being_opened_fails_no_query(
    shop: Collection, model: EmbeddingModel, refusing: Refusing, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Memory is the likely case: the one before is still open. It goes on answering, with all that is newer."""
    rows = store(shop, model, (1, 0), (2, 0))
    assert found(model) == [row.pk for row in rows]
    first = rebuild_index(model)
    assert serving.snapshot(model).generation == first.name
    rows += store(shop, model, (3, 0))
    second = publish_again(model)
    refusing.refuse = error
    with caplog.at_level(logging.ERROR):
        for _ in range(2):
            assert found(model) == [row.pk for row in rows]
            assert serving.snapshot(model).generation == first.name
    assert f"answering from {first.name} and what is newer" in caplog.text
    assert type(error).__name__ in caplog.text
    refusing.refuse = None
    assert serving.snapshot(model).generation == second
    assert found(model) == [row.pk for row in rows]


def publish_again(model: EmbeddingModel) -> str:
    """What serves, as a generation of its own, built in no time."""
    _, spec = index_for(model.pipeline, model.fingerprint, model.dimension)
    generations = Generations(spec.root)
    published = generations.published()
    draft, folder = generations.begin(), generations.folder(published.name)
    manifest = replace(read_manifest(folder, published.manifest_sha256), generation=draft.name)
    for name in manifest.files:
        shutil.copy(folder / name, draft.folder / name)
    generations.publish(draft, manifest.write(draft.folder))
    return draft.name


def test_without_a_generation_the_database_answers_whatever_keeps_it_from_being_opened(
    shop: Collection, model: EmbeddingModel, refusing: Refusing, caplog: pytest.LogCaptureFixture
) -> None:
    rows = store(shop, model, (1, 0), (2, 0))
    name = rebuild_index(model).name
    refusing.refuse = MemoryError()
    assert found(model) == [row.pk for row in rows]
    assert serving.snapshot(model).generation is None
    assert "cannot be used, answering exactly" in caplog.text
    refusing.refuse = None
    assert serving.snapshot(model).generation == name


@pytest.mark.parametrize("what", ["the pointer cannot be read", "both on the disk are damaged"])
def test_a_good_generation_in_memory_is_not_given_up(
    shop: Collection, model: EmbeddingModel, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    """To read all vectors out of the database takes gigabytes, and what is open needs nothing of the disk."""
    rows = store(shop, model, (1, 0), (2, 0))
    first = rebuild_index(model)
    second = publish_again(model)
    assert serving.snapshot(model).generation == second
    rows += store(shop, model, (3, 0))
    pointer = index_folder(model) / "current"
    if what.startswith("both"):
        for name in (first.name, second):
            damage(model, name)
        os.utime(pointer, (1, 1))
    else:
        (index_folder(model) / "before").unlink()
        away = pointer.rename(pointer.with_name("away"))
        pointer.mkdir()
    for _ in range(2):
        assert found(model) == [row.pk for row in rows]
        assert serving.snapshot(model).generation == second
    assert "answering from" in caplog.text
    if not what.startswith("both"):
        pointer.rmdir()
        away.rename(pointer)
    third = rebuild_index(model)
    assert serving.snapshot(model).generation == third.name


def test_what_cannot_be_opened_is_not_tried_for_each_query(
    shop: Collection, model: EmbeddingModel, refusing: Refusing, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(serving, "LOOK_AGAIN_AFTER_DAMAGE_SECONDS", 3600.0)
    store(shop, model, (1, 0))
    first = rebuild_index(model)
    assert serving.snapshot(model).generation == first.name
    publish_again(model)
    refusing.refuse = MemoryError()
    for _ in range(3):
        found(model)
    assert caplog.text.count("cannot be used, answering from") == 1


class Slow:
    """Reading a generation of this name waits until it may go on."""

    def __init__(self, patched: pytest.MonkeyPatch) -> None:
        self.name, self.go_on = "", threading.Event()
        reader = Exact.reader

        def read(engine: Exact, folder: Path, *rest: Any) -> ExactReader:
            if folder.name == self.name:
                assert self.go_on.wait(60)
            return reader(engine, folder, *rest)

        patched.setattr(Exact, "reader", read)


def test_no_query_waits_while_a_large_generation_is_opened(
    shop: Collection, model: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does one of another model that begins to serve meanwhile."""
    monkeypatch.setattr(serving, "SMALL", 0)
    slow = Slow(monkeypatch)
    rows = store(shop, model, (1, 0), (2, 0))
    first = rebuild_index(model)
    assert serving.snapshot(model).generation == first.name
    other = make_model(embedder="other", fingerprint="e" * 64, state="retired")
    theirs = embed(rows[0].region, other, (5, 0))
    of_other = rebuild_index(other)
    slow.name = publish_again(model)
    for new in range(3):
        rows += store(shop, model, (3 + new, 0))
        assert found(model) == [row.pk for row in rows]
        assert serving.snapshot(model).generation == first.name
    assert (serving.snapshot(other).generation, found(other)) == (of_other.name, [theirs.pk])
    slow.go_on.set()
    wait_for("the newer one", lambda: serving.snapshot(model).generation == slow.name)
    assert found(model) == [row.pk for row in rows]


def test_where_no_thread_can_be_had_what_is_open_goes_on(
    shop: Collection, model: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "SMALL", 0)
    store(shop, model, (1, 0))
    first = rebuild_index(model)
    assert serving.snapshot(model).generation == first.name
    second = publish_again(model)

    def no_more(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_more)
        assert serving.snapshot(model).generation == first.name
    wait_for("the newer one", lambda: serving.snapshot(model).generation == second)


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
