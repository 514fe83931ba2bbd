from __future__ import annotations

import io
from pathlib import Path

import pytest
from django.contrib.admin.models import DELETION, LogEntry

from catalog.curation import images
from catalog.curation.errors import CurationError
from catalog.embedding_models import serving_model
from catalog.models import Collection, Embedding, Image, Region
from search.indexing import rebuild_index
from search.querying import SearchOptions, search_by_image
from tests.cast import Cast, make_image
from tests.catalog.curation.log import said_of
from tests.library import files_in, process_all, ready, squares

pytestmark = pytest.mark.django_db
RED, BLUE = squares((20, 30, 40, "red")), squares((20, 30, 40, "blue"))


def every() -> images.ImageQuerySet:
    return Image.objects.all()


def found(data: bytes, cast: Cast, *collections: Collection) -> list[Image]:
    options = SearchOptions(viewer=cast.superuser, collections=collections or None)
    return [match.image for match in search_by_image(io.BytesIO(data), "q.png", options).results]


def test_publishing_counts_and_logs_what_changed(cast: Cast) -> None:
    shown, hidden = make_image(cast.private), make_image(cast.private, is_published=False)
    assert images.publish(every(), cast.editor) == 1
    assert said_of(hidden) == ["editor: Published."]
    assert said_of(shown) == []
    assert images.unpublish(every(), cast.editor) == 2
    assert not Image.objects.filter(is_published=True).exists()


def test_an_unpublished_image_is_found_by_nobody_else_at_once(shop: Collection, cast: Cast) -> None:
    image = ready(shop, RED)
    options = SearchOptions(viewer=cast.viewer)
    assert [match.image for match in search_by_image(io.BytesIO(RED), "q.png", options).results] == [image]
    images.unpublish(every(), cast.editor)
    assert search_by_image(io.BytesIO(RED), "q.png", options).results == ()


def test_labels_and_tags(cast: Cast) -> None:
    image, other = make_image(cast.private), make_image(cast.private, label="4711")
    assert images.label(every(), " 4711 ", cast.editor) == 1
    other.tags.add("red")
    assert images.tag(every(), ["red", " ", "leather  shoe"], cast.editor) == 2
    assert images.tag(every(), ["red"], cast.editor) == 0
    assert {tag.name for tag in image.tags.all()} == {"red", "leather shoe"}
    assert said_of(image) == ["editor: Labelled 4711.", "editor: Tagged red, leather shoe."]
    assert images.label(every(), "", cast.editor) == 2


def test_labels_and_tags_that_cannot_be(cast: Cast) -> None:
    make_image(cast.private)
    for tried in (["x" * 101], [" "], []):
        with pytest.raises(CurationError):
            images.tag(every(), tried, cast.editor)
    with pytest.raises(CurationError):
        images.label(every(), "x" * 201, cast.editor)
    assert not LogEntry.objects.exists()


def test_processing_again_leaves_alone_what_waits(cast: Cast) -> None:
    failed = make_image(cast.private, status="failed", reason="broken")
    make_image(cast.private, status="queued")
    assert images.process_again(every(), cast.editor) == 1
    failed.refresh_from_db()
    assert (failed.status, failed.reason) == ("queued", "")
    assert said_of(failed) == ["editor: Asked to process it again."]


@pytest.mark.django_db(transaction=True)
def test_deleting_takes_the_files_along_and_stays_in_the_log(shop: Collection, cast: Cast, media: Path) -> None:
    image = ready(shop, RED, title="Shoe")
    key = str(image.pk)
    assert files_in(media)
    assert images.delete(every(), cast.editor) == 1
    assert files_in(media) == []
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.object_repr, entry.action_flag) == (key, "Shoe", DELETION)
    assert entry.get_change_message() == "Deleted from shop."


def test_a_moved_image_is_found_in_its_new_collection_and_not_in_the_old_one(shop: Collection, cast: Cast) -> None:
    other = Collection.objects.create(name="other", pipelines=["face", "image"], is_public=True)
    image = ready(shop, RED, person="Ada")
    for pipeline in ("face", "image"):
        rebuild_index(serving_model(pipeline))
    before = set(Embedding.objects.values_list("pk", flat=True))
    assert images.move(every(), other, cast.superuser) == images.Moved(1, [])
    assert found(RED, cast, other) == [image]
    assert found(RED, cast, shop) == []
    assert min(Embedding.objects.values_list("pk", flat=True)) > max(before)
    assert Embedding.objects.count() == len(before)
    assert str(Region.objects.get(pipeline="face").person) == "Ada"
    assert said_of(image) == ["superuser: Moved from shop to other."]


def test_what_is_there_already_stays_and_is_named(shop: Collection, cast: Cast) -> None:
    other = Collection.objects.create(name="other", pipelines=["image"])
    there, here, blue = ready(other, RED), ready(shop, RED), ready(shop, BLUE)
    moved = images.move(every(), other, cast.superuser)
    assert moved.moved == 1
    assert dict(moved.refused) == {
        there: "It is in other already.",
        here: "other has the very same file already.",
    }
    blue.refresh_from_db()
    assert blue.collection == other


def test_of_the_same_file_from_two_collections_one_moves(shop: Collection, cast: Cast) -> None:
    second = Collection.objects.create(name="second", pipelines=["image"])
    target = Collection.objects.create(name="target", pipelines=["image"])
    ready(shop, RED), ready(second, RED)
    moved = images.move(every(), target, cast.superuser)
    assert (moved.moved, len(moved.refused)) == (1, 1)


def test_a_collection_that_looks_for_more_gets_it(shop: Collection, cast: Cast) -> None:
    plain = Collection.objects.create(name="plain", pipelines=["image"])
    image = ready(plain, RED)
    images.move(every(), shop, cast.superuser)
    image.refresh_from_db()
    assert image.status == "queued"
    process_all()
    assert image.regions.filter(pipeline="face", embeddings__isnull=False).exists()
    assert found(RED, cast, shop) == [image]
