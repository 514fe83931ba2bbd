"""Which model serves, changed: nothing is lost on the way there and on the way back, and not everybody may serve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from typing import IO, Any
from uuid import UUID

import numpy as np
import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from numpy.typing import NDArray
from PIL.Image import Image as PILImage
from pytest_django.fixtures import Settings

from catalog import embedding_models, filling, filling_from_images, keeping, storage
from catalog.embedding_models import (
    embeddings_lacking,
    make_serving,
    previous_model,
    register_models,
    runnable_models,
    serving_model,
    what_is_seen,
)
from catalog.exceptions import CannotServe, ModelChanged, ModelUnavailable
from catalog.models import Collection, Embedding, EmbeddingModel, Image
from catalog.processing import process_batch
from catalog.uploads import process_again
from catalog.vision import heads, registry
from catalog.vision.types import Box, Detection
from tests.beside import Darkness, another
from tests.fakes import ColourSquares, MeanColour
from tests.heads import taught_model
from tests.library import InThread, process_all, put_image, ready, squares, wait_until_somebody_waits_for_a_lock

pytestmark = pytest.mark.django_db


def put(shop: Collection, place: int, colour: str = "red") -> Image:
    return ready(shop, squares((place, 10, 40, colour)))


def models_of(image: Image, pipeline: str = "image") -> set[str]:
    stored = Embedding.objects.filter(region__image=image, model__pipeline=pipeline)
    return set(stored.values_list("model__embedder", flat=True))


def vectors_of(model: EmbeddingModel) -> dict[UUID, NDArray[np.float32]]:
    """By the key of its region."""
    rows = Embedding.objects.filter(model=model)
    return {row.region_id: np.frombuffer(bytes(row.vector), "<f4") for row in rows}


def test_a_taught_model_serves_what_was_there_and_what_comes(shop: Collection) -> None:
    before = put(shop, 10)
    base, model = serving_model("image"), taught_model()
    assert make_serving(model) == base
    assert serving_model("image") == model
    assert models_of(before) == {base.embedder, model.embedder}
    after = put(shop, 20)
    assert models_of(after) == {base.embedder, model.embedder}
    assert models_of(after, "face") == {"face-colours"}


def test_the_way_back_is_complete_at_once(shop: Collection) -> None:
    base, model = serving_model("image"), taught_model()
    assert previous_model("image") is None
    make_serving(model)
    image = put(shop, 20)
    assert previous_model("image") == base
    assert make_serving(base) == model
    assert serving_model("image") == base
    assert Embedding.objects.filter(region__image=image, model=base).exists()
    later = put(shop, 30)
    assert models_of(later) == {base.embedder}
    assert previous_model("image") == model
    make_serving(model)  # and there again: what came since is computed
    assert models_of(later) == {base.embedder, model.embedder}


def test_one_that_serves_already_goes_on(shop: Collection) -> None:
    base = serving_model("image")
    assert make_serving(base) is None
    assert serving_model("image") == base


def test_from_one_head_to_another(shop: Collection) -> None:
    first, second = taught_model(seed=1), taught_model(seed=2)
    make_serving(first)
    image = put(shop, 10)
    assert make_serving(second) == first
    assert models_of(image) == {"image-colours", first.embedder, second.embedder}


# --- Refused ----------------------------------------------------------------------------------------------------------


def test_what_did_not_pass_serves_nowhere(shop: Collection) -> None:
    model = taught_model(passed=False)
    with pytest.raises(CannotServe, match="It may not serve: it forgets"):
        make_serving(model)
    with pytest.raises(IntegrityError, match="only_what_passed_may_serve"), transaction.atomic():
        EmbeddingModel.objects.filter(pipeline="image").exclude(pk=model.pk).update(state="retired")
        EmbeddingModel.objects.filter(pk=model.pk).update(state="serving")
    with pytest.raises(IntegrityError, match="a_taught_model_was_compared"), transaction.atomic():
        EmbeddingModel.objects.filter(pk=model.pk).update(passed_gate=None)
    assert serving_model("image").embedder == "image-colours"


def lose_all(model: EmbeddingModel) -> None:
    for path in (registry.models_dir() / heads.FOLDER).iterdir():
        path.unlink()


def lose_file(model: EmbeddingModel) -> None:
    (registry.models_dir() / heads.FOLDER / f"{model.embedder}.onnx").unlink()


def alter(model: EmbeddingModel) -> None:
    path = registry.models_dir() / heads.FOLDER / f"{model.embedder}.onnx"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("harm", "says"), [(lose_all, "Its head is gone"), (lose_file, "is missing"), (alter, "was altered")]
)
def test_a_head_that_is_not_whole_cannot_serve(
    shop: Collection, harm: Callable[[EmbeddingModel], None], says: str
) -> None:
    model = taught_model()
    harm(model)
    with pytest.raises(CannotServe, match=f"{says}.*back from a backup"):
        make_serving(model)
    assert serving_model("image").embedder == "image-colours"


@pytest.mark.parametrize(("harm", "error"), [(lose_all, ModelChanged), (alter, ModelUnavailable)])
def test_where_the_head_is_harmed_while_it_serves_images_wait_and_the_base_can_serve_again(
    shop: Collection, harm: Callable[[EmbeddingModel], None], error: type[Exception]
) -> None:
    base, model = serving_model("image"), taught_model()
    make_serving(model)
    harm(model)
    registry._loaded_taught.cache_clear()  # as in a new process
    image = put_image(shop, squares((10, 10, 40, "red")))
    process_batch()
    image.refresh_from_db()
    assert (image.status, image.attempts) == ("queued", 0)
    assert image.reason.startswith("Waiting:")
    assert runnable_models(["face"])
    if error is ModelChanged:
        with pytest.raises(ModelChanged, match=r"The head of .* is gone"):
            runnable_models(["image"])
    make_serving(base)
    Image.objects.update(lease_until=None)
    process_all()
    assert models_of(image) == {base.embedder}


@pytest.fixture
def other(shop: Collection, settings: Settings) -> EmbeddingModel:
    return another(settings, "image")


def test_a_model_that_would_lose_regions_cannot_serve(shop: Collection, other: EmbeddingModel) -> None:
    lost, _ = put(shop, 10), put(shop, 20)
    storage.originals().delete(storage.original_key(lost.pk, lost.format))
    with pytest.raises(CannotServe, match="1 of the regions"):
        make_serving(other)
    assert serving_model("image").embedder == "image-colours"
    lost.delete()
    make_serving(other)
    assert serving_model("image") == other


def test_images_that_cannot_be_read_are_tried_once_and_while_nobody_waits(
    shop: Collection, other: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, read = put(shop, 10), put(shop, 20)
    storage.originals().delete(storage.original_key(lost.pk, lost.format))
    tried: list[str] = []
    opened = storage.open_original

    def open_and_note(key: str) -> IO[bytes]:
        tried.append(key)
        return opened(key)

    monkeypatch.setattr(storage, "open_original", open_and_note)
    with pytest.raises(CannotServe, match="1 of the regions"):
        make_serving(other)
    assert len(tried) == len(set(tried)) == 2
    tried.clear()
    with pytest.raises(CannotServe, match="1 of the regions"):
        make_serving(other)
    assert [str(lost.pk) in key for key in tried] == [True]  # what was computed is kept
    assert models_of(read) == {"image-colours", "other"}


def test_where_much_came_meanwhile_nobody_has_to_wait_for_it(
    shop: Collection, other: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(shop, 10)
    monkeypatch.setattr(embedding_models, "LATE", 1)
    fill = filling_from_images.fill
    places = count(20)

    def upload_after(*given: Any) -> int:
        done = fill(*given)
        for _ in range(2):
            put(shop, next(places))
        return done

    monkeypatch.setattr(filling_from_images, "fill", upload_after)
    with pytest.raises(CannotServe, match="2 regions were stored meanwhile"):
        make_serving(other)
    monkeypatch.undo()
    assert serving_model("image").embedder == "image-colours"
    assert make_serving(other) is not None


def test_another_model_looks_at_all_images_before_it_serves(shop: Collection, other: EmbeddingModel) -> None:
    images = [put(shop, place) for place in (10, 20, 30)]
    told: list[tuple[int, int]] = []
    before = make_serving(other, lambda done, total: told.append((done, total)))
    assert told[-1] == (3, 3)
    assert before and before.embedder == "image-colours"
    vectors, of_before = vectors_of(other), vectors_of(before)
    assert vectors.keys() == of_before.keys()
    for region, vector in vectors.items():  # computed by the new one, not copied
        np.testing.assert_allclose(vector, 2 - of_before[region], atol=1e-6)
    assert all(models_of(image) == {"image-colours", "other"} for image in images)
    assert models_of(images[0], "face") == {"face-colours"}


def test_images_share_batches_and_one_at_fault_is_left_out(
    shop: Collection, other: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [put(shop, place) for place in (10, 20)]
    spoilt = put(shop, 30, "blue")
    batches: list[int] = []
    embed = Darkness.embed

    def embed_red_only(self: Darkness, crops: Sequence[PILImage]) -> NDArray[np.float32]:
        batches.append(len(crops))
        return np.stack([row * (row[0] < row[1]) for row in embed(self, crops)])

    monkeypatch.setattr(Darkness, "embed", embed_red_only)
    with pytest.raises(CannotServe, match="1 of the regions"):
        make_serving(other)
    assert batches == [3, 1, 1, 1]
    assert [models_of(image) for image in images] == [{"image-colours", "other"}] * 2
    assert models_of(spoilt) == {"image-colours"}
    monkeypatch.setattr(Darkness, "embed", embed)
    make_serving(other)
    assert models_of(spoilt) == {"image-colours", "other"}


def test_and_the_way_back_looks_at_what_came_since(shop: Collection, other: EmbeddingModel) -> None:
    put(shop, 10)
    before = make_serving(other)
    assert before
    later = put(shop, 20)
    assert models_of(later) == {"other"}
    kept = set(Embedding.objects.filter(model=before).values_list("id", flat=True))
    assert embeddings_lacking(before) == 1
    assert make_serving(before) == other
    assert models_of(later) == {"image-colours", "other"}
    region = later.regions.get(pipeline="image").pk
    np.testing.assert_allclose(vectors_of(before)[region], 2 - vectors_of(other)[region], atol=1e-6)
    assert kept < set(Embedding.objects.filter(model=before).values_list("id", flat=True))


def test_from_another_model_to_a_head_of_the_one_before(shop: Collection, other: EmbeddingModel) -> None:
    """The base of the head has to see what came while another one served."""
    put(shop, 10)
    head = taught_model()
    make_serving(other)
    later = put(shop, 20)
    make_serving(head)
    assert models_of(later) == {"other", "image-colours", head.embedder}


def test_a_box_that_is_moved_while_images_are_looked_at_is_looked_at_again(
    shop: Collection, other: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = put(shop, 10)
    region = image.regions.get(pipeline="image")
    embed, moved = MeanColour.embed, []

    def move_and_embed(self: MeanColour, crops: Sequence[PILImage]) -> NDArray[np.float32]:
        if not moved:
            moved.append(region.embeddings.all().delete())  # as catalog.curation.faces does
        return embed(self, crops)

    monkeypatch.setattr(MeanColour, "embed", move_and_embed)
    make_serving(other)
    assert not Embedding.objects.filter(region=region, model=other).exists()


def test_a_face_found_elsewhere_has_no_vectors_of_where_it_was(
    shop: Collection, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither of the model that served before nor of a head of the one that serves: the way back computes them."""
    image = ready(shop, squares((10, 10, 40, "red")))
    first, second = serving_model("face"), another(settings, "face")
    make_serving(second)
    head = taught_model("face")
    filling.fill(head)
    region = image.regions.get(pipeline="face")
    old = {row.model_id: (row.pk, bytes(row.vector)) for row in region.embeddings.all()}
    assert set(old) == {first.pk, second.pk, head.pk}
    detect = ColourSquares.detect

    def detect_less(self: ColourSquares, image: PILImage) -> list[Detection]:
        return [Detection(Box(each.box.x, each.box.y, 50, 50), each.score) for each in detect(self, image)]

    monkeypatch.setattr(ColourSquares, "detect", detect_less)
    process_again([image.pk])
    process_all()
    assert set(region.embeddings.values_list("model_id", flat=True)) == {second.pk}
    make_serving(first)
    assert bytes(region.embeddings.get(model=first).vector) != old[first.pk][1]


def test_licence_and_source_that_are_stated_anew_are_shown(
    shop: Collection, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither decides what a model is, so it stays the same row."""
    row = serving_model("image")
    describe = registry.describe
    monkeypatch.setattr(
        registry, "describe", lambda name: replace(describe(name), licence="MIT", source="https://example.com/new")
    )
    assert register_models() == []
    row.refresh_from_db()
    assert (row.licence, row.source, row.state) == ("MIT", "https://example.com/new", "serving")


# --- The way back -----------------------------------------------------------------------------------------------------


def test_the_one_before_is_kept_up_and_no_other(shop: Collection, other: EmbeddingModel) -> None:
    first, third = serving_model("image"), taught_model()
    put(shop, 10)
    make_serving(other)
    first.refresh_from_db()
    assert first.fill == "asked"
    make_serving(third)
    for model in (first, other, third):
        model.refresh_from_db()
    assert [model.fill for model in (first, other, third)] == ["", "asked", ""]


def test_in_an_emergency_the_way_back_computes_nothing_and_loses_nothing_for_good(
    shop: Collection, other: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(shop, 10)
    first = make_serving(other)
    assert first
    late = put(shop, 20)
    monkeypatch.setattr(storage, "open_original", None)  # no image is opened for it
    assert make_serving(first, at_once=True) == other
    monkeypatch.undo()
    assert serving_model("image") == first
    assert models_of(late) == {"other"}
    first.refresh_from_db()
    assert embeddings_lacking(first) == 1
    assert list(keeping.batches(first, 16)) == [1]  # as workers do
    assert models_of(late) == {"other", "image-colours"}


def test_a_way_back_that_has_hardly_anything_is_not_taken_at_once(shop: Collection, other: EmbeddingModel) -> None:
    put(shop, 10)
    first = make_serving(other)
    assert first
    for place in (20, 30):
        put(shop, place)
    with pytest.raises(CannotServe, match=r"has 1 embeddings and other .*, which serves, 3: most of what is found"):
        make_serving(first, at_once=True)
    assert serving_model("image") == other
    make_serving(first)
    assert Embedding.objects.filter(model=first).count() == 3


def test_the_way_back_looks_once_at_all_and_under_the_lock_at_what_came_last(
    shop: Collection, other: EmbeddingModel
) -> None:
    put(shop, 10)
    first = make_serving(other)
    assert first
    filling_from_images.fill(first)
    with CaptureQueriesContext(connection) as captured:
        make_serving(first)
    said = [each["sql"] for each in captured]
    at_all = [n for n, sql in enumerate(said) if "NOT EXISTS" in sql and '"catalog_embedding"."id" IN ' not in sql]
    assert len(at_all) == 1
    assert at_all[0] < next(n for n, sql in enumerate(said) if "FOR UPDATE" in sql)


@pytest.mark.parametrize("taught", [False, True])
def test_what_is_deleted_before_the_lock_is_not_lost(
    shop: Collection, other: EmbeddingModel, monkeypatch: pytest.MonkeyPatch, taught: bool
) -> None:
    """As by somebody who drops that model in this moment."""
    image = put(shop, 10)
    put(shop, 20)
    model = taught_model() if taught else other
    beside = embedding_models.fill_beside

    def fill_and_lose(*given: Any) -> embedding_models.Beside:
        done = beside(*given)
        Embedding.objects.filter(model=model, region__image=image).delete()
        return done

    monkeypatch.setattr(embedding_models, "fill_beside", fill_and_lose)
    with pytest.raises(CannotServe, match="1 of the regions"):
        make_serving(model)
    assert serving_model("image").embedder == "image-colours"


def test_what_only_another_model_that_serves_by_then_finds_is_not_lost(
    shop: Collection, other: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(shop, 10)
    third, beside = taught_model(), embedding_models.fill_beside

    def fill_and_switch(*given: Any) -> embedding_models.Beside:
        done = beside(*given)
        monkeypatch.undo()
        image = put(shop, 20)
        make_serving(third)
        Embedding.objects.filter(model=other, region__image=image).delete()
        return replace(done, found=Embedding.objects.latest("id").pk)

    monkeypatch.setattr(embedding_models, "fill_beside", fill_and_switch)
    with pytest.raises(CannotServe, match="1 of the regions"):
        make_serving(other)
    assert serving_model("image") == third


def test_a_switch_that_was_asked_for_before_another_is_refused(shop: Collection, other: EmbeddingModel) -> None:
    first, seen = serving_model("image"), what_is_seen(other)
    third = taught_model()
    make_serving(third)
    with pytest.raises(CannotServe, match="another model began to serve image after somebody asked"):
        make_serving(other, as_seen=seen)
    make_serving(first)
    make_serving(other, as_seen=seen)  # what was seen then is so again, and it has not served meanwhile
    make_serving(first)
    with pytest.raises(CannotServe, match="or it served, and somebody went back"):
        make_serving(other, as_seen=seen)
    assert serving_model("image") == first


# --- At the same time -------------------------------------------------------------------------------------------------


def test_images_under_way_at_the_switch_are_looked_at_again(shop: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    """They were embedded by the model before: stored like that, the new one would not find them."""
    model = taught_model()
    image = put_image(shop, squares((10, 10, 40, "red")))
    embed = MeanColour.embed
    switched: list[EmbeddingModel] = []

    def switch_and_embed(self: MeanColour, crops: Sequence[PILImage]) -> NDArray[np.float32]:
        if not switched:
            switched.append(model)
            make_serving(model)
        return embed(self, crops)

    monkeypatch.setattr(MeanColour, "embed", switch_and_embed)
    process_batch()
    image.refresh_from_db()
    assert (image.status, image.reason[:40]) == ("queued", "Waiting: Another embedding model serves ")
    assert not Embedding.objects.exists()
    Image.objects.update(lease_until=None)
    process_all()
    assert models_of(image) == {"image-colours", model.embedder}


@pytest.mark.django_db(transaction=True)
def test_what_is_stored_while_it_is_filled_is_not_lost(shop: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    put(shop, 10)
    model = taught_model()
    late: list[Image] = []

    def upload(done: int, total: int) -> None:
        if not late:
            late.append(put(shop, 20))

    make_serving(model, upload)
    assert len(late) == 1
    assert filling.lacking(model).count() == 0
    assert models_of(late[0]) == {"image-colours", model.embedder}


@pytest.mark.django_db(transaction=True)
def test_of_two_who_switch_the_second_waits_and_both_are_right(shop: Collection) -> None:
    first, second = taught_model(seed=1), taught_model(seed=2)
    with transaction.atomic():
        make_serving(first)
        thread = InThread(lambda: make_serving(second))
        wait_until_somebody_waits_for_a_lock()
    assert thread.outcome() == first
    assert serving_model("image") == second
    assert EmbeddingModel.objects.filter(pipeline="image", state="serving").count() == 1
