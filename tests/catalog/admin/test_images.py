"""Images in the admin: narrowed, searched, shown as list and grid, and changed many at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from catalog.admin.images import ImageForm
from catalog.models import Image, Person
from tests.cast import Cast, make_face, make_image
from tests.catalog.admin.staff import staff_client, told
from tests.catalog.api.conftest import cast
from tests.drawn import image_file
from tests.library import files_in, put_image

__all__ = ["cast"]
pytestmark = pytest.mark.django_db
LIST = "/admin/catalog/image/"


@pytest.fixture
def editor(cast: Cast) -> Client:
    return staff_client(cast, "editor")


def titles(client: Client, **narrowed: str) -> set[str]:
    answer = client.get(LIST, narrowed)
    assert answer.status_code == 200
    return {image.title for image in answer.context["cl"].result_list}


def act(client: Client, action: str, images: list[Image], **values: object) -> Any:
    sent = {"action": action, "_selected_action": [str(image.pk) for image in images], **values}
    return client.post(LIST, sent, follow=True)


# --- Finding ----------------------------------------------------------------------------------------------------------


def test_filters(cast: Cast, editor: Client) -> None:
    ada = Person.objects.create(name="Ada")
    none = make_image(cast.private, title="none", label="shoe")
    one = make_image(cast.private, title="one", is_published=False)
    two = make_image(cast.public, title="two", status="failed", reason="It is broken.")
    none.tags.add("red")
    make_face(none, dismissed=True)
    make_face(none, pipeline="image")
    make_face(one, ada)
    make_face(two, Person.objects.create(name="Eve"))
    make_face(two)
    for narrowed, expected in (
        ({"collection": str(cast.private.pk)}, {"none", "one"}),
        ({"status__exact": "failed"}, {"two"}),
        ({"published": "no"}, {"one"}),
        ({"published": "yes"}, {"none", "two"}),
        ({"label": "shoe"}, {"none"}),
        ({"tag": "red"}, {"none"}),
        ({"faces": "0"}, {"none"}),
        ({"faces": "1"}, {"one"}),
        ({"faces": "2"}, {"two"}),
        ({"faces": "unnamed"}, {"two"}),
        ({"person": str(ada.pk)}, {"one"}),
        ({"created_at_from": "2000-01-01", "created_at_to": "2000-12-31"}, set()),
        ({"created_at_from": "2000-01-01"}, {"none", "one", "two"}),
        ({"collection": str(cast.private.pk), "faces": "1"}, {"one"}),
    ):
        assert titles(editor, **narrowed) == expected, narrowed  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["collection", "person"])
@pytest.mark.parametrize("value", ["nonsense", "01a205a4-50e1-7512-822c-97fa2dd6040f"])
def test_a_filter_of_what_is_not_there_finds_nothing(cast: Cast, editor: Client, name: str, value: str) -> None:
    make_face(make_image(cast.private))
    assert titles(editor, **{name: value}) == set()


def test_menus_offer_only_what_is_ones_own(cast: Cast, editor: Client) -> None:
    theirs = make_image(cast.foreign, label="secret label")
    theirs.tags.add("secret tag")
    make_face(theirs, Person.objects.create(name="Secret Person"))
    mine = make_image(cast.private, label="open label")
    mine.tags.add("open tag")
    make_face(mine, Person.objects.create(name="Open Person"))
    page = editor.get(LIST).content.decode()
    for words in ("open label", "open tag", "Open Person"):
        assert words in page
    for words in ("secret label", "secret tag", "Secret Person", "foreign"):
        assert words not in page


@pytest.mark.parametrize("text", ["Red", "article-7", "IMG_1", "key-9", "summer"])
def test_searching_by_text(cast: Cast, editor: Client, text: str) -> None:
    shoe = make_image(cast.private, title="Red shoe", label="article-7", original_name="IMG_1.jpg", external_id="key-9")
    shoe.tags.add("summer", "summer sale")
    make_image(cast.private, title="Hat")
    make_image(cast.foreign, title="Red hat", label="article-7", original_name="IMG_1.jpg", external_id="key-9")
    assert titles(editor, q=text) == {"Red shoe"}


def test_list_and_grid_show_the_same_and_keep_the_filter(cast: Cast, editor: Client) -> None:
    image = make_image(cast.private, title="Hat")
    make_image(cast.public, title="Shoe")
    narrowed = {"collection": str(cast.private.pk)}
    grid = editor.get(LIST, {**narrowed, "view": "grid"})
    assert [each.title for each in grid.context["cl"].result_list] == ["Hat"]
    for answer in (grid, editor.get(LIST, narrowed)):
        page = answer.content.decode()
        assert reverse("image-rendition", args=[image.pk, 320]) in page
        assert f'value="{image.pk}"' in page  # can be selected
    assert "vs-grid" in grid.content.decode()
    assert str(cast.private.pk) in grid.context["cl"].as_list
    assert "view=grid" not in grid.context["cl"].as_list


@pytest.mark.parametrize("view", ["", "grid"])
def test_more_images_cost_no_more_queries(cast: Cast, editor: Client, view: str) -> None:
    def add(count: int) -> None:
        for _ in range(count):
            image = make_image(cast.private, label="x")
            image.tags.add("a", "b")
            make_face(image, Person.objects.create(name=str(image.pk)))

    add(2)
    editor.get(LIST)
    with CaptureQueriesContext(connection) as few:
        editor.get(LIST, {"view": view} if view else {})
    add(10)
    with CaptureQueriesContext(connection) as many:
        editor.get(LIST, {"view": view} if view else {})
    assert len(many) == len(few)


# --- Changing ---------------------------------------------------------------------------------------------------------


def test_publishing_and_unpublishing(cast: Cast, editor: Client) -> None:
    one, two = make_image(cast.public), make_image(cast.public, is_published=False)
    said = told(act(editor, "unpublish", [one, two]))
    assert said == "1 image taken out of search. 1 image left alone: unpublished already."
    assert not Image.objects.filter(is_published=True).exists()
    act(editor, "publish", [one, two])
    assert Image.objects.filter(is_published=True).count() == 2


def test_tagging_and_labelling_ask_first(cast: Cast, editor: Client) -> None:
    images = [make_image(cast.private), make_image(cast.private)]
    asked = act(editor, "tag", images)
    assert "2 images" in asked.content.decode()
    assert not images[0].tags.exists()
    assert "2 images tagged." in told(act(editor, "tag", images, apply="1", tags="red, blue"))
    assert {tag.name for tag in images[1].tags.all()} == {"red", "blue"}
    act(editor, "set_label", images, apply="1", label="shoe")
    assert set(Image.objects.values_list("label", flat=True)) == {"shoe"}
    act(editor, "set_label", images, apply="1", label="")
    assert set(Image.objects.values_list("label", flat=True)) == {""}


def test_an_empty_tag_is_asked_for_again(cast: Cast, editor: Client) -> None:
    answer = act(editor, "tag", [make_image(cast.private)], apply="1", tags="")
    assert "This field is required" in answer.content.decode()


def test_moving_says_what_stays_and_why(cast: Cast, editor: Client) -> None:
    moving = make_image(cast.private)
    twin = make_image(cast.private, title="the twin", sha256="a" * 64)
    make_image(cast.public, sha256="a" * 64)
    said = told(act(editor, "move", [moving, twin], apply="1", collection=str(cast.public.pk)))
    assert "1 image moved to public." in said
    assert "the twin stays in private: public has the very same file already." in said
    moving.refresh_from_db()
    assert moving.collection == cast.public


def test_processing_again(cast: Cast, editor: Client) -> None:
    failed = make_image(cast.private, status="failed", reason="It is broken.")
    waiting = make_image(cast.private, status="queued")
    assert "1 image will be processed again." in told(act(editor, "process_again", [failed, waiting]))
    failed.refresh_from_db()
    assert failed.status == "queued"


def test_deleting_asks_first_and_takes_the_files_along(
    cast: Cast, editor: Client, media: Path, django_capture_on_commit_callbacks: Any
) -> None:
    image = put_image(cast.private, image_file())
    assert files_in(media)
    assert "cannot be undone" in act(editor, "delete_images", [image]).content.decode()
    assert Image.objects.exists()
    with django_capture_on_commit_callbacks(execute=True):
        assert "1 image deleted" in told(act(editor, "delete_images", [image], apply="1"))
    assert not Image.objects.exists()
    assert files_in(media) == []


def test_deleting_one_on_its_page(
    cast: Cast, editor: Client, media: Path, django_capture_on_commit_callbacks: Any
) -> None:
    image = put_image(cast.private, image_file())
    with django_capture_on_commit_callbacks(execute=True):
        editor.post(reverse("admin:catalog_image_delete", args=[image.pk]), {"post": "yes"})
    assert files_in(media) == []
    [entry] = LogEntry.objects.all()
    assert (UUID(entry.object_id), entry.user) == (image.pk, cast.editor)


def test_all_that_the_filter_shows_beyond_one_page(cast: Cast, editor: Client) -> None:
    images = [make_image(cast.private) for _ in range(60)]
    make_image(cast.public, title="elsewhere")
    address = f"{LIST}?collection={cast.private.pk}"
    sent = {"action": "set_label", "select_across": "1", "_selected_action": str(images[0].pk)}
    asked = editor.post(address, sent)
    assert "60 images" in asked.content.decode()
    editor.post(address, {**hidden(asked), "label": "shoe"})
    assert Image.objects.filter(label="shoe").count() == 60


def hidden(asked: Any) -> dict[str, str]:
    """What the form of the page between two sends back, as a browser does."""
    fields = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', asked.content.decode())
    return {name: value for name, value in fields if name != "csrfmiddlewaretoken"}


@pytest.mark.parametrize("action", ["delete_images", "move", "tag", "set_label"])
def test_all_is_what_the_page_in_between_showed(cast: Cast, editor: Client, action: str) -> None:
    images = [make_image(cast.private) for _ in range(3)]
    address = f"{LIST}?collection={cast.private.pk}"
    asked = editor.post(
        address, {"action": action, "select_across": "1", "_selected_action": str(images[0].pk)}, follow=True
    )
    late = make_image(cast.private, title="late")
    before = Image.objects.values().get(pk=late.pk)
    values = {"collection": str(cast.public.pk), "tags": "red", "label": "shoe"}
    editor.post(address, {**hidden(asked), **values})
    assert Image.objects.values().get(pk=late.pk) == before
    assert not late.tags.exists()
    done = {
        "delete_images": 3 - Image.objects.filter(pk__in=[image.pk for image in images]).count(),
        "move": Image.objects.filter(collection=cast.public).count(),
        "tag": Image.objects.filter(tags__name="red").count(),
        "set_label": Image.objects.filter(label="shoe").count(),
    }
    assert done[action] == 3


def test_when_other_images_match_by_then_it_asks_again(cast: Cast, editor: Client) -> None:
    images = [make_image(cast.private, label="old") for _ in range(3)]
    kept = make_image(cast.private)
    address = f"{LIST}?label=old"
    make_image(cast.private, label="old")  # the newest one, so that the next one is no newer
    asked = editor.post(
        address, {"action": "delete_images", "select_across": "1", "_selected_action": str(images[0].pk)}
    )
    images[0].delete()
    Image.objects.filter(pk=kept.pk).update(label="old")  # as many as before, and not the same
    again = editor.post(address, hidden(asked))
    assert "Other images match by now" in again.content.decode()
    assert Image.objects.count() == 4
    editor.post(address, hidden(again))
    assert not Image.objects.exists()


def test_every_change_is_in_the_log(cast: Cast, editor: Client) -> None:
    image = make_image(cast.private)
    act(editor, "unpublish", [image])
    act(editor, "tag", [image], apply="1", tags="red")
    editor.post(reverse("admin:catalog_image_change", args=[image.pk]), {"title": "Hat", "tags": "red"})
    entries = LogEntry.objects.filter(object_id=str(image.pk), user=cast.editor)
    words = " ".join(entry.get_change_message() for entry in entries)
    assert entries.count() == 3
    for each in ("Unpublished", "Tagged red", "Title"):
        assert each in words


def test_the_form_of_one_image(cast: Cast, editor: Client) -> None:
    image = make_image(cast.private)
    sent = {
        "title": "Hat",
        "label": "hats",
        "tags": "red, blue",
        "link": "https://shop.example/7",
    }
    assert editor.post(reverse("admin:catalog_image_change", args=[image.pk]), sent).status_code == 302
    image.refresh_from_db()
    assert (image.title, image.label, image.link, image.is_published) == ("Hat", "hats", sent["link"], True)
    assert {tag.name for tag in image.tags.all()} == {"red", "blue"}


def change_url(image: Image) -> str:
    return reverse("admin:catalog_image_change", args=[image.pk])


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Does something after a form loaded its image and before it saves it."""

    def install(happens: Callable[[], object]) -> None:
        clean = ImageForm.clean

        def cleaning(form: ImageForm) -> Any:
            happens()
            return clean(form)

        monkeypatch.setattr(ImageForm, "clean", cleaning)

    return install


Meanwhile = Callable[[Callable[[], object]], None]


def test_saving_leaves_alone_what_others_changed_meanwhile(cast: Cast, editor: Client, meanwhile: Meanwhile) -> None:
    image = make_image(cast.private, status="queued")
    row = Image.objects.filter(pk=image.pk)
    meanwhile(lambda: row.update(status="ready", collection=cast.public, licence="CC0"))
    editor.post(change_url(image), {"title": "Hat"})
    image.refresh_from_db()
    assert (image.title, image.status, image.collection, image.licence) == ("Hat", "ready", cast.public, "CC0")


def test_what_was_deleted_meanwhile_stays_deleted(cast: Cast, editor: Client, meanwhile: Meanwhile) -> None:
    image = make_image(cast.private)
    meanwhile(Image.objects.filter(pk=image.pk).delete)
    answer = editor.post(change_url(image), {"title": "Hat", "tags": "red"}, follow=True)
    assert "Nothing was saved: the image was deleted meanwhile" in told(answer)
    assert not Image.objects.filter(title="Hat").exists()  # the deletion itself, in its transaction here, is undone
    assert not LogEntry.objects.exists()


def test_what_went_to_others_meanwhile_is_not_changed(cast: Cast, editor: Client, meanwhile: Meanwhile) -> None:
    image = make_image(cast.private)
    meanwhile(lambda: Image.objects.filter(pk=image.pk).update(collection=cast.foreign))
    answer = editor.post(change_url(image), {"title": "Hat", "tags": "red"}, follow=True)
    assert "no longer yours to change" in told(answer)
    image.refresh_from_db()
    assert (image.title, image.tags.count()) == ("", 0)


def test_an_open_page_does_not_publish_again(cast: Cast, editor: Client) -> None:
    image = make_image(cast.public)
    opened = editor.get(change_url(image)).content.decode()
    assert 'name="is_published"' not in opened
    act(editor, "unpublish", [image])
    editor.post(change_url(image), {"title": "Hat", "is_published": "on"})
    image.refresh_from_db()
    assert (image.title, image.is_published) == ("Hat", False)


def test_publishing_on_the_page_of_one_image(cast: Cast, editor: Client) -> None:
    image = make_image(cast.public)
    address = reverse("admin:catalog_image_published", args=[image.pk])
    assert address in editor.get(change_url(image)).content.decode()
    for value, expected in (("0", False), ("0", False), ("1", True)):
        answer = editor.post(address, {"published": value}, follow=True)
        assert answer.redirect_chain[-1][0] == change_url(image)
        image.refresh_from_db()
        assert image.is_published == expected
    assert LogEntry.objects.filter(object_id=str(image.pk)).count() == 2


def test_who_may_publish_on_the_page_of_one_image(cast: Cast) -> None:
    image = make_image(cast.private)
    address = reverse("admin:catalog_image_published", args=[image.pk])
    for name, status in (("anonymous", 302), ("viewer", 404), ("other_editor", 404)):
        assert staff_client(cast, name).post(address, {"published": "0"}).status_code == status, name
    assert staff_client(cast, "editor").get(address, {"published": "0"}, follow=True).status_code == 200
    image.refresh_from_db()
    assert image.is_published


def test_a_tag_that_is_too_long_is_said_beside_it(cast: Cast, editor: Client) -> None:
    image = make_image(cast.private)
    answer = editor.post(change_url(image), {"title": "Hat", "tags": "x" * 101})
    assert answer.status_code == 200
    assert "A tag has 101 characters; 100 are the most." in answer.content.decode()
    assert "A tag has 101 characters" in act(editor, "tag", [image], apply="1", tags="x" * 101).content.decode()
    assert not image.tags.exists()
    assert editor.post(change_url(image), {"tags": "x" * 100}).status_code == 302
    assert [tag.name for tag in image.tags.all()] == ["x" * 100]
