from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.http import HttpRequest
from django.urls import reverse

from catalog.admin.people import PersonAdmin
from catalog.curation.errors import NAME_TAKEN
from catalog.curation.faces import unname_face
from catalog.curation.people import merge_people, rename_person
from catalog.models import FaceRejection, Person, PersonMerge, Region
from tests.cast import Cast, make_face, make_image
from tests.catalog.admin.staff import staff_client, told
from tests.catalog.api.conftest import cast

__all__ = ["cast"]
pytestmark = pytest.mark.django_db
LIST = reverse("admin:catalog_person_changelist")


def page(person: Person) -> str:
    return reverse("admin:catalog_person_change", args=[person.pk])


def merge_url(person: Person) -> str:
    return reverse("admin:catalog_person_merge", args=[person.pk])


def named(cast: Cast, name: str, collection: str = "private", faces: int = 1) -> Person:
    person = Person.objects.get_or_create(name=name)[0]
    for _ in range(faces):
        make_face(make_image(getattr(cast, collection)), person)
    return person


def test_the_list_shows_who_is_named_in_ones_collections(cast: Cast) -> None:
    named(cast, "Ada", faces=2), named(cast, "Ada", "foreign"), named(cast, "Eve", "foreign"), named(cast, "King")
    merge_people(Person.objects.get(name="Ada"), Person.objects.get(name="King"), cast.superuser)
    for who, people in (
        ("editor", {"Ada": 3}),
        ("other_editor", {"Ada": 1, "Eve": 1}),
        ("superuser", {"Ada": 4, "Eve": 1}),
    ):
        shown = staff_client(cast, who).get(LIST).context["cl"].result_list
        assert {person.name: person.face_count for person in shown} == people, who


@pytest.mark.parametrize(("who", "found"), [("superuser", ["Ada"]), ("editor", [])])
def test_searching_finds_for_superusers_also_by_the_name_before_a_merge(cast: Cast, who: str, found: list[str]) -> None:
    ada, eve = named(cast, "Ada"), named(cast, "Eve", "foreign")
    named(cast, "Grace")
    merge_people(ada, eve, cast.superuser)
    shown = staff_client(cast, who).get(LIST, {"q": "eve"}).context["cl"].result_list
    assert [person.name for person in shown] == found


def history(person: Person) -> str:
    return reverse("admin:catalog_person_history", args=[person.pk])


@pytest.mark.parametrize("elsewhere", [True, False], ids=["still-named-there", "no-longer-named-there"])
def test_names_of_other_collections_are_not_read_in_the_history_of_merges(cast: Cast, elsewhere: bool) -> None:
    ada, zenobia = named(cast, "Ada"), named(cast, "Zenobia", "foreign")
    merge = merge_people(ada, zenobia, cast.superuser)
    if not elsewhere:
        unname_face(Region.objects.get(image__collection=cast.foreign), cast.superuser)
    client = staff_client(cast, "editor")
    undo = reverse("admin:catalog_person_undo", args=[ada.pk, merge.pk])
    for answer in (client.get(page(ada)), client.get(history(ada), follow=True)):
        assert answer.status_code == 200
        assert "Zenobia" not in answer.content.decode()
    assert "Ask an administrator" in told(client.get(history(ada), follow=True))
    assert client.post(undo).status_code == 404
    for address in (page(ada), history(ada)):
        assert "Zenobia" in staff_client(cast, "superuser").get(address).content.decode()


def test_who_edits_all_of_it_reads_the_history_of_merges(cast: Cast) -> None:
    ada = named(cast, "Ada")
    merge_people(ada, named(cast, "King"), cast.superuser)
    client = staff_client(cast, "editor")
    assert "Took in King, with 1 face." in client.get(history(ada)).content.decode()
    assert "Undo: King became Ada" in client.get(page(ada)).content.decode()


def may_delete_people(cast: Cast) -> None:
    """What the group of editors may not by itself."""
    cast.editor.groups.get().permissions.add(Permission.objects.get(codename="delete_person"))


def test_deleting_a_person_says_whose_faces_lose_their_name(cast: Cast) -> None:
    may_delete_people(cast)
    ada = named(cast, "Ada", faces=2)
    merge_people(ada, named(cast, "King"), cast.editor)
    named(cast, "Grace")
    address = reverse("admin:catalog_person_delete", args=[ada.pk])
    client = staff_client(cast, "editor")
    asked = client.get(address)
    assert dict(asked.context["model_count"]) == {"people": 2, "merges": 1, "faces that lose their name": 3}
    assert "The name of 3 faces. Faces and images themselves stay." in asked.content.decode()
    before = LogEntry.objects.count()
    assert client.post(address, {"post": "yes"}).status_code == 302
    assert [person.name for person in Person.objects.all()] == ["Grace"]
    assert Region.objects.filter(person=None).count() == 3
    assert LogEntry.objects.count() == before + 1
    assert LogEntry.objects.latest("pk").get_change_message() == "Deleted; 3 faces lost the name."


def test_a_superuser_deletes_somebody_who_took_in_others_and_reads_whom(cast: Cast) -> None:
    ada = named(cast, "Ada")
    merge_people(ada, named(cast, "Eve", "foreign"), cast.superuser)
    may_delete_people(cast)
    address = reverse("admin:catalog_person_delete", args=[ada.pk])
    assert staff_client(cast, "editor").post(address, {"post": "yes"}).status_code == 403
    client = staff_client(cast, "superuser")
    assert "Eve, merged into Ada" in client.get(address).content.decode()
    assert client.post(address, {"post": "yes"}).status_code == 302
    assert not Person.objects.exists()
    assert Region.objects.count() == 2


def test_a_person_who_was_merged_a_moment_before_they_are_deleted(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    ada, king = named(cast, "Ada"), named(cast, "King")
    client = staff_client(cast, "superuser")

    def slow(admin: PersonAdmin, request: HttpRequest, queryset: object) -> list[object]:
        merge_people(ada, king, cast.superuser)
        return []

    monkeypatch.setattr("catalog.admin.people.PersonAdmin.log_deletions", slow)
    address = reverse("admin:catalog_person_delete", args=[king.pk])
    assert "Go on with Ada" in told(client.post(address, {"post": "yes"}, follow=True))
    assert Person.objects.count() == 2


def test_renaming_and_notes_are_logged_once(cast: Cast) -> None:
    ada = named(cast, "Ada")
    answer = staff_client(cast, "editor").post(page(ada), {"name": " Ada  Lovelace", "notes": "first"}, follow=True)
    assert answer.status_code == 200
    ada.refresh_from_db()
    assert (ada.name, ada.notes) == ("Ada Lovelace", "first")
    assert sorted(entry.get_change_message() for entry in LogEntry.objects.all()) == [
        "Changed the notes.",
        "Renamed from Ada to Ada Lovelace.",
    ]


def test_a_taken_name_is_refused_in_the_words_of_every_taken_name(cast: Cast) -> None:
    ada = named(cast, "Ada")
    named(cast, "Eve", "foreign")
    answer = staff_client(cast, "editor").post(page(ada), {"name": "Eve", "notes": ""})
    assert NAME_TAKEN in answer.content.decode()
    ada.refresh_from_db()
    assert ada.name == "Ada"


def test_who_is_also_named_elsewhere_is_looked_at_not_changed(cast: Cast) -> None:
    ada = named(cast, "Ada")
    named(cast, "Ada", "foreign")
    client = staff_client(cast, "editor")
    shown = client.get(page(ada))
    assert "You may look, not change" in shown.content.decode()
    assert len(shown.context["crops"]) == 1
    assert client.post(page(ada), {"name": "Mine", "notes": ""}).status_code == 403
    assert client.post(merge_url(ada), {"name": "Ada"}).status_code == 403


@pytest.mark.parametrize("who", ["other_editor", "viewer"])
def test_people_of_others_do_not_exist(cast: Cast, who: str) -> None:
    ada = named(cast, "Ada")
    face = Region.objects.get()
    client = staff_client(cast, who)
    assert client.get(page(ada)).status_code in (403, 404)
    assert client.get(merge_url(ada)).status_code == 404
    assert client.post(reverse("admin:catalog_person_reject", args=[ada.pk, face.pk])).status_code == 404
    assert not FaceRejection.objects.exists()


def test_an_address_that_is_none(cast: Cast) -> None:
    client = staff_client(cast, "superuser")
    assert client.get(f"{LIST}{uuid4()}/change/").status_code == 404
    assert client.get(f"{LIST}nobody/change/").status_code == 404


def test_not_this_person_on_a_crop(cast: Cast) -> None:
    ada = named(cast, "Ada")
    face = Region.objects.get()
    client = staff_client(cast, "editor")
    assert f"{face.image_id}/rendition/" in client.get(page(ada)).content.decode()
    client.post(reverse("admin:catalog_person_reject", args=[ada.pk, face.pk]))
    face.refresh_from_db()
    assert face.person is None
    assert FaceRejection.objects.get().person == ada


def test_two_people_are_compared_merged_and_parted_again(cast: Cast) -> None:
    ada, king = named(cast, "Ada"), named(cast, "King", faces=2)
    client = staff_client(cast, "editor")
    asked = client.post(LIST, {"action": "merge", "_selected_action": [str(ada.pk), str(king.pk)]}, follow=True)
    assert [side["count"] for side in asked.context["sides"]] == [1, 2]
    assert not PersonMerge.objects.exists()
    done = client.post(merge_url(ada), {"with": str(king.pk), "kept": str(king.pk)}, follow=True)
    assert told(done) == "Ada is King now. The merge can be undone below."
    assert king.regions.count() == 3
    undone = client.post(
        reverse("admin:catalog_person_undo", args=[king.pk, PersonMerge.objects.get().pk]), follow=True
    )
    assert told(undone) == "Ada is a person again."
    assert (ada.regions.count(), king.regions.count()) == (1, 2)
    again = client.post(reverse("admin:catalog_person_undo", args=[king.pk, PersonMerge.objects.get().pk]), follow=True)
    assert "undone already" in told(again)


def test_merging_by_name_from_the_page(cast: Cast) -> None:
    ada = named(cast, "Ada")
    named(cast, "King"), named(cast, "Eve", "foreign")
    client = staff_client(cast, "editor")
    assert client.get(merge_url(ada), {"name": " king "}).context["other"].name == "King"
    for name, words in (("Eve", "nobody of this name"), ("Nemo", "nobody of this name"), ("Ada", "one and the same")):
        assert words in told(client.get(merge_url(ada), {"name": name}, follow=True))


def test_whoever_comes_back_from_logging_in_is_told_that_nothing_was_done(cast: Cast) -> None:
    ada, king = named(cast, "Ada"), named(cast, "King")
    merge = merge_people(ada, king, cast.editor)
    client = staff_client(cast, "editor")
    for address, words in (
        (merge_url(ada), "Nothing was merged."),
        (reverse("admin:catalog_person_undo", args=[ada.pk, merge.pk]), "Nothing was changed."),
        (reverse("admin:catalog_person_reject", args=[ada.pk, Region.objects.first().pk]), "Nothing was changed."),  # type: ignore[union-attr]
    ):
        back = client.get(address, follow=True)
        assert back.redirect_chain[-1][0].startswith(page(ada))
        assert words in told(back)


def test_not_this_person_is_not_said_of_whoever_the_face_is_by_now(cast: Cast) -> None:
    ada, king = named(cast, "Ada"), named(cast, "King")
    face = Region.objects.get(person=king)
    merge_people(ada, king, cast.superuser)
    client = staff_client(cast, "editor")
    answer = client.post(reverse("admin:catalog_person_reject", args=[king.pk, face.pk]), follow=True)
    assert "it is named Ada now" in told(answer)
    face.refresh_from_db()
    assert face.person == ada


@pytest.mark.parametrize("count", [1, 3])
def test_merging_takes_two(cast: Cast, count: int) -> None:
    keys = [str(named(cast, f"Number {number}").pk) for number in range(count)]
    answer = staff_client(cast, "editor").post(LIST, {"action": "merge", "_selected_action": keys}, follow=True)
    assert "exactly two" in told(answer)


def test_the_address_of_somebody_merged_says_who_they_are_now(cast: Cast) -> None:
    ada, king = named(cast, "Ada"), named(cast, "King")
    client = staff_client(cast, "editor")
    assert client.get(page(king)).status_code == 200
    merge_people(ada, king, cast.superuser)
    shown = client.get(page(king)).content.decode()
    assert "King was merged into" in shown
    assert f'href="{page(ada)}"' in shown
    saved = client.post(page(king), {"name": "Countess", "notes": ""}, follow=True)
    assert "Nothing was saved: King was merged into Ada meanwhile." in told(saved)
    assert staff_client(cast, "other_editor").get(page(king)).status_code == 404


def test_a_name_that_somebody_else_took_a_moment_ago(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    ada, king = named(cast, "Ada"), named(cast, "King")
    client = staff_client(cast, "editor")
    monkeypatch.setattr(
        "catalog.admin.people.PersonForm.validate_unique", lambda form: rename_person(king, "Queen", cast.superuser)
    )
    assert told(client.post(page(ada), {"name": "Queen", "notes": ""}, follow=True)) == NAME_TAKEN


def test_the_list_costs_the_same_for_one_and_for_many(cast: Cast, django_assert_max_num_queries: Any) -> None:
    client = staff_client(cast, "editor")
    for number in range(6):
        named(cast, f"Number {number}", faces=2)
        with django_assert_max_num_queries(12):
            assert len(client.get(LIST).context["cl"].result_list) == number + 1


def test_a_page_costs_the_same_for_one_face_and_for_many(cast: Cast, django_assert_max_num_queries: Any) -> None:
    client, ada = staff_client(cast, "editor"), named(cast, "Ada")
    for number in range(5):
        merge_people(ada, named(cast, f"Number {number}", faces=2), cast.editor)
        with django_assert_max_num_queries(22):
            assert len(client.get(page(ada)).context["crops"]) == 1 + 2 * (number + 1)


def test_the_log_is_read_by_superusers_and_written_by_nobody(cast: Cast) -> None:
    rename_person(named(cast, "Ada"), "<b>Ada</b>", cast.editor)
    log = reverse("admin:admin_logentry_changelist")
    client = staff_client(cast, "superuser")
    shown = client.get(log).content.decode()
    assert "Renamed from Ada to &lt;b&gt;Ada&lt;/b&gt;." in shown
    assert client.get(reverse("admin:admin_logentry_add")).status_code == 403
    entry = LogEntry.objects.get()
    assert client.post(reverse("admin:admin_logentry_delete", args=[entry.pk]), {"post": "yes"}).status_code == 403
    assert staff_client(cast, "editor").get(log).status_code == 403
