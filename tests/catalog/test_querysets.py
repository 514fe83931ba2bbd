"""Who sees what, for the cast of tests.cast."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import AnonymousUser, Group, User
from django.utils.timezone import now

from catalog.models import Collection, Image, Person, Region
from catalog.querysets import Viewer, findable
from tests.cast import PEOPLE, Cast, make_cast, make_face, make_image

pytestmark = pytest.mark.django_db
COLLECTIONS = ("private", "public", "foreign")

SEES = {
    "anonymous": {"public"},
    "viewer": {"private", "public"},
    "editor": {"private", "public"},
    "other_editor": {"public", "foreign"},
    "superuser": {"private", "public", "foreign"},
}
EDITS = {
    "anonymous": set(),
    "viewer": set(),
    "editor": {"private", "public"},
    "other_editor": {"foreign"},
    "superuser": {"private", "public", "foreign"},
}
SEES_FACES = {  # of `public` its own groups only
    "anonymous": set(),
    "viewer": {"private", "public"},
    "editor": {"private", "public"},
    "other_editor": {"foreign"},
    "superuser": {"private", "public", "foreign"},
}


@pytest.fixture
def cast(db: None) -> Cast:
    return make_cast()


def person(cast: Cast, who: str) -> Viewer:
    user: Viewer = AnonymousUser() if who == "anonymous" else User.objects.get(username=who)
    return user


@pytest.mark.parametrize("who", PEOPLE)
def test_collections(cast: Cast, who: str) -> None:
    user = person(cast, who)
    assert {each.name for each in Collection.objects.visible_to(user)} == SEES[who]
    assert {each.name for each in Collection.objects.editable_by(user)} == EDITS[who]
    assert {each.name for each in Collection.objects.face_searchable_by(user)} == SEES_FACES[who]


@pytest.mark.parametrize("who", PEOPLE)
def test_images(cast: Cast, who: str) -> None:
    for name in COLLECTIONS:
        collection = getattr(cast, name)
        make_image(collection, title=f"{name} ready")
        make_image(collection, title=f"{name} hidden", is_published=False)
        make_image(collection, title=f"{name} queued", status="queued")
        make_image(collection, title=f"{name} failed", status="failed", reason="Cut off.", processed_at=now())
        make_image(collection, title=f"{name} again", status="queued", processed_at=now())
        make_image(collection, title=f"{name} at work", status="processing", processed_at=now(), lease_until=now())
        make_image(collection, title=f"{name} held", status="held", processed_at=now())
    for_all = ("ready", "again", "at work")
    editors_only = {f"{name} {what}" for name in EDITS[who] for what in ("hidden", "queued", "failed", "held")}
    user = person(cast, who)
    visible = {image.title for image in Image.objects.visible_to(user)}
    assert visible == {f"{name} {what}" for name in SEES[who] for what in for_all} | editors_only
    editable = {image.title for image in Image.objects.editable_by(user)}
    assert editable == {f"{name} {what}" for name in EDITS[who] for what in for_all} | editors_only


def test_a_row_says_the_same_as_the_query(cast: Cast) -> None:
    for status in Image.Status:
        for processed_at in (None, now()):
            make_image(cast.public, status=status, processed_at=processed_at, reason="?", lease_until=now())
    asked = set(Image.objects.filter(findable()).values_list("pk", flat=True))
    assert {image.pk for image in Image.objects.all() if image.is_findable} == asked
    assert len(asked) == 4


@pytest.mark.parametrize("who", PEOPLE)
def test_faces_and_the_people_named_on_them(cast: Cast, who: str) -> None:
    for name in COLLECTIONS:
        image = make_image(getattr(cast, name))
        make_face(image, Person.objects.create(name=f"of {name}"))
        make_face(image, pipeline="image")
    user = person(cast, who)
    regions = Region.objects.visible_to(user)
    assert {region.image.collection.name for region in regions if region.pipeline == "face"} == SEES_FACES[who]
    assert {region.image.collection.name for region in regions if region.pipeline == "image"} == SEES[who]
    assert {each.name for each in Person.objects.visible_to(user)} == {f"of {name}" for name in SEES_FACES[who]}


def test_a_face_of_a_hidden_image_is_for_editors(cast: Cast) -> None:
    make_face(make_image(cast.private, is_published=False), Person.objects.create(name="Ada"))
    for who, count in (("viewer", 0), ("editor", 1)):
        assert Region.objects.visible_to(person(cast, who)).count() == count
        assert Person.objects.visible_to(person(cast, who)).count() == count


def test_faces_for_everyone_are_for_those_who_see_the_collection(cast: Cast) -> None:
    Collection.objects.update(face_search="everyone")
    for who in PEOPLE:
        assert {each.name for each in Collection.objects.face_searchable_by(person(cast, who))} == SEES[who]


def test_a_collection_without_the_face_pipeline_has_no_faces_to_search(cast: Cast) -> None:
    Collection.objects.update(pipelines=["image"], face_search="everyone")
    for who in PEOPLE:
        assert not Collection.objects.face_searchable_by(person(cast, who)).exists()


def test_a_dismissed_face_names_nobody(cast: Cast) -> None:
    make_face(make_image(cast.private), Person.objects.create(name="Ada"), dismissed=True)
    assert not Person.objects.visible_to(person(cast, "editor")).exists()


def test_two_ways_to_see_a_thing_show_it_once(cast: Cast) -> None:
    second = Group.objects.create(name="second")
    cast.editor.groups.add(second, Group.objects.get(name="viewers"))
    for collection in (cast.private, cast.public):
        collection.editors.add(second)
        collection.viewers.add(second)
    image = make_image(cast.private)
    make_face(image, Person.objects.create(name="Ada"))
    user = person(cast, "editor")
    assert Collection.objects.visible_to(user).count() == 2
    assert Collection.objects.editable_by(user).count() == 2
    assert Collection.objects.face_searchable_by(user).count() == 2
    assert Image.objects.visible_to(user).count() == 1
    assert Region.objects.visible_to(user).count() == 1
    assert Person.objects.visible_to(user).count() == 1


def test_people_are_edited_by_whoever_edits_all_that_they_are_named_in(cast: Cast) -> None:
    mine, shared, theirs, merged = (Person.objects.create(name=name) for name in ("mine", "shared", "theirs", "merged"))
    for person, collection in (
        (mine, cast.private),
        (shared, cast.private),
        (shared, cast.foreign),
        (theirs, cast.foreign),
    ):
        make_face(make_image(collection), person)
    Person.objects.filter(pk=merged.pk).update(merged_into=mine)
    assert set(Person.objects.named_in_collections_of(cast.editor)) == {mine, shared}
    assert set(Person.objects.editable_by(cast.editor)) == {mine}
    assert set(Person.objects.editable_by(cast.superuser)) == {mine, shared, theirs}
    assert not Person.objects.editable_by(cast.viewer).exists()
