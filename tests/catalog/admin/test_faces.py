"""The faces on an image's page in the admin: what its script and its plain forms send, and what they get."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from catalog.curation.errors import NAME_TAKEN
from catalog.curation.faces import name_face, reject_person
from catalog.curation.people import merge_people
from catalog.models import Collection, FaceRejection, Image, Person, Region
from tests.cast import Cast, make_face, make_image
from tests.catalog.admin.staff import staff_client, told
from tests.catalog.api.conftest import cast
from tests.library import process_all, ready, squares

__all__ = ["cast"]
pytestmark = pytest.mark.django_db
JSON = {"headers": {"accept": "application/json"}}
HTML = {"headers": {"accept": "text/html"}}


def url(face: Region, action: str) -> str:
    return reverse("admin:catalog_image_face", args=[face.image_id, face.pk, action])


def page(image: Image) -> str:
    return reverse("admin:catalog_image_change", args=[image.pk])


def test_the_script_names_a_face_and_gets_the_new_state(cast: Cast) -> None:
    face = make_face(make_image(cast.private))
    answer = staff_client(cast, "editor").post(url(face, "name"), {"name": "Ada", "seen": ""}, **JSON)
    assert answer.status_code == 200
    [shown] = answer.json()["faces"]
    assert (shown["name"], shown["score"], shown["title"]) == ("Ada", "90%", "Face 1 of 1")
    assert answer.json()["message"] == "The name is saved."


def test_a_plain_form_names_a_face_and_comes_back_to_the_page(cast: Cast) -> None:
    face = make_face(make_image(cast.private))
    client = staff_client(cast, "editor")
    shown = client.get(page(face.image)).content.decode()
    assert f'action="{url(face, "name")}"' in shown
    answer = client.post(url(face, "name"), {"name": "Ada", "seen": ""}, follow=True, **HTML)
    assert answer.redirect_chain[-1][0] == f"{page(face.image)}#faces"
    assert told(answer) == "The name is saved."
    assert 'value="Ada"' in answer.content.decode()


def test_the_second_of_two_editors_reads_who_was_faster(cast: Cast) -> None:
    face = make_face(make_image(cast.private))
    for name, words, status in (("editor", "The name is saved.", 200), ("superuser", "it is named Ada now", 409)):
        said = {"name": "Ada" if name == "editor" else "Grace", "seen": ""}
        answer = staff_client(cast, name).post(url(face, "name"), said, **JSON)
        assert answer.status_code == status
        assert words in answer.json()["message"] + answer.json()["error"]
        assert answer.json()["faces"][0]["name"] == "Ada"


@pytest.mark.parametrize(
    ("name", "words"), [("", "Write a name."), ("x" * 201, "200 are the most"), ("Eve", NAME_TAKEN)]
)
def test_names_that_cannot_be_are_refused_in_words(cast: Cast, name: str, words: str) -> None:
    make_face(make_image(cast.foreign), Person.objects.create(name="Eve"))
    face = make_face(make_image(cast.private))
    answer = staff_client(cast, "editor").post(url(face, "name"), {"name": name}, **JSON)
    assert answer.status_code == 409
    assert words in answer.json()["error"]
    face.refresh_from_db()
    assert face.person is None


def test_markup_in_a_name_is_shown_as_text(cast: Cast) -> None:
    face = make_face(make_image(cast.private))
    client = staff_client(cast, "editor")
    client.post(url(face, "name"), {"name": "<script>alert(1)</script>"}, **JSON)
    shown = client.get(page(face.image)).content.decode()
    assert "<script>alert" not in shown
    assert "&lt;script&gt;alert" in shown


def test_a_suggested_person_is_taken_by_key_and_followed_when_merged(cast: Cast) -> None:
    ada, king = Person.objects.create(name="Ada"), Person.objects.create(name="King")
    for person in (ada, king):
        make_face(make_image(cast.private), person)
    merge_people(ada, king, cast.superuser)
    face = make_face(make_image(cast.private))
    answer = staff_client(cast, "editor").post(url(face, "name"), {"person": str(king.pk)}, **JSON)
    assert answer.json()["faces"][0]["name"] == "Ada"


@pytest.mark.parametrize("key", ["not a key", "0193a1b2-0000-7000-8000-00000000dead", "foreign"])
def test_people_whom_one_may_not_see_cannot_be_taken_by_key(cast: Cast, key: str) -> None:
    eve = Person.objects.create(name="Eve")
    make_face(make_image(cast.foreign), eve)
    face = make_face(make_image(cast.private))
    said = {"person": str(eve.pk) if key == "foreign" else key}
    for action in ("name", "reject"):
        answer = staff_client(cast, "editor").post(url(face, action), said, **JSON)
        assert (answer.status_code, answer.json()["error"]) == (409, "This person does not exist any more. Look again.")


def test_not_this_person_not_a_face_and_back(cast: Cast) -> None:
    ada = Person.objects.create(name="Ada")
    face = make_face(make_image(cast.private), ada)
    client = staff_client(cast, "editor")
    assert client.post(url(face, "dismiss"), **JSON).json()["faces"][0]["dismissed"]
    assert not client.post(url(face, "restore"), **JSON).json()["faces"][0]["dismissed"]
    assert client.post(url(face, "reject"), {"seen": str(ada.pk)}, **JSON).json()["faces"][0]["name"] == ""
    assert FaceRejection.objects.get().person == ada
    for said in ({}, {"seen": ""}):
        assert "nobody whom it is not" in client.post(url(face, "reject"), said, **JSON).json()["error"]


@pytest.mark.parametrize("action", ["reject", "unname", "delete"])
def test_a_button_acts_on_whom_the_page_showed(cast: Cast, action: str) -> None:
    ada = Person.objects.create(name="Ada")
    face = make_face(make_image(cast.private), ada)
    client = staff_client(cast, "editor")
    shown = client.get(page(face.image)).content.decode()
    form = shown.partition(f'action="{url(face, action)}"')[2].partition("</form>")[0]
    assert f'name="seen" value="{ada.pk}"' in form
    name_face(face, "Grace", cast.superuser)
    answer = client.post(url(face, action), {"seen": str(ada.pk)}, **JSON)
    assert (answer.status_code, "named Grace now" in answer.json()["error"]) == (409, True)
    face.refresh_from_db()
    assert (str(face.person), face.dismissed) == ("Grace", False)
    assert not FaceRejection.objects.exists()


def test_the_name_of_whom_the_page_showed_is_taken_off(cast: Cast) -> None:
    ada = Person.objects.create(name="Ada")
    face = make_face(make_image(cast.private), ada)
    answer = staff_client(cast, "editor").post(url(face, "unname"), {"seen": str(ada.pk)}, follow=True, **HTML)
    assert told(answer) == "The name was taken off."
    face.refresh_from_db()
    assert face.person is None


@pytest.mark.parametrize("action", ["name", "reject", "unname", "delete"])
def test_a_page_that_does_not_say_whom_it_showed(cast: Cast, action: str) -> None:
    face = make_face(make_image(cast.private), Person.objects.create(name="Ada"))
    answer = staff_client(cast, "editor").post(url(face, action), {"name": "Grace", "seen": "Ada"}, **JSON)
    assert (answer.status_code, "Reload it" in answer.json()["error"]) == (409, True)
    face.refresh_from_db()
    assert (str(face.person), face.dismissed) == ("Ada", False)


def test_drawing_moving_and_deleting(shop: Collection, cast: Cast) -> None:
    image = ready(shop, squares((20, 30, 40, "red")))
    client = staff_client(cast, "superuser")
    box = {"x": "100", "y": "60.5", "width": "40", "height": "40"}
    drawn = client.post(reverse("admin:catalog_image_draw", args=[image.pk]), box, **JSON).json()
    assert drawn["working"]
    assert drawn["made"] in [face["id"] for face in drawn["faces"]]
    process_all()
    state = client.get(reverse("admin:catalog_image_faces", args=[image.pk])).json()
    assert (state["working"], [face["embedded"] for face in state["faces"]]) == (False, [True, True])
    made = Region.objects.get(pk=drawn["made"])
    moved = client.post(url(made, "move"), {**box, "x": "110"}, **JSON).json()
    assert [face["x"] for face in moved["faces"]] == [20, 110]
    assert len(client.post(url(made, "delete"), **JSON).json()["faces"]) == 1
    gone = client.post(url(made, "name"), {"name": "Ada"}, **JSON)
    assert (gone.status_code, "is gone" in gone.json()["error"]) == (409, True)


@pytest.mark.parametrize(
    "box", [{}, {"x": "a", "y": "1", "width": "1", "height": "1"}, dict.fromkeys(("x", "y", "width", "height"), "nan")]
)
def test_a_box_without_numbers(cast: Cast, box: dict[str, str]) -> None:
    face = make_face(make_image(cast.private))
    answer = staff_client(cast, "editor").post(url(face, "move"), box, **JSON)
    assert answer.status_code == 409
    assert "needs four numbers" in answer.json()["error"]


def test_a_failure_is_told_and_processed_again(shop: Collection, cast: Cast) -> None:
    image = ready(shop, squares((20, 30, 40, "red")))
    Image.objects.filter(pk=image.pk).update(status="failed", reason="Its file is gone from the originals.")
    client = staff_client(cast, "superuser")
    assert "Processing failed. Its file is gone" in client.get(page(image)).content.decode()
    answer = client.post(reverse("admin:catalog_image_process", args=[image.pk]), follow=True, **HTML)
    assert told(answer) == "The image waits to be processed again."
    process_all()
    image.refresh_from_db()
    assert image.status == "ready"


def test_the_page_tells_where_each_embedding_comes_from(shop: Collection, cast: Cast) -> None:
    image = ready(shop, squares((20, 30, 40, "red")))
    sources = staff_client(cast, "superuser").get(page(image)).context["faces"]["state"]["embeddings"]
    assert {(row[0], row[1]) for row in sources} == {("face", "face 1"), ("image", "the whole image")}
    assert {row[4] for row in sources} == {"8"}


def test_names_are_offered_of_people_whom_one_may_see(cast: Cast) -> None:
    for name, collection in (("Ada", cast.private), ("Adam", cast.foreign)):
        make_face(make_image(collection), Person.objects.create(name=name))
    address = reverse("admin:catalog_image_people")
    client = staff_client(cast, "editor")
    assert client.get(address, {"q": " ad\0 "}).json() == {"people": ["Ada"]}
    assert client.get(address).json() == {"people": []}


def addresses(face: Region) -> list[tuple[str, str]]:
    image = face.image_id
    acts = [("post", url(face, action)) for action in ("name", "dismiss", "move", "delete")]
    return [
        *acts,
        ("post", reverse("admin:catalog_image_draw", args=[image])),
        ("post", reverse("admin:catalog_image_process", args=[image])),
        ("get", reverse("admin:catalog_image_faces", args=[image])),
        ("get", reverse("face-suggestions", args=[face.pk])),
    ]


@pytest.mark.parametrize(("who", "status"), [("other_editor", 404), ("viewer", 404)])
def test_what_one_may_not_edit_does_not_exist(cast: Cast, who: str, status: int) -> None:
    face = make_face(make_image(cast.private))
    client = staff_client(cast, who)
    for method, address in addresses(face):
        assert getattr(client, method)(address, {"name": "Ada"}, **JSON).status_code == status, address
    assert client.get(page(face.image)).status_code == (404 if who == "other_editor" else 403)
    face.refresh_from_db()
    assert (face.person, face.dismissed) == (None, False)


def test_whoever_is_not_logged_in_is_sent_to_log_in(cast: Cast) -> None:
    face = make_face(make_image(cast.private))
    for method, address in addresses(face):
        answer = getattr(Client(), method)(address, **JSON)
        assert (answer.status_code, answer.headers["Location"].partition("?")[0]) == (302, reverse("admin:login"))


def test_an_editor_without_the_permission_may_not(cast: Cast) -> None:
    face = make_face(make_image(cast.private))
    client = staff_client(cast, "editor")
    cast.editor.groups.get().permissions.clear()
    assert client.post(url(face, "name"), {"name": "Ada"}, **JSON).status_code == 403


def test_changes_need_a_post_and_its_token(cast: Cast) -> None:
    face = make_face(make_image(cast.private), Person.objects.create(name="Ada"))
    client = staff_client(cast, "editor")
    assert client.get(url(face, "dismiss")).headers["Location"] == page(face.image)
    client.handler.enforce_csrf_checks = True
    assert client.post(url(face, "dismiss")).status_code == 403
    face.refresh_from_db()
    assert not face.dismissed


def test_an_action_that_does_not_exist(cast: Cast) -> None:
    assert staff_client(cast, "editor").post(url(make_face(make_image(cast.private)), "sell")).status_code == 404


def test_a_face_of_another_image_is_none_of_this_one(cast: Cast) -> None:
    face, other = make_face(make_image(cast.foreign)), make_image(cast.private)
    address = reverse("admin:catalog_image_face", args=[other.pk, face.pk, "dismiss"])
    assert "is gone" in staff_client(cast, "editor").post(address, **JSON).json()["error"]
    face.refresh_from_db()
    assert not face.dismissed


def test_the_page_costs_the_same_for_one_face_and_for_many(cast: Cast, django_assert_max_num_queries: Any) -> None:
    image, client = make_image(cast.private), staff_client(cast, "editor")
    for number in range(6):
        face = make_face(image, Person.objects.create(name=f"Number {number}"))
        reject_person(face, Person.objects.create(name=f"Not {number}"), cast.editor)
        with django_assert_max_num_queries(20):
            assert client.get(page(image)).status_code == 200
