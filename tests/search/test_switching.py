"""Searching while another model begins to serve: every answer is of one model, and exact until its index is built."""

from __future__ import annotations

import io

import pytest
from django.contrib.auth.models import AnonymousUser

from catalog.embedding_models import make_serving, serving_model
from catalog.models import Collection, EmbeddingModel, Image
from catalog.vision import registry
from catalog.vision.decode import read_image
from catalog.vision.errors import ModelUnavailable
from catalog.vision.registry import limits
from search import serving
from search.exceptions import QueryOutdated
from search.indexing import rebuild_due_indexes, rebuild_index
from search.querying import Answer, SearchOptions, read_query, search_by_image, search_by_query, search_by_region
from tests.heads import taught_model
from tests.library import ready, squares

pytestmark = pytest.mark.django_db
OPTIONS = SearchOptions(viewer=AnonymousUser(), pipeline="image")


@pytest.fixture
def images(shop: Collection) -> list[Image]:
    return [ready(shop, squares((10 + 60 * number, 10, 60, "red"))) for number in range(3)]


def photo(place: int = 12) -> io.BytesIO:
    return io.BytesIO(squares((place, 10, 60, "red")))


def search() -> Answer:
    return search_by_image(photo(), "query", OPTIONS)


def nearest(answer: Answer) -> list[Image]:
    return [match.image for match in answer.results]


def test_the_answer_is_the_new_models_exactly_and_then_from_its_index(images: list[Image]) -> None:
    base, model = serving_model("image"), taught_model()
    rebuild_index(base)
    before = search()
    assert before.model == base and before.generation is not None
    make_serving(model)
    exact = search()
    assert (exact.model, exact.generation) == (model, None)
    assert nearest(exact)[0] == images[0] and set(nearest(exact)) == set(images)
    rebuild_due_indexes()
    serving.forget()  # the running process looks for an index again after a second
    indexed = search()
    assert (indexed.model, indexed.generation is not None) == (model, True)
    assert [match.distance for match in indexed.results] == [match.distance for match in exact.results]


def test_and_back_again(images: list[Image], shop: Collection) -> None:
    base, model = serving_model("image"), taught_model()
    before = search()
    make_serving(model)
    late = ready(shop, squares((100, 40, 30, "blue")))
    make_serving(base)
    after = search()
    assert after.model == base
    assert nearest(after)[0] == nearest(before)[0]
    assert set(nearest(after)) == {*nearest(before), late}


def test_an_image_put_in_after_the_switch_is_found_at_once(images: list[Image], shop: Collection) -> None:
    make_serving(taught_model())
    late = ready(shop, squares((13, 10, 60, "red")))
    assert late in nearest(search())[:2]


def test_a_query_read_by_the_model_before_is_not_compared_with_the_new_ones_vectors(images: list[Image]) -> None:
    query = read_query(read_image(photo(), "query", limits()), AnonymousUser())
    number = next(i for i, each in enumerate(query.vectors) if each.region.pipeline == "image")
    assert search_by_query(query, number, OPTIONS).results
    make_serving(taught_model())
    with pytest.raises(QueryOutdated):
        search_by_query(query, number, OPTIONS)


def test_more_like_this_goes_on(images: list[Image]) -> None:
    region = images[0].regions.get(pipeline="image")
    make_serving(taught_model())
    assert nearest(search_by_region(region, OPTIONS))[0] == images[1]


def test_without_its_head_nothing_is_compared_and_faces_are_still_searched(images: list[Image]) -> None:
    model = taught_model()
    make_serving(model)
    (registry.models_dir() / "heads" / f"{model.embedder}.onnx").unlink()
    registry._loaded_taught.cache_clear()  # as in a new process
    with pytest.raises(ModelUnavailable, match=r"is missing.*back from a backup"):
        search()
    assert search_by_image(photo(), "query", SearchOptions(viewer=AnonymousUser(), pipeline="face")).results


def test_a_process_keeps_the_index_of_the_model_before_for_a_while(
    images: list[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, model = serving_model("image"), taught_model()
    face = EmbeddingModel.objects.get(pipeline="face", state="serving")
    kept = serving.snapshot(face)
    held = serving.snapshot(base)
    make_serving(model)
    search()
    assert serving.snapshot(base) is held  # the way back opens nothing
    monkeypatch.setattr(serving, "KEEP_OPEN_SECONDS", -1)
    search()
    assert serving.snapshot(base) is not held
    assert serving.snapshot(face) is kept
