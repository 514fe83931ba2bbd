"""What is new is found at once, what is gone is gone at once; the index follows when that is due, never for nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from django.contrib.auth.models import AnonymousUser
from django.db.models import QuerySet
from django.utils.timezone import now
from pytest_django import Settings

from catalog.claims import claim, fail, release
from catalog.models import Collection, Embedding, EmbeddingModel, Image, Region
from catalog.selectors import regions_by_embedding_id
from catalog.uploads import process_again
from search import nearest, serving
from search.engines.registry import index_for
from search.engines.types import EVERYWHERE
from search.indexing import needs_rebuild, rebuild_due_indexes, rebuild_index
from search.models import IndexGeneration
from search.querying import Answer, SearchOptions, search_by_region
from tests.library import InThread
from tests.search.vectors import make_model, store

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("fakes")]


@pytest.fixture
def shop(db: None) -> Collection:
    return Collection.objects.create(name="shop", pipelines=["face"], is_public=True, face_search="everyone")


@pytest.fixture
def model(db: None, settings: Settings) -> EmbeddingModel:
    settings.VISEARCH_REBUILD_ROWS, settings.VISEARCH_REBUILD_SHARE = 10, 0.05
    settings.VISEARCH_INDEXES = {"face": {"ENGINE": "exact", "METRIC": "l2"}}
    EmbeddingModel.objects.all().delete()
    return make_model()


def line(count: int, start: float = 1.0) -> list[tuple[float, float]]:
    """Ever farther from (1, 0)."""
    return [(start + 0.01 * step, 0.0) for step in range(count)]


def answer_for(row: Embedding, k: int, **options: str) -> Answer:
    region = Region.objects.select_related("image").get(pk=row.region_id)
    return search_by_region(region, SearchOptions(viewer=AnonymousUser(), pipeline="face", k=k, **options))


def found(answer: Answer) -> list[object]:
    return [match.region.pk for match in answer.results]


def regions(rows: list[Embedding]) -> list[object]:
    return [row.region_id for row in rows]


def generations() -> int:
    return IndexGeneration.objects.count()


# --- at once ----------------------------------------------------------------------------------------------------------


def test_what_is_new_is_found_at_once_beside_a_generation(shop: Collection, model: EmbeddingModel) -> None:
    rows = store(shop, model, *line(30))
    rebuild_index(model)
    assert found(answer_for(rows[0], k=3)) == regions(rows[1:4])
    new = store(shop, model, (1.001, 0.0), (1.002, 0.0))
    assert found(answer_for(rows[0], k=3)) == regions([*new, rows[1]])


GONE: dict[str, Callable[[QuerySet[Image]], object]] = {
    "deleted": lambda images: images.delete(),
    "unpublished": lambda images: images.update(is_published=False),
    "forbidden": lambda images: Collection.objects.filter(name="crowd").update(is_public=False),
    "dismissed": lambda images: Region.objects.filter(image__in=images).update(dismissed=True),
    "failed": lambda images: images.update(status="failed", reason="Cut off."),
}


@pytest.mark.parametrize("what", GONE)
@pytest.mark.parametrize("where", ["in the generation", "newer than it"])
def test_what_is_gone_is_gone_at_once_and_k_is_still_filled(
    shop: Collection, model: EmbeddingModel, what: str, where: str
) -> None:
    """100 go, all nearer than the rest: more are asked for until enough are left."""
    first = store(shop, model, (1.0, 0.0))[0]
    crowd = Collection.objects.create(name="crowd", pipelines=["face"], is_public=True, face_search="everyone")
    if where == "newer than it":
        rebuild_index(model)
    gone, rest = store(crowd, model, *line(100, start=1.01)), store(shop, model, *line(12, start=9.0))
    if where == "in the generation":
        rebuild_index(model)
    assert found(answer_for(first, k=7)) == regions(gone[:7])
    images = Image.objects.filter(collection=crowd)
    GONE[what](images)
    answer = answer_for(first, k=7)
    assert found(answer) == regions(rest[:7])
    assert found(answer_for(first, k=100)) == regions(rest)
    explained = answer.explanation
    if what == "forbidden":  # no longer in the scope
        assert (explained.asks, explained.dropped) == (1, 1)
    else:
        assert explained.asks > 1
        assert explained.dropped == 101


@pytest.mark.parametrize("label", ["", "hat"])
@pytest.mark.parametrize("what", [what for what in GONE if what not in ("deleted", "forbidden")])
def test_where_many_are_gone_what_is_shown_is_asked_for_by_name(
    shop: Collection, model: EmbeddingModel, what: str, label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rather than looked up one after the other until something else comes, however many they are."""
    monkeypatch.setattr(nearest, "MANY_DROPPED", 20)
    (first,) = store(shop, model, (1.0, 0.0))
    gone, rest = store(shop, model, *line(140, start=1.01)), store(shop, model, *line(12, start=9.0))
    rebuild_index(model)
    (new,) = store(shop, model, (8.0, 0.0))
    Image.objects.update(label="hat")
    store(shop, model, (7.0, 0.0) if label else (70.0, 0.0))  # without that label
    GONE[what](Image.objects.filter(regions__in=regions(gone)))
    answer = answer_for(first, k=3, label=label)
    assert found(answer) == regions([new, *rest[:2]])
    assert answer.explanation.asks == 3  # 8, 32, and of those that are shown
    everything = answer_for(first, k=100, label=label)
    assert found(everything) == regions([new, *rest] if label else [new, *rest, Embedding.objects.latest("id")])


def test_no_more_hits_are_looked_up_than_it_takes(
    shop: Collection, model: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearest, "LOOK_UP", 10)
    looked_up: list[int] = []
    monkeypatch.setattr(
        nearest,
        "regions_by_embedding_id",
        lambda ids, *what: looked_up.extend(ids) or regions_by_embedding_id(ids, *what),
    )
    rows = store(shop, model, *line(80))
    Image.objects.filter(regions__in=regions(rows[:12])).update(is_published=False)
    assert found(answer_for(rows[0], k=5)) == regions(rows[12:17])
    assert sorted(looked_up) == [row.pk for row in rows[:20]]


@pytest.mark.parametrize("again", ["queued", "taken by a worker", "given back by it", "interrupted"])
@pytest.mark.parametrize("built", [True, False], ids=["in the generation", "newer than it"])
def test_what_was_ready_is_found_while_it_is_processed_again(
    shop: Collection, model: EmbeddingModel, again: str, built: bool
) -> None:
    """By everybody, as after `manage.py process_again --all`; one that was never ready is not, nor one that fails."""
    rows, (unseen,) = store(shop, model, *line(5)), store(shop, model, (1.0, 0.0))
    Image.objects.exclude(regions=unseen.region_id).update(processed_at=now())
    if built:
        rebuild_index(model)
    process_again(list(Image.objects.values_list("pk", flat=True)))
    if again != "queued":
        token, taken = claim(None, 9)
        assert len(taken) == 6
    if again == "given back by it":
        release(token, [image.pk for image in taken], "Waiting: no model.")
    if again == "interrupted":
        process_again([image.pk for image in taken], interrupt=True)
    assert found(answer_for(rows[0], k=9)) == regions(rows[1:])
    token, _ = claim(None, 9)
    if again == "queued":
        fail(token, Region.objects.get(pk=rows[2].region_id).image_id, "Cut off.")
        assert found(answer_for(rows[0], k=9)) == regions([rows[1], *rows[3:]])


# --- followed when that is due ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["new", "gone", "both"])
def test_beat_rebuilds_when_enough_is_new_or_gone_and_the_next_beat_does_nothing(
    shop: Collection, model: EmbeddingModel, change: str
) -> None:
    rows = store(shop, model, *line(100))
    rebuild_due_indexes()
    assert generations() == 1
    new, gone = {"new": (10, 0), "gone": (0, 10), "both": (5, 5)}[change]
    Embedding.objects.filter(pk__in=[row.pk for row in rows[1 : 1 + gone]]).delete()
    store(shop, model, *line(new - 1 if new else 0, start=5.0))
    if change == "gone":
        store(shop, model, *line(0))
    rebuild_due_indexes()
    assert generations() == (2 if change == "gone" else 1)
    store(shop, model, *line(1 if new else 0, start=7.0))
    rebuild_due_indexes()
    assert generations() == 2
    for _ in range(2):
        rebuild_due_indexes()
    assert generations() == 2
    snapshot = serving.snapshot(model)
    assert snapshot.reader is not None
    assert (snapshot.reader.count, len(snapshot.delta)) == (100 + new - gone, 0)


def test_an_unchanged_catalogue_is_never_rebuilt(shop: Collection, model: EmbeddingModel) -> None:
    """Nor is one in which images are hidden and shown: their vectors stay in the index."""
    store(shop, model, *line(40))
    rebuild_due_indexes()
    for change in ({}, {"is_published": False}, {"is_published": True}, {"status": "queued"}, {"label": "new"}):
        if change:
            Image.objects.update(**change)
        rebuild_due_indexes()
    Region.objects.update(dismissed=True)
    rebuild_due_indexes()
    assert generations() == 1
    assert needs_rebuild(model) is None


def test_when_everything_is_gone_the_index_is_emptied_once(shop: Collection, model: EmbeddingModel) -> None:
    store(shop, model, *line(40))
    rebuild_due_indexes()
    Image.objects.all().delete()
    for _ in range(3):
        rebuild_due_indexes()
    assert generations() == 2
    (row,) = store(shop, model, (1.0, 0.0))
    hits = serving.snapshot(model).search(np.array([1, 0], dtype=np.float32), 5, EVERYWHERE)
    assert hits.ids.tolist() == [row.pk]


# --- while generations come and go ------------------------------------------------------------------------------------


@pytest.mark.parametrize("small", [True, False], ids=["opened by a query", "opened beside the queries"])
@pytest.mark.django_db(transaction=True)
def test_no_query_fails_while_generations_are_published_and_pruned(
    shop: Collection, model: EmbeddingModel, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three threads ask again and again: each answer is the true one, and each generation is answered from."""
    monkeypatch.setattr(serving, "SMALL", 1_000_000 if small else 0)
    nearest = store(shop, model, *line(20))
    expected = [row.pk for row in nearest]
    store(shop, model, *line(100, start=50.0))
    first = rebuild_index(model)
    stop, answered = threading.Event(), set[str | None]()
    query = np.array([1, 0], dtype=np.float32)

    def ask() -> None:
        while not stop.wait(0.01):
            snapshot = serving.snapshot(model)
            assert snapshot.search(query, 20, EVERYWHERE).ids.tolist() == expected
            answered.add(snapshot.generation)

    threads = [InThread(ask) for _ in range(3)]
    try:
        for step in range(4):
            store(shop, model, *line(3, start=70.0 + step))
            last = rebuild_index(model)
            wait_until(lambda name=last.name: name in answered)
    finally:
        stop.set()
    for thread in threads:
        thread.outcome()
    _, spec = index_for(model.pipeline, model.fingerprint, model.dimension)
    assert not (Path(spec.root) / first.name).exists()
    wait_until(lambda: serving.snapshot(model).generation == last.name)


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)
