from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.db import transaction

from catalog.api.serializers import NAME_TAKEN
from catalog.curation.people import merge_people
from catalog.models import Image, Person, Region
from tests.cast import Cast, assert_problem, make_face, make_image
from tests.library import InThread, wait_until_somebody_waits_for_a_lock

pytestmark = pytest.mark.django_db
REGIONS, PEOPLE_URL = "/api/v1/regions/", "/api/v1/people/"


def test_regions_of_an_image(cast: Cast) -> None:
    image = make_image(cast.private)
    faces = {str(make_face(image).pk), str(make_face(image).pk)}
    make_face(make_image(cast.private))
    found = cast.client("viewer").get(f"{REGIONS}?image={image.pk}").json()["results"]
    assert {row["id"] for row in found} == faces
    assert {row["image"] for row in found} == {str(image.pk)}


def test_regions_by_person_and_kind(cast: Cast) -> None:
    image = make_image(cast.private)
    named, unnamed = make_face(image, Person.objects.create(name="Ada")), make_face(image, dismissed=True)
    frame = make_face(image, pipeline="image")
    for query, region in ((f"person={named.person_id}", named), ("pipeline=image", frame), ("dismissed=true", unnamed)):
        found = cast.client("editor").get(f"{REGIONS}?{query}").json()["results"]
        assert [row["id"] for row in found] == [str(region.pk)], query


def test_a_list_of_regions_costs_the_same_for_one_and_for_many(cast: Cast, django_assert_num_queries: Any) -> None:
    client = cast.client("editor")
    for number in range(8):
        make_face(make_image(cast.private), Person.objects.create(name=f"Number {number}"))
        with django_assert_num_queries(4):  # token, other tokens, groups, regions with image and person
            assert len(client.get(REGIONS).json()["results"]) == number + 1


def test_naming_a_face_makes_the_person_once(cast: Cast) -> None:
    client = cast.client("editor")
    for face in (make_face(make_image(cast.private)), make_face(make_image(cast.private))):
        body = client.patch(f"{REGIONS}{face.pk}/", {"person_name": " Ada Lovelace "}).json()
        assert body["person"] == {"id": str(Person.objects.get().pk), "name": "Ada Lovelace"}
    assert [row["name"] for row in client.get(PEOPLE_URL).json()["results"]] == ["Ada Lovelace"]


def test_what_clients_change_is_in_the_log(cast: Cast) -> None:
    face, client = make_face(make_image(cast.private)), cast.client("editor")
    person = client.patch(f"{REGIONS}{face.pk}/", {"person_name": "Ada"}).json()["person"]["id"]
    client.patch(f"{PEOPLE_URL}{person}/", {"name": "Ada Lovelace"})
    client.patch(f"{REGIONS}{face.pk}/", {"dismissed": True})
    client.delete(f"/api/v1/images/{face.image_id}/")
    entries = LogEntry.objects.order_by("pk").values_list("user__username", "object_id", "change_message")
    assert list(entries) == [
        ("editor", str(face.image_id), "Named the face at 10,20 (30 x 40 px) Ada."),
        ("editor", person, "Renamed from Ada to Ada Lovelace."),
        (
            "editor",
            str(face.image_id),
            "Said that the face at 10,20 (30 x 40 px) (named Ada Lovelace) is not a face.",
        ),
        ("editor", str(face.image_id), "Deleted from private."),
    ]


def test_who_was_merged_is_gone_and_their_name_names_the_other(cast: Cast) -> None:
    ada, king = (make_face(make_image(cast.private), Person.objects.create(name=name)) for name in ("Ada", "King"))
    assert ada.person is not None
    assert king.person is not None
    merge_people(ada.person, king.person, cast.editor)
    client = cast.client("editor")
    assert [row["name"] for row in client.get(PEOPLE_URL).json()["results"]] == ["Ada"]
    assert_problem(client.get(f"{PEOPLE_URL}{king.person_id}/"), 404, "not-found")
    face = make_face(make_image(cast.private))
    assert client.patch(f"{REGIONS}{face.pk}/", {"person_name": "King"}).json()["person"]["name"] == "Ada"


def test_a_face_is_named_by_id_and_unnamed(cast: Cast) -> None:
    ada = make_face(make_image(cast.private), Person.objects.create(name="Ada")).person
    assert ada is not None
    face = make_face(make_image(cast.private))
    client = cast.client("editor")
    assert client.patch(f"{REGIONS}{face.pk}/", {"person": str(ada.pk)}).json()["person"]["name"] == "Ada"
    assert client.patch(f"{REGIONS}{face.pk}/", {"person": None}).json()["person"] is None


def test_dismissing_a_face_and_taking_it_back(cast: Cast) -> None:
    face = make_face(make_image(cast.private), Person.objects.create(name="Ada"))
    editor, viewer = cast.client("editor"), cast.client("viewer")
    assert editor.patch(f"{REGIONS}{face.pk}/", {"dismissed": True}).json()["dismissed"] is True
    assert viewer.get(f"{REGIONS}{face.pk}/").status_code == 404
    assert editor.patch(f"{REGIONS}{face.pk}/", {"dismissed": False}).json()["person"]["name"] == "Ada"
    assert viewer.get(f"{REGIONS}{face.pk}/").status_code == 200


@pytest.mark.django_db(transaction=True)
def test_a_name_given_while_the_image_is_processed_anew_is_kept(cast: Cast) -> None:
    face, client = make_face(make_image(cast.private)), cast.client("editor")
    with transaction.atomic():  # as catalog.processing does: lock the image, read its regions, write them
        Image.objects.select_for_update().get(pk=face.image_id)
        detected = Region.objects.get(pk=face.pk)
        naming = InThread(lambda: client.patch(f"{REGIONS}{face.pk}/", {"person_name": "Ada"}))
        wait_until_somebody_waits_for_a_lock()
        detected.save()
    assert naming.outcome().json()["person"]["name"] == "Ada"
    face.refresh_from_db()
    assert face.person == Person.objects.get(name="Ada")


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"persona": "Ada"}, "persona"),
        ({"person": "Ada"}, "person"),
        ({"person_name": ""}, "person_name"),
        ({"person_name": "x" * 201}, "person_name"),
        ({"person": None, "person_name": "Ada"}, "person_name"),
        ({"dismissed": "perhaps"}, "dismissed"),
        ([], "non_field_errors"),
    ],
)
def test_what_cannot_be_said_of_a_face(cast: Cast, said: Any, field: str) -> None:
    face = make_face(make_image(cast.private))
    body = assert_problem(cast.client("editor").patch(f"{REGIONS}{face.pk}/", said), 400, "invalid")
    assert list(body["errors"]) == [field]


def test_a_person_whom_one_may_not_see_cannot_be_taken_by_id(cast: Cast) -> None:
    stranger = Person.objects.create(name="Eve")
    make_face(make_image(cast.foreign), stranger)
    face = make_face(make_image(cast.private))
    for key in (stranger.pk, uuid4()):
        assert_problem(cast.client("editor").patch(f"{REGIONS}{face.pk}/", {"person": str(key)}), 404, "not-found")


def test_a_person_whom_one_may_not_see_cannot_be_taken_by_name(cast: Cast) -> None:
    stranger = Person.objects.create(name="Eve")
    make_face(make_image(cast.foreign), stranger)
    face = make_face(make_image(cast.private))
    response = cast.client("editor").patch(f"{REGIONS}{face.pk}/", {"person_name": "Eve"})
    assert assert_problem(response, 400, "invalid")["errors"] == {"person_name": [NAME_TAKEN]}
    assert str(stranger.pk) not in response.content.decode()
    face.refresh_from_db()
    assert face.person is None
    assert cast.client("superuser").patch(f"{REGIONS}{face.pk}/", {"person_name": "Eve"}).status_code == 200


@pytest.mark.parametrize("given_up", [{"person": None}, {"dismissed": True}])
def test_a_name_that_one_gave_up_can_be_given_again(cast: Cast, given_up: dict[str, Any]) -> None:
    client = cast.client("editor")
    face, other = make_face(make_image(cast.private)), make_face(make_image(cast.private))
    first = client.patch(f"{REGIONS}{face.pk}/", {"person_name": "Ada"}).json()["person"]
    assert client.patch(f"{REGIONS}{face.pk}/", given_up).status_code == 200
    assert client.patch(f"{REGIONS}{other.pk}/", {"person_name": "Ada"}).json()["person"] == first


def test_only_faces_are_named(cast: Cast) -> None:
    frame = make_face(make_image(cast.private), pipeline="image")
    response = cast.client("editor").patch(f"{REGIONS}{frame.pk}/", {"person_name": "Ada"})
    assert list(assert_problem(response, 400, "invalid")["errors"]) == ["person"]
    assert not Person.objects.exists()


def test_renaming_a_person(cast: Cast) -> None:
    ada = Person.objects.create(name="Ada")
    make_face(make_image(cast.private), ada)
    response = cast.client("editor").patch(f"{PEOPLE_URL}{ada.pk}/", {"name": "Ada Lovelace"})
    assert (response.status_code, response.json()["name"]) == (200, "Ada Lovelace")


def test_a_name_belongs_to_one_person_and_nobody_is_told_where(cast: Cast) -> None:
    people = {name: Person.objects.create(name=name) for name in ("Ada", "Grace", "Eve")}
    for name, collection in (("Ada", cast.private), ("Grace", cast.private), ("Eve", cast.foreign)):
        make_face(make_image(collection), people[name])
    for taken in ("Grace", "Eve"):
        response = cast.client("editor").patch(f"{PEOPLE_URL}{people['Ada'].pk}/", {"name": taken})
        assert assert_problem(response, 400, "invalid")["errors"] == {"name": [NAME_TAKEN]}


def test_a_person_named_elsewhere_is_not_renamed_by_one_side(cast: Cast) -> None:
    ada = Person.objects.create(name="Ada")
    make_face(make_image(cast.private), ada)
    make_face(make_image(cast.foreign), ada)
    response = cast.client("editor").patch(f"{PEOPLE_URL}{ada.pk}/", {"name": "Ada Lovelace"})
    assert_problem(response, 403, "permission-denied")
    assert cast.client("superuser").patch(f"{PEOPLE_URL}{ada.pk}/", {"name": "Ada L."}).status_code == 200


def test_people_by_a_part_of_their_name(cast: Cast) -> None:
    for name in ("Ada Lovelace", "Grace Hopper"):
        make_face(make_image(cast.private), Person.objects.create(name=name))
    found = cast.client("viewer").get(f"{PEOPLE_URL}?name=hop").json()["results"]
    assert [row["name"] for row in found] == ["Grace Hopper"]


def test_collections_by_name_and_by_what_one_may_do(cast: Cast) -> None:
    client = cast.client("other_editor")
    for query, names in (
        ("", {"public", "foreign"}),
        ("?name=public", {"public"}),
        ("?is_public=false", {"foreign"}),
        ("?editable=true", {"foreign"}),
        ("?editable=false", {"public"}),
    ):
        found = client.get(f"/api/v1/collections/{query}").json()["results"]
        assert {row["name"] for row in found} == names, query
