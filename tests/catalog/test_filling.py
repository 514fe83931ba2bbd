"""Embeddings of a taught model from stored vectors: all of them, once, whatever happens meanwhile."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from django.db import transaction

from catalog import filling, uploads
from catalog.curation.images import move
from catalog.embedding_models import serving_model
from catalog.models import Collection, Embedding, EmbeddingModel, Image
from catalog.vision import registry
from tests.heads import taught_model
from tests.library import InThread, process_all, ready, squares, wait_until_somebody_waits_for_a_lock
from tests.search.vectors import embed

pytestmark = pytest.mark.django_db
COLOURS = ("red", "green", "blue", "black", "yellow")


def put(shop: Collection, count: int = 3) -> list[Image]:
    return [ready(shop, squares((10 + 9 * n, 10, 40, COLOURS[n % 5]))) for n in range(count)]


def vectors_of(model: EmbeddingModel) -> dict[Any, bytes]:
    rows = Embedding.objects.filter(model=model).order_by("id")
    return {row.region_id: bytes(row.vector) for row in rows}


def assert_full(model: EmbeddingModel) -> None:
    assert model.derived_from is not None
    base = vectors_of(model.derived_from)
    mine = vectors_of(model)
    assert mine.keys() == base.keys()
    for region, data in base.items():
        moved = registry.derived_embedder(model.embedder).from_base(np.frombuffer(data, "<f4")[None])[0]
        np.testing.assert_allclose(np.frombuffer(mine[region], "<f4"), moved, atol=1e-6)


def test_everything_that_the_base_has_is_computed_once(shop: Collection) -> None:
    put(shop, 3)
    model = taught_model()
    told: list[tuple[int, int]] = []
    assert filling.fill(model, lambda done, total: told.append((done, total))) == 3
    assert_full(model)
    assert told[-1] == (3, 3)
    before = list(Embedding.objects.filter(model=model).values_list("id", flat=True))
    assert filling.fill(model) == 0
    assert list(Embedding.objects.filter(model=model).values_list("id", flat=True)) == before


def test_an_interrupted_run_is_gone_on_with(shop: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "BATCH", 2)
    put(shop, 5)
    model = taught_model()

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        filling.fill(model, interrupt)
    assert len(vectors_of(model)) == 2
    assert filling.fill(model) == 3
    assert_full(model)


def test_what_was_looked_at_again_is_computed_again(shop: Collection) -> None:
    first, _ = put(shop, 2)
    model = taught_model()
    filling.fill(model)
    Embedding.objects.filter(model=model.derived_from, region__image=first).update(vector=b"\1" * 32)
    uploads.process_again([first.pk])
    process_all()
    assert filling.lacking(model).count() == 1
    assert filling.fill(model) == 1
    assert_full(model)


def test_what_was_moved_is_still_full_after_filling(shop: Collection, django_user_model: Any) -> None:
    put(shop, 3)
    model = taught_model()
    filling.fill(model)
    other = Collection.objects.create(name="other", pipelines=["face", "image"])
    move(Image.objects.all(), other, django_user_model.objects.create_superuser("root"))
    filling.fill(model)
    assert filling.lacking(model).count() == 0
    assert_full(model)


def test_ids_grow_in_the_order_of_the_bases(shop: Collection) -> None:
    put(shop, 4)
    model = taught_model()
    filling.fill(model)
    assert list(vectors_of(model)) == list(vectors_of(serving_model("image")))


@pytest.mark.django_db(transaction=True)
def test_filling_waits_for_whoever_stores_and_sees_what_they_stored(shop: Collection) -> None:
    _, second = put(shop, 2)
    model = taught_model()
    base = serving_model("image")
    region = second.regions.get(pipeline="image")
    Embedding.objects.filter(region=region, model=base).delete()
    with transaction.atomic():
        EmbeddingModel.objects.select_for_update().get(pk=base.pk)  # as catalog.storing does
        thread = InThread(lambda: filling.fill(model))
        wait_until_somebody_waits_for_a_lock()
        embed(region, base, [0.5] * 8)
    assert thread.outcome() == 2
    assert_full(model)


@pytest.mark.django_db(transaction=True)
def test_filling_waits_for_whoever_deletes_and_leaves_out_what_is_gone(shop: Collection) -> None:
    first, second = put(shop, 2)
    model = taught_model()
    with transaction.atomic():
        Image.objects.filter(pk=first.pk).lock()
        thread = InThread(lambda: filling.fill(model))
        wait_until_somebody_waits_for_a_lock()
        Image.objects.filter(pk=first.pk).delete()
    thread.outcome()
    assert_full(model)
    assert set(Embedding.objects.filter(model=model).values_list("region__image", flat=True)) == {second.pk}
