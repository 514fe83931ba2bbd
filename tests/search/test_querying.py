"""From a query to an answer, with the fakes: a face's vector is its colour."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import AnonymousUser, Group, User
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from catalog.exceptions import ImageRefused, NoServingModel
from catalog.models import Collection, EmbeddingModel, Image, Person, Region
from catalog.uploads import process_again
from search import serving
from search.evaluation.collections import read_collection
from search.exceptions import FaceOutOfRange, FacesNotAllowed, NothingToSearchWith, UnknownPipeline
from search.indexing import rebuild_index
from search.querying import Answer, SearchOptions, search_by_image, search_by_region, search_by_stored_image
from tests.cast import make_face, make_image
from tests.drawn import image_file, turned_photo
from tests.library import files_in, process_all, put_image, ready, squares
from tests.search.vectors import store

pytestmark = pytest.mark.django_db
NOBODY = AnonymousUser()
GREY = image_file((200, 200, 200))


def shade(step: int) -> str:
    """Reds that are ever farther from the first: by 0.0157 each."""
    return f"#ff00{2 * step:02x}"


def face(step: int, left: int = 20, top: int = 30) -> bytes:
    return squares((left, top, 40, shade(step)))


def options(**what: Any) -> SearchOptions:
    return SearchOptions(**{"viewer": NOBODY, "pipeline": "face", **what})


def search(data: bytes, **what: Any) -> Answer:
    return search_by_image(io.BytesIO(data), "query", options(**what))


def images(answer: Answer) -> list[Image]:
    return [match.image for match in answer.results]


every_index = pytest.mark.parametrize("index", ["exact", "generation", "generation and delta"], indirect=True)


@pytest.fixture
def index(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], str | None]:
    """Called after each image with its number: builds the index never, at the end, or half way; ``None`` if none."""
    monkeypatch.setattr(serving, "LOOK_AGAIN_SECONDS", 0.0)
    built: list[str] = []

    def after(number: int, last: int = 5) -> str | None:
        at = {"generation": last, "generation and delta": last // 2}.get(getattr(request, "param", "exact"), -1)
        if number == at:
            built.append(rebuild_index(EmbeddingModel.objects.get(pipeline="face")).name)
        return built[-1] if built else None

    return after


@pytest.fixture
def reds(shop: Collection, index: Callable[[int], str | None]) -> list[Image]:
    """Six images, each with a red a little farther from the first's."""
    made = []
    for step in range(6):
        made.append(ready(shop, face(step)))
        index(step)
    return made


# --- Finding ----------------------------------------------------------------------------------------------------------


@every_index
def test_the_nearest_images_come_first(reds: list[Image], index: Callable[[int], str | None]) -> None:
    answer = search(face(0, left=90), k=4)
    assert images(answer) == reds[:4]
    assert [match.distance for match in answer.results] == pytest.approx([0, 4 / 255, 8 / 255, 12 / 255], abs=1e-5)
    assert answer.generation == index(-2)
    assert (answer.pipeline, answer.model.pipeline) == ("face", "face")
    assert (answer.width, answer.height, answer.searched) == (200, 150, 0)
    (region,) = answer.regions
    assert (region.pipeline, region.box.x, region.box.y, region.box.width) == ("face", 90, 30, 40)
    for match in answer.results:
        assert match.region.image == match.image
        assert match.region.pipeline == "face"


def test_an_image_finds_itself_first_at_distance_zero(reds: list[Image]) -> None:
    for step, image in enumerate(reds):
        best = search(face(step), k=1).results[0]
        assert (best.image, best.distance) == (image, 0)


def test_k_counts_images_and_the_best_region_stands_for_its_image(shop: Collection) -> None:
    crowd = ready(shop, squares(*[(5 + 30 * number, 30, 20, shade(number)) for number in range(6)]))
    single = ready(shop, face(3))
    answer = search(face(0), k=2)
    assert images(answer) == [crowd, single]
    best = answer.results[0]
    assert (best.distance, best.region.x) == (0, 5)
    assert images(search(face(0), k=100)) == [crowd, single]


def test_boxes_of_a_query_are_those_of_the_turned_image(shop: Collection) -> None:
    ready(shop, face(0))
    answer = search(turned_photo())
    assert (answer.width, answer.height) == (40, 60)
    assert all(region.box.right <= 40 and region.box.bottom <= 60 for region in answer.regions)


# --- Never shown, and k still filled ----------------------------------------------------------------------------------


RED = [1.01, 0.01] * 4  # the vector of face(0)


@every_index
@pytest.mark.parametrize(
    "what", ["deleted", "unpublished", "dismissed", "failed", "queued", "forbidden", "pipeline off"]
)
def test_what_may_not_be_shown_never_is_and_k_is_still_filled(
    shop: Collection, index: Callable[..., str | None], what: str
) -> None:
    private = Collection.objects.create(name="private", pipelines=["face", "image"])
    crowd = private if what in ("forbidden", "pipeline off") else shop
    model = EmbeddingModel.objects.get(pipeline="face")
    store(crowd, model, *[RED] * 20)
    hidden = Image.objects.filter(pk__in=list(Image.objects.values_list("pk", flat=True)))
    index(0, last=1)
    store(shop, model, *[[1.01, 0.01 + step] * 4 for step in (0.1, 0.2, 0.3)])
    shown = list(Image.objects.order_by("id")[20:])
    index(1, last=1)
    if what == "deleted":
        hidden.delete()
    elif what == "unpublished":
        hidden.update(is_published=False)
    elif what == "dismissed":
        Region.objects.filter(image__in=hidden).update(dismissed=True)
    elif what in ("failed", "queued"):
        hidden.update(status=what, reason="Cut off.")
    elif what == "pipeline off":
        Collection.objects.filter(name="private").update(pipelines=["image"], is_public=True)
    assert images(search(face(0), k=3)) == shown
    assert images(search(face(0), k=100)) == shown


def test_those_who_may_see_more_find_more(shop: Collection) -> None:
    private = Collection.objects.create(name="private", pipelines=["face"])
    group = Group.objects.create(name="viewers")
    private.viewers.add(group)
    viewer = User.objects.create_user("viewer")
    viewer.groups.add(group)
    mine, everybodys = ready(private, face(0)), ready(shop, face(1))
    assert images(search(face(0))) == [everybodys]
    assert images(search(face(0), viewer=viewer)) == [mine, everybodys]
    assert images(search(face(0), viewer=User(is_superuser=True))) == [mine, everybodys]


def test_faces_for_staff_are_found_by_their_own_groups_only(shop: Collection) -> None:
    staff = Collection.objects.create(name="staff", pipelines=["face", "image"], is_public=True)
    image = ready(staff, face(0))
    assert images(search(face(0))) == []
    assert images(search(face(0), pipeline="image")) == [image]


# --- Beyond near ------------------------------------------------------------------------------------------------------


def measured(same: float | None, near: float | None) -> None:
    EmbeddingModel.objects.filter(pipeline="face").update(same_distance=same, near_distance=near)


def test_what_is_beyond_near_is_no_result_unless_asked_for(reds: list[Image]) -> None:
    measured(same=5 / 255, near=10 / 255)
    answer = search(face(0))
    assert images(answer) == reds[:3]
    assert [match.similarity for match in answer.results] == pytest.approx([1, 0.6, 0.2], abs=1e-3)
    answer = search(face(0), beyond_near=True)
    assert images(answer) == reds
    assert [match.similarity for match in answer.results] == pytest.approx([1, 0.6, 0.2, 0, 0, 0], abs=1e-3)


def test_near_may_leave_nothing(reds: list[Image]) -> None:
    measured(same=0.001, near=0.002)
    answer = search(squares((9, 9, 40, "blue")))
    assert (images(answer), answer.searched) == ([], 0)


def test_a_model_that_nobody_measured_has_no_similarity_and_no_limit(reds: list[Image]) -> None:
    answer = search(squares((9, 9, 40, "blue")))
    assert len(answer.results) == 6
    assert {match.similarity for match in answer.results} == {None}


def test_distances_of_another_metric_say_nothing(reds: list[Image], settings: Settings) -> None:
    measured(same=5 / 255, near=10 / 255)
    EmbeddingModel.objects.filter(pipeline="face").update(evaluation={"metric": "l2"})
    assert len(search(face(0)).results) == 3
    settings.VISEARCH_INDEXES = {**settings.VISEARCH_INDEXES, "face": {"ENGINE": "exact", "METRIC": "cosine"}}
    answer = search(face(0))
    assert len(answer.results) == 6
    assert {match.similarity for match in answer.results} == {None}


# --- Which face, which pipeline ---------------------------------------------------------------------------------------

TWO_FACES = squares((5, 5, 50, shade(0)), (120, 60, 40, "blue"))


def test_the_best_face_is_taken_unless_another_is_named(shop: Collection) -> None:
    red, blue = ready(shop, face(0)), ready(shop, squares((9, 9, 40, "blue")))
    for which, expected in ((None, [red, blue]), (0, [red, blue]), (1, [blue, red])):
        answer = search(TWO_FACES, face=which)
        assert images(answer) == expected
        assert answer.searched == (which or 0)
        assert [region.box.width for region in answer.regions] == [50, 40]


@pytest.mark.parametrize(
    ("data", "which", "says"),
    [
        (TWO_FACES, 2, "2 were found"),
        (TWO_FACES, -1, "2 were found"),
        (face(0), 1, "1 was found"),
        (GREY, 0, "no region"),
    ],
)
def test_a_face_that_is_not_there(shop: Collection, data: bytes, which: int, says: str) -> None:
    with pytest.raises(FaceOutOfRange, match=says):
        search(data, face=which)


def test_by_default_faces_are_searched_and_where_there_are_none_the_image(shop: Collection) -> None:
    image, grey = ready(shop, face(0)), ready(shop, GREY)
    answer = search(face(0), pipeline=None)
    assert (answer.pipeline, images(answer)) == ("face", [image])
    answer = search(GREY, pipeline=None)
    assert (answer.pipeline, images(answer)[0]) == ("image", grey)
    answer = search(GREY)
    assert (answer.pipeline, images(answer), answer.searched, answer.regions) == ("face", [], None, ())


def test_by_default_the_image_is_searched_where_faces_may_not_be(shop: Collection) -> None:
    Collection.objects.update(face_search="staff")
    image = ready(shop, face(0))
    answer = search(face(0), pipeline=None)
    assert (answer.pipeline, images(answer)) == ("image", [image])
    with pytest.raises(FacesNotAllowed, match="pipeline=image"):
        search(face(0))


def test_by_default_a_missing_model_of_whole_images_does_not_stand_in_the_way_of_a_face(shop: Collection) -> None:
    image = ready(shop, face(0))
    EmbeddingModel.objects.filter(pipeline="image").update(state="retired")
    assert images(search(face(0), pipeline=None)) == [image]
    with pytest.raises(NoServingModel, match="models build"):
        search(GREY, pipeline=None)


def test_faces_of_the_collections_asked_for_decide(shop: Collection) -> None:
    staff = Collection.objects.create(name="staff", pipelines=["face", "image"], is_public=True)
    image = ready(staff, face(0))
    with pytest.raises(FacesNotAllowed):
        search(face(0), collections=(staff,))
    answer = search(face(0), pipeline=None, collections=(staff,))
    assert (answer.pipeline, images(answer)) == ("image", [image])


def test_a_pipeline_that_is_not_there(shop: Collection) -> None:
    with pytest.raises(UnknownPipeline, match="Take one of: face, image"):
        search(face(0), pipeline="faces")


@pytest.mark.parametrize("data", [b"", b"This is a text. " * 9, image_file(size=(600, 400))[:-900]])
def test_what_is_no_image_is_refused(shop: Collection, data: bytes) -> None:
    with pytest.raises(ImageRefused):
        search(data)


def test_with_nothing_stored_there_is_nothing_to_find(shop: Collection) -> None:
    assert search(face(0)).results == ()
    with pytest.raises(FacesNotAllowed):
        Collection.objects.all().delete()
        search(face(0))


# --- By what is stored ------------------------------------------------------------------------------------------------


@every_index
def test_a_region_finds_others_but_not_its_own_image(reds: list[Image], index: Callable[[int], str | None]) -> None:
    region = reds[2].regions.get(pipeline="face")
    answer = search_by_region(region, options(k=5))
    assert images(answer) == [reds[1], reds[3], reds[0], reds[4], reds[5]]
    assert images(search_by_region(region, options(k=1))) == [reds[1]]
    assert answer.generation == index(-2)
    assert (answer.searched, answer.regions[0].box.x, answer.width) == (0, 20, 200)


def test_a_stored_image_is_searched_like_a_file(shop: Collection) -> None:
    two, red, blue = ready(shop, TWO_FACES), ready(shop, face(0)), ready(shop, squares((9, 9, 40, "blue")))
    grey, other = ready(shop, GREY), ready(shop, image_file((190, 190, 190)))
    everything = options(pipeline=None)
    assert images(search_by_stored_image(two, everything)) == [red, blue]
    answer = search_by_stored_image(two, options(face=1))
    assert images(answer) == [blue, red]
    assert (answer.searched, len(answer.regions)) == (1, 2)
    answer = search_by_stored_image(grey, everything)
    assert (answer.pipeline, images(answer)[0]) == ("image", other)
    with pytest.raises(FaceOutOfRange):
        search_by_stored_image(two, options(face=2))
    with pytest.raises(NothingToSearchWith, match="hold no face"):
        search_by_stored_image(grey, options())


def test_a_dismissed_face_is_not_searched_with(shop: Collection) -> None:
    two, red = ready(shop, TWO_FACES), ready(shop, face(0))
    blue = ready(shop, squares((9, 9, 40, "blue")))
    two.regions.filter(pipeline="face", x=5).update(dismissed=True)
    assert images(search_by_stored_image(two, options())) == [blue, red]


def test_what_has_no_vector_yet_says_so(shop: Collection) -> None:
    waiting = put_image(shop, face(0))
    with pytest.raises(NothingToSearchWith, match="may be waiting"):
        search_by_stored_image(waiting, options())
    with pytest.raises(NothingToSearchWith, match="Wait until its image is ready"):
        search_by_region(make_face(make_image(shop)), options())


def test_a_face_may_be_searched_with_only_where_faces_may(shop: Collection) -> None:
    image = ready(shop, face(0))
    Collection.objects.update(face_search="staff")
    with pytest.raises(FacesNotAllowed):
        search_by_region(image.regions.get(pipeline="face"), options())


# --- Where ------------------------------------------------------------------------------------------------------------


@every_index
def test_collections_are_a_scope_also_after_a_generation_and_with_a_delta(
    shop: Collection, index: Callable[..., str | None]
) -> None:
    other = Collection.objects.create(name="other", pipelines=["face"], is_public=True, face_search="everyone")
    third = Collection.objects.create(name="third", pipelines=["face"], is_public=True, face_search="everyone")
    model = EmbeddingModel.objects.get(pipeline="face")
    for step in range(6):
        for collection in (shop, other, third):
            store(collection, model, [1.01, 0.01 + step / 10] * 4)
        index(step)
    made = {each.name: list(each.images.order_by("id")) for each in (shop, other, third)}
    assert images(search(face(0), collections=(other,))) == made["other"]
    assert images(search(face(0), collections=(other,), k=2)) == made["other"][:2]
    both = images(search(face(0), collections=(shop, third)))
    assert set(both) == {*made["shop"], *made["third"]}
    assert len(images(search(face(0), k=100))) == 18


# --- Nothing is kept --------------------------------------------------------------------------------------------------


def test_a_query_is_stored_nowhere(
    shop: Collection, media: Any, tmp_path: Any, caplog: pytest.LogCaptureFixture, settings: Settings
) -> None:
    ready(shop, face(0))
    before = {model: model._base_manager.count() for model in apps.get_models()}
    files = files_in(tmp_path)
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        search_by_image(io.BytesIO(TWO_FACES), "my secret name.png", options())
    assert {model: model._base_manager.count() for model in apps.get_models()} == before
    assert files_in(tmp_path) == files
    assert "my secret name" not in caplog.text


def test_an_answer_is_hydrated_in_one_query_for_each_ask(shop: Collection, django_assert_max_num_queries: Any) -> None:
    for step in range(6):
        region = ready(shop, face(step)).regions.get(pipeline="face")
        Region.objects.filter(pk=region.pk).update(person=Person.objects.create(name=f"person {step}"))
    search(face(0))
    with django_assert_max_num_queries(8):
        answer = search(face(0))
        told = [
            (match.image.collection.name, match.region.person and match.region.person.name) for match in answer.results
        ]
    assert told == [("shop", f"person {step}") for step in range(6)]


@every_index
@pytest.mark.parametrize("few", [20_000, 0])
def test_a_label_is_a_filter_that_still_fills_k(
    shop: Collection, index: Callable[..., str | None], monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    """Also where so many images have it that the index is asked for them by id only when that is needed."""
    monkeypatch.setattr("search.nearest.FEW_LABELLED", few)
    model = EmbeddingModel.objects.get(pipeline="face")
    store(shop, model, *[RED] * 20)
    index(0, last=1)
    store(shop, model, *[[1.01, 0.01 + step] * 4 for step in (0.1, 0.2, 0.3)])
    wanted = list(Image.objects.order_by("id")[20:])
    Image.objects.filter(pk__in=[image.pk for image in wanted]).update(label="blueish")
    index(1, last=1)
    answer = search(face(0), k=3, label="blueish")
    assert images(answer) == wanted
    assert answer.explanation.asks == (1 if few else 2)  # rather than four times as wide until all of it was read
    assert images(search(face(0), k=3, label="Blueish")) == []


@pytest.mark.parametrize("index", ["generation and delta"], indirect=True)
def test_images_that_are_processed_again_stay_where_they_are(shop: Collection, reds: list[Image]) -> None:
    """Through all doors: search, the image itself, its copies, evaluation; and new ones take their places."""
    before = images(search(face(0)))
    process_again([image.pk for image in reds])
    model = EmbeddingModel.objects.get(pipeline="face")
    for step in ("waiting", "processed"):
        assert images(search(face(0))) == before, step
        assert images(search_by_stored_image(reds[0], options())) == before[1:], step
        assert Client().get(f"/images/{reds[0].pk}/").status_code == 200, step
        assert Client().get(reverse("image-rendition", args=[reds[0].pk, 320])).status_code == 200, step
        assert read_collection(shop, model).images == len(reds), step
        process_all()
    assert set(Image.objects.values_list("status", flat=True)) == {"ready"}
