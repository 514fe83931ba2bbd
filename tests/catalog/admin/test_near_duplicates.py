"""The page on which near duplicates are chosen about, as a browser without scripts uses it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from catalog.api import decoding
from catalog.models import Collection, Image, NearDuplicate
from catalog.vision.helper import children
from tests.cast import Cast, make_image
from tests.catalog.admin.staff import staff_client, told
from tests.catalog.api.conftest import cast
from tests.drawn import photo
from tests.library import put_image

__all__ = ["cast"]
pytestmark = pytest.mark.django_db
PAGE = "/admin/catalog/nearduplicate/"
HELD = {"status": "held", "held_for": "near-duplicate", "reason": "It looks like another one."}


@pytest.fixture
def editor(cast: Cast) -> Client:
    return staff_client(cast, "editor")


def pair(collection: Collection, number: int = 1, **facts: object) -> NearDuplicate:
    other = make_image(collection, title=f"old {number}")
    image = make_image(collection, title=f"new {number}", **{**HELD, **facts})
    return NearDuplicate.objects.create(image=image, other=other, distance=3)


def shown(client: Client, **narrowed: object) -> list[NearDuplicate]:
    answer = client.get(PAGE, narrowed)
    assert answer.status_code == 200
    return list(answer.context["page"].object_list)


def choose(client: Client, path: str = PAGE, **sent: Any) -> Any:
    return client.post(path, sent, follow=True)


def test_both_images_are_shown_with_what_tells_them_apart(cast: Cast, editor: Client) -> None:
    noted = pair(cast.private)
    pair(cast.foreign)
    page = editor.get(PAGE).content.decode()
    assert "Nearly the same" in page
    for words in ("new 1", "old 1", "640 x 480 pixels", "held: nothing has run on it yet"):
        assert words in page
    assert reverse("image-rendition", args=[noted.other_id, 320]) in page
    assert reverse("admin:catalog_nearduplicate_preview", args=[noted.image_id]) in page
    assert shown(editor) == [noted]


def test_the_sidebar_counts_what_waits_in_ones_own_collections(cast: Cast, editor: Client) -> None:
    index = reverse("admin:index")
    assert "vs-badge" not in editor.get(index).content.decode()
    decided = pair(cast.private)
    NearDuplicate.objects.filter(pk=decided.pk).update(decision="keep")
    for number in range(3):
        pair(cast.private, number)
    pair(cast.foreign)
    assert '<span class="vs-badge">3</span>' in editor.get(index).content.decode()


def test_nothing_to_choose(cast: Cast, editor: Client) -> None:
    assert "Nothing to choose: no image waits for it." in editor.get(PAGE).content.decode()


def test_narrowed_to_a_collection_and_in_pages(cast: Cast, editor: Client) -> None:
    mine = [pair(cast.private, number) for number in range(21)]
    public = pair(cast.public)
    assert shown(editor, collection=cast.public.pk) == [public]
    assert shown(editor, collection=cast.private.pk) == mine[:20]
    assert shown(editor, collection=cast.private.pk, page=2) == mine[20:]
    assert "page=2" in editor.get(PAGE).content.decode()
    for other in (cast.foreign.pk, "7"):
        assert editor.get(PAGE, {"collection": other}).status_code == 404


def test_a_page_costs_the_same_for_one_pair_and_for_many(
    cast: Cast, editor: Client, django_assert_num_queries: Any
) -> None:
    pair(cast.private)
    editor.get(PAGE)
    with CaptureQueriesContext(connection) as few:
        editor.get(PAGE)
    for number in range(9):
        pair(cast.private, number)
    with django_assert_num_queries(len(few)):
        editor.get(PAGE)


def test_keeping_and_linking_take_one_press_and_lead_back_to_the_same_page(cast: Cast, editor: Client) -> None:
    kept, linked = pair(cast.private), pair(cast.private, 2)
    same = f"{PAGE}?collection={cast.private.pk}"
    answer = choose(editor, same, one=f"keep {kept.pk}")
    assert answer.redirect_chain == [(same, 302)]
    assert told(answer) == "Keep both: done for 1 pair."
    choose(editor, same, one=f"version {linked.pk}")
    kept.refresh_from_db(), linked.refresh_from_db()
    assert (kept.decision, linked.decision) == ("keep", "version")
    assert Image.objects.get(pk=linked.image_id).version_of == linked.other
    assert shown(editor) == []


def test_several_at_once(cast: Cast, editor: Client) -> None:
    pairs = [pair(cast.private, number) for number in range(3)]
    answer = choose(editor, all="keep", noted=[str(noted.pk) for noted in pairs[:2]])
    assert told(answer) == "Keep both: done for 2 pairs."
    assert shown(editor) == pairs[2:]
    assert told(choose(editor, all="keep")) == "Tick at least one pair first."


@pytest.mark.parametrize(("choice", "stays"), [("replace", "new 1"), ("discard", "old 1")])
def test_what_deletes_an_image_is_asked_about_first(cast: Cast, editor: Client, choice: str, stays: str) -> None:
    noted = pair(cast.private)
    asked = choose(editor, one=f"{choice} {noted.pk}")
    assert "<strong>1 image</strong> will be deleted" in asked.content.decode()
    assert Image.objects.count() == 2
    answer = choose(editor, all=choice, noted=str(noted.pk), apply="1")
    assert "done for 1 pair" in told(answer)
    assert [image.title for image in Image.objects.all()] == [stays]


def test_who_may_not_delete_images_is_not_offered_to(cast: Cast) -> None:
    client = staff_client(cast, "editor")
    group = cast.editor.groups.get(name="editors")
    group.permissions.remove(*group.permissions.filter(codename="delete_image"))
    noted = pair(cast.private)
    page = client.get(PAGE).content.decode()
    assert "Keep both" in page
    assert "Discard the new one" not in page
    assert client.post(PAGE, {"all": "discard", "noted": str(noted.pk), "apply": "1"}).status_code == 403
    assert Image.objects.count() == 2


def test_what_somebody_else_decided_or_deleted_meanwhile_is_said(cast: Cast, editor: Client) -> None:
    decided, gone, foreign = pair(cast.private), pair(cast.private, 2), pair(cast.foreign)
    NearDuplicate.objects.filter(pk=decided.pk).update(decision="keep")
    gone.other.delete()
    answer = choose(editor, all="keep", noted=[str(each.pk) for each in (decided, gone, foreign)])
    assert "3 pairs were left alone: somebody has decided already" in told(answer)
    foreign.refresh_from_db()
    assert foreign.decision == ""


def test_what_cannot_be_done_is_said_for_each_pair(cast: Cast, editor: Client) -> None:
    first = pair(cast.private)
    second = NearDuplicate.objects.create(image=first.image, other=make_image(cast.private, title="third"), distance=4)
    answer = choose(editor, all="version", noted=[str(first.pk), str(second.pk)])
    assert "new 1 and third: new 1 is a version of old 1 already" in told(answer)


@pytest.mark.parametrize(
    "sent", [{}, {"one": "burn 7"}, {"one": "keep"}, {"one": "keep 7"}, {"all": "x", "noted": "\0"}]
)
def test_what_no_page_sends_changes_nothing(cast: Cast, editor: Client, sent: dict[str, str]) -> None:
    noted = pair(cast.private)
    assert editor.post(PAGE, sent).status_code == 302
    noted.refresh_from_db()
    assert noted.decision == ""


def test_names_are_escaped(cast: Cast, editor: Client) -> None:
    noted = pair(cast.private)
    Image.objects.filter(pk=noted.image_id).update(title="<script>alert(1)</script>")
    for path in (PAGE, reverse("admin:catalog_image_change", args=[noted.other_id])):
        assert "<script>alert(1)" not in editor.get(path).content.decode()


def test_an_image_that_is_held_can_be_seen_though_nothing_ran_on_it(cast: Cast, editor: Client, media: object) -> None:
    image = put_image(cast.private, photo(1))
    answer = editor.get(reverse("admin:catalog_nearduplicate_preview", args=[image.pk]))
    assert (answer.status_code, answer["Content-Type"]) == (200, "image/webp")
    assert answer.content[8:12] == b"WEBP"
    lost = make_image(cast.private, **HELD)
    assert editor.get(reverse("admin:catalog_nearduplicate_preview", args=[lost.pk])).status_code == 404


def test_a_preview_that_cannot_be_made_now_is_asked_for_again(
    cast: Cast, editor: Client, media: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = put_image(cast.private, photo(1))
    address = reverse("admin:catalog_nearduplicate_preview", args=[image.pk])
    children.end_all()
    with monkeypatch.context() as patch:
        patch.setattr(children, "_COMMAND", ("/nowhere/python",))
        answer = editor.get(address)
    assert (answer.status_code, answer["Retry-After"]) == (503, "2")
    assert editor.get(address).status_code == 200


def test_previews_leave_a_turn_to_whoever_searches(
    cast: Cast, editor: Client, media: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = reverse("admin:catalog_nearduplicate_preview", args=[put_image(cast.private, photo(1)).pk])
    monkeypatch.setattr(decoding, "PATIENCE", 0.01)
    with ExitStack() as others:
        for _ in range(decoding.AT_ONCE - 1):
            others.enter_context(decoding.spare_slot())
        assert editor.get(address).status_code == 503
        others.enter_context(decoding.decoding_slot())
    assert editor.get(address).status_code == 200


def test_an_images_page_says_what_it_looks_like_and_of_what_it_is_a_version(cast: Cast, editor: Client) -> None:
    noted = pair(cast.private)

    def page(image: Image) -> str:
        return editor.get(reverse("admin:catalog_image_change", args=[image.pk])).content.decode()

    assert "Looks like" in page(noted.image)
    assert "old 1" in page(noted.image)
    assert "(nearly the same)" in page(noted.other)
    choose(editor, one=f"version {noted.pk}")
    assert "A version of" in page(noted.image)
    assert "Versions of it" in page(noted.other)
    assert "Looks like" not in page(noted.image)
    answer = editor.post(reverse("admin:catalog_nearduplicate_unlink", args=[noted.image_id]), follow=True)
    assert told(answer) == "new 1 is an image of its own again."
    assert "A version of" not in page(noted.image)


def test_who_may_not_choose_is_not_led_to_the_choices(cast: Cast) -> None:
    noted = pair(cast.private)
    client = staff_client(cast, "editor")
    address = reverse("admin:catalog_image_change", args=[noted.image_id])
    link = f"{PAGE}?collection={cast.private.pk}"
    assert link in client.get(address).content.decode()
    group = cast.editor.groups.get(name="editors")
    group.permissions.remove(*group.permissions.filter(codename="change_image"))
    page = client.get(address).content.decode()
    assert "Looks like" in page
    assert link not in page
