from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.db import transaction

from catalog.curation import faces
from catalog.curation.errors import BadBox, BadName, CurationError, FaceChanged, Gone, NotAFace
from catalog.curation.people import merge_people
from catalog.models import Collection, Embedding, FaceRejection, Image, IntakeLine, Person, Region
from catalog.processing import process_batch
from catalog.regions import box_of
from catalog.uploads import process_again
from catalog.vision.types import Box
from tests.cast import Cast, make_face, make_image
from tests.catalog.curation.log import said_of
from tests.library import InThread, process_all, ready, squares, wait_until_somebody_waits_for_a_lock

pytestmark = pytest.mark.django_db
RED = squares((20, 30, 40, "red"))


def face_of(image: Image) -> Region:
    return image.regions.get(pipeline="face")


def test_naming_a_face_makes_the_person_once_and_is_logged(cast: Cast) -> None:
    first, second = make_face(make_image(cast.private)), make_face(make_image(cast.private))
    assert faces.name_face(first, "  Ada   Lovelace ", cast.editor).person == Person.objects.get(name="Ada Lovelace")
    assert faces.name_face(second, "Ada Lovelace", cast.editor).person == Person.objects.get()
    assert said_of(first.image) == ["editor: Named the face at 10,20 (30 x 40 px) Ada Lovelace."]


def test_naming_again_tells_who_it_was_and_nothing_where_nothing_changes(cast: Cast) -> None:
    face = make_face(make_image(cast.private), Person.objects.create(name="Ada"))
    faces.name_face(face, "Ada", cast.editor)
    assert said_of(face.image) == []
    faces.name_face(face, "Grace", cast.superuser)
    assert said_of(face.image) == ["superuser: Named the face at 10,20 (30 x 40 px) Grace (was Ada)."]


@pytest.mark.parametrize("name", ["", "  ", "x" * 201, "A\x00da", "A\x07da"])
def test_what_is_no_name(cast: Cast, name: str) -> None:
    with pytest.raises(BadName):
        faces.name_face(make_face(make_image(cast.private)), name, cast.editor)
    assert not Person.objects.exists()


def test_only_faces_are_people(cast: Cast) -> None:
    frame = make_face(make_image(cast.private), pipeline="image")
    with pytest.raises(NotAFace):
        faces.name_face(frame, "Ada", cast.editor)
    assert not Person.objects.exists()


def test_the_name_of_somebody_merged_leads_to_whom_they_are_now(cast: Cast) -> None:
    people = [Person.objects.create(name=name) for name in ("A. King", "Ada King", "Ada Lovelace")]
    merge_people(people[1], people[0], cast.editor)
    merge_people(people[2], people[1], cast.editor)
    face = faces.name_face(make_face(make_image(cast.private)), "A. King", cast.editor)
    assert face.person == people[2]


def test_the_second_of_two_editors_is_told_that_the_first_was_faster(cast: Cast) -> None:
    face = make_face(make_image(cast.private))
    faces.name_face(face, "Ada", cast.editor, expected=None)
    with pytest.raises(FaceChanged, match="named Ada now"):
        faces.name_face(face, "Grace", cast.superuser, expected=None)
    face.refresh_from_db()
    assert face.person == Person.objects.get(name="Ada")
    assert faces.name_face(face, "Grace", cast.superuser, expected=face.person_id).person is not None


ACTS_ON_WHO_WAS_SEEN: dict[str, Callable[[Region, Person, User], object]] = {
    "unname": lambda face, seen, user: faces.unname_face(face, user, expected=seen.pk),
    "reject": lambda face, seen, user: faces.reject_person(face, seen, user, expected=seen.pk),
    "delete": lambda face, seen, user: faces.delete_region(face, user, expected=seen.pk),
}


@pytest.mark.parametrize("act", ACTS_ON_WHO_WAS_SEEN.values(), ids=list(ACTS_ON_WHO_WAS_SEEN))
def test_what_is_said_of_whoever_was_seen_is_not_said_of_whoever_is_there_now(
    cast: Cast, act: Callable[[Region, Person, User], object]
) -> None:
    ada = Person.objects.create(name="Ada")
    face = make_face(make_image(cast.private), ada)
    faces.name_face(face, "Grace", cast.superuser)
    with pytest.raises(FaceChanged, match="named Grace now"):
        act(face, ada, cast.editor)
    face.refresh_from_db()
    assert (str(face.person), face.dismissed) == ("Grace", False)
    assert not FaceRejection.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_not_this_person_while_somebody_names_it_anew(cast: Cast) -> None:
    ada = Person.objects.create(name="Ada")
    face = make_face(make_image(cast.private))
    with transaction.atomic():
        faces.name_face(face, "Ada", cast.superuser)
        rejecting = InThread(lambda: faces.reject_person(face, ada, cast.editor, expected=None))
        wait_until_somebody_waits_for_a_lock()
    with pytest.raises(FaceChanged):  # they said no to a suggestion, not to a colleague
        rejecting.outcome()
    face.refresh_from_db()
    assert face.person == ada


@pytest.mark.django_db(transaction=True)
def test_two_editors_at_once_name_one_after_the_other(cast: Cast) -> None:
    face = make_face(make_image(cast.private))
    with transaction.atomic():
        faces.name_face(face, "Ada", cast.editor, expected=None)
        other = InThread(lambda: faces.name_face(face, "Ada B.", cast.superuser, expected=None))
        wait_until_somebody_waits_for_a_lock()
    with pytest.raises(FaceChanged):
        other.outcome()
    face.refresh_from_db()
    assert str(face.person) == "Ada"


@pytest.mark.django_db(transaction=True)
def test_naming_somebody_who_is_being_merged_names_whom_they_become(cast: Cast) -> None:
    ada, king = Person.objects.create(name="Ada"), Person.objects.create(name="King")
    face = make_face(make_image(cast.private))
    with transaction.atomic():
        merge_people(ada, king, cast.editor)
        naming = InThread(lambda: faces.name_face(face, king, cast.superuser))
        wait_until_somebody_waits_for_a_lock()
    assert naming.outcome().person == ada


def test_taking_a_name_off_remembers_nothing(cast: Cast) -> None:
    face = make_face(make_image(cast.private), Person.objects.create(name="Ada"))
    assert faces.unname_face(face, cast.editor).person is None
    assert not FaceRejection.objects.exists()
    assert said_of(face.image) == ["editor: Took the name Ada off the face at 10,20 (30 x 40 px)."]


def test_not_this_person_takes_the_name_off_and_is_remembered(cast: Cast) -> None:
    ada = Person.objects.create(name="Ada")
    face = make_face(make_image(cast.private), ada)
    for _ in range(2):  # a double click
        assert faces.reject_person(face, ada, cast.editor).person is None
    rejection = FaceRejection.objects.get()
    assert (rejection.region, rejection.person, rejection.user) == (face, ada, cast.editor)
    assert said_of(face.image) == ["editor: Said that the face at 10,20 (30 x 40 px) is not Ada."]


def test_not_this_person_leaves_another_name_alone(cast: Cast) -> None:
    grace = Person.objects.create(name="Grace")
    face = make_face(make_image(cast.private), grace)
    assert faces.reject_person(face, Person.objects.create(name="Ada"), cast.editor).person == grace


def test_naming_takes_back_not_this_person(cast: Cast) -> None:
    ada = Person.objects.create(name="Ada")
    face = make_face(make_image(cast.private), ada)
    faces.reject_person(face, ada, cast.editor)
    faces.name_face(face, "Ada", cast.editor)
    assert not FaceRejection.objects.exists()


def test_the_intake_names_no_face_that_somebody_said_is_not_this_person(shop: Collection, cast: Cast) -> None:
    image = ready(shop, RED, person="Ada")
    ada = face_of(image).person
    assert ada is not None
    faces.reject_person(face_of(image), ada, cast.editor)
    merge_people(Person.objects.create(name="Ada Lovelace"), ada, cast.editor)  # nor by her other name
    process_again([image.pk])
    process_all()
    assert face_of(image).person is None
    assert IntakeLine.objects.get(image=image).person_name == "Ada"


def test_the_intake_names_whom_somebody_was_merged_into(shop: Collection, cast: Cast) -> None:
    ada = Person.objects.create(name="Ada Lovelace")
    merge_people(ada, Person.objects.create(name="Ada"), cast.editor)
    assert face_of(ready(shop, RED, person="Ada")).person == ada


def test_not_a_face_and_back_keeps_the_name(cast: Cast) -> None:
    ada = Person.objects.create(name="Ada")
    face = make_face(make_image(cast.private), ada)
    assert faces.dismiss_region(face, cast.editor).dismissed
    restored = faces.restore_region(face, cast.editor)
    assert (restored.dismissed, restored.person) == (False, ada)
    assert [entry.partition("(named Ada) ")[2] for entry in said_of(face.image)] == [
        "is not a face.",
        "is a face after all.",
    ]


def test_a_drawn_face_gets_a_vector_and_stays(shop: Collection, cast: Cast) -> None:
    image = ready(
        shop, squares((20, 30, 40, "red"), (100, 60, 50, "#c8c8b4"))
    )  # the second is too pale for the detector
    drawn = faces.draw_region(image, Box(100.0, 60.0, 50.0, 50.0), cast.editor)
    image.refresh_from_db()
    assert image.status == "queued"
    process_all()
    assert Embedding.objects.filter(region=drawn).count() == 1
    process_again([image.pk])
    process_all()
    assert box_of(Region.objects.get(pk=drawn.pk)) == Box(100.0, 60.0, 50.0, 50.0)
    assert image.regions.filter(pipeline="face").count() == 2


def test_a_box_is_clipped_into_its_image(shop: Collection, cast: Cast) -> None:
    image = ready(shop, RED)
    drawn = faces.draw_region(image, Box(-10.0, 100.0, 50.0, 500.0), cast.editor)
    assert box_of(drawn) == Box(0.0, 100.0, 40.0, 50.0)


@pytest.mark.parametrize(
    "box",
    [Box(500.0, 10.0, 40.0, 40.0), Box(10.0, 10.0, 4.0, 40.0), Box(10.0, 10.0, -40.0, 40.0), Box(math.nan, 0, 40, 40)],
)
def test_boxes_that_are_none_are_refused(shop: Collection, cast: Cast, box: Box) -> None:
    image = ready(shop, RED)
    face = face_of(image)
    with pytest.raises(BadBox):
        faces.draw_region(image, box, cast.editor)
    with pytest.raises(BadBox):
        faces.move_region(face, box, cast.editor)
    assert image.regions.filter(pipeline="face").count() == 1


def test_no_face_is_drawn_where_faces_are_not_looked_for(shop: Collection, cast: Cast) -> None:
    shop.pipelines = ["image"]
    shop.save()
    with pytest.raises(CurationError, match="does not look for this"):
        faces.draw_region(ready(shop, RED), Box(10.0, 10.0, 40.0, 40.0), cast.editor)


def test_a_moved_face_keeps_its_name_and_gets_another_vector(shop: Collection, cast: Cast) -> None:
    image = ready(shop, RED, person="Ada")
    face = face_of(image)
    before = face.embeddings.get()
    faces.move_region(face, Box(25.0, 35.0, 40.0, 40.0), cast.editor)
    assert not face.embeddings.exists()
    process_all()
    moved = face_of(image)
    assert (moved.pk, str(moved.person), box_of(moved)) == (face.pk, "Ada", Box(25.0, 35.0, 40.0, 40.0))
    after = moved.embeddings.get()
    assert after.pk > before.pk
    assert bytes(after.vector) != bytes(before.vector)


def test_an_image_that_a_worker_is_at_is_processed_anew(shop: Collection, cast: Cast) -> None:
    image = ready(shop, RED)
    Image.objects.filter(pk=image.pk).update(
        status="processing", claimed_by="somebody", lease_until="2100-01-01T00:00Z"
    )
    faces.draw_region(image, Box(100.0, 60.0, 50.0, 50.0), cast.editor)
    assert process_batch() == 1
    image.refresh_from_db()
    assert image.status == "ready"
    assert not image.regions.filter(embeddings=None).exists()


def test_deleting_what_was_drawn_and_what_was_found(shop: Collection, cast: Cast) -> None:
    image = ready(shop, RED)
    found = face_of(image)
    drawn = faces.draw_region(image, Box(100.0, 60.0, 50.0, 50.0), cast.editor)
    process_all()
    for region in (found, drawn):
        faces.delete_region(region, cast.editor)
    process_again([image.pk])
    process_all()
    left = face_of(image)
    assert (left.pk, left.dismissed) == (found.pk, True)


def test_a_found_face_that_was_moved_is_not_found_again_once_deleted(shop: Collection, cast: Cast) -> None:
    image = ready(shop, RED)
    faces.move_region(face_of(image), Box(22.0, 32.0, 40.0, 40.0), cast.editor)
    faces.delete_region(face_of(image), cast.editor)
    process_all()
    assert face_of(image).dismissed


@pytest.mark.parametrize("gone", [Region, Image])
def test_a_face_that_was_deleted_meanwhile(cast: Cast, gone: type[Region | Image]) -> None:
    face = Region.objects.get(pk=make_face(make_image(cast.private)).pk)
    gone.objects.all().delete()
    with pytest.raises(Gone):
        faces.name_face(face, "Ada", cast.editor)
    assert not Person.objects.exists()


def test_a_box_drawn_in_a_held_image_lets_it_not_go(cast: Cast) -> None:
    """It is processed with its drawn faces when its job goes on, or its choice is made."""
    image = make_image(cast.private, status="held", held_for="pause", reason="Its job is paused.")
    region = faces.draw_region(image, Box(20, 30, 40, 40), cast.editor)
    faces.move_region(region, Box(50, 60, 40, 40), cast.editor)
    image.refresh_from_db()
    assert (image.status, image.held_for) == ("held", "pause")
