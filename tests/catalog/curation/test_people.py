from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from django.db import IntegrityError, transaction

from catalog.curation import people
from catalog.curation.errors import CurationError, Gone, NameTaken
from catalog.curation.faces import name_face, reject_person, unname_face
from catalog.models import Person, PersonMerge, Region
from tests.cast import Cast, make_face, make_image
from tests.catalog.curation.log import said_of
from tests.library import InThread, wait_until_somebody_waits_for_a_lock

pytestmark = pytest.mark.django_db


def named(cast: Cast, name: str, faces: int = 1) -> Person:
    person = Person.objects.create(name=name)
    for _ in range(faces):
        make_face(make_image(cast.private), person)
    return person


def test_renaming_is_logged(cast: Cast) -> None:
    ada = named(cast, "Ada")
    assert people.rename_person(ada, " Ada  Lovelace ", cast.editor).name == "Ada Lovelace"
    assert said_of(ada) == ["editor: Renamed from Ada to Ada Lovelace."]


def test_a_taken_name_is_refused_also_of_somebody_merged(cast: Cast) -> None:
    ada, grace, king = (named(cast, name) for name in ("Ada", "Grace", "King"))
    people.merge_people(ada, king, cast.editor)
    for taken in ("Ada", "King"):
        with pytest.raises(NameTaken):
            people.rename_person(grace, taken, cast.editor)
    grace.refresh_from_db()
    assert grace.name == "Grace"


def test_notes(cast: Cast) -> None:
    ada = named(cast, "Ada")
    people.set_notes(ada, "wrote the first program", cast.editor)
    people.set_notes(ada, "wrote the first program", cast.editor)
    ada.refresh_from_db()
    assert ada.notes == "wrote the first program"
    assert said_of(ada) == ["editor: Changed the notes."]


def test_merging_moves_all_faces_and_leaves_one_person(cast: Cast) -> None:
    ada, king = named(cast, "Ada", 1), named(cast, "King", 2)
    merge = people.merge_people(ada, king, cast.editor)
    assert ada.regions.count() == 3
    assert list(Person.objects.visible_to(cast.superuser)) == [ada]
    assert (merge.kept, merge.gone, merge.user, len(merge.regions)) == (ada, king, cast.editor, 2)
    assert said_of(king) == ["editor: Merged into Ada, with 2 faces."]
    assert said_of(ada) == ["editor: Took in King, with 2 faces."]


def test_undoing_gives_back_what_is_still_there(cast: Cast) -> None:
    ada, king = named(cast, "Ada", 1), named(cast, "King", 3)
    stays, renamed, unnamed = king.regions.all()
    merge = people.merge_people(ada, king, cast.editor)
    name_face(renamed, "Grace", cast.editor)
    unname_face(unnamed, cast.editor)
    came_after = name_face(make_face(make_image(cast.private)), "King", cast.editor)
    assert people.undo_merge(merge, cast.superuser) == king
    assert list(king.regions.all()) == [stays]
    assert came_after in ada.regions.all()
    assert ada.regions.count() == 2
    merge.refresh_from_db()
    assert (merge.undone_by, merge.undone_at is None) == (cast.superuser, False)
    assert set(Person.objects.visible_to(cast.superuser)) == {
        ada,
        king,
        Region.objects.get(pk=renamed.pk).person,
    }
    assert said_of(king)[-1] == "superuser: No longer merged into Ada; 1 face came back."


def test_undoing_leaves_alone_what_was_decided_since(cast: Cast) -> None:
    """Also where the later decision is the name that the merge had given."""
    ada, king = named(cast, "Ada"), named(cast, "King", 4)
    rejected, unnamed, renamed, stays = king.regions.all()
    merge = people.merge_people(ada, king, cast.editor)
    reject_person(rejected, ada, cast.editor)
    unname_face(unnamed, cast.editor)
    name_face(renamed, "Grace", cast.editor)
    for face in (rejected, unnamed, renamed):
        name_face(face, "Ada", cast.superuser)
    people.undo_merge(merge, cast.editor)
    assert list(king.regions.all()) == [stays]
    assert {rejected, unnamed, renamed} < set(ada.regions.all())


def test_a_decision_counts_for_every_merge_that_moved_the_face(cast: Cast) -> None:
    ada, king, byron = named(cast, "Ada"), named(cast, "King"), named(cast, "Byron", 2)
    decided, other = byron.regions.all()
    first = people.merge_people(king, byron, cast.editor)
    second = people.merge_people(ada, king, cast.editor)
    unname_face(decided, cast.editor)
    name_face(decided, "Ada", cast.editor)
    people.undo_merge(second, cast.editor)
    name_face(decided, "King", cast.editor)
    people.undo_merge(first, cast.editor)
    assert list(byron.regions.all()) == [other]
    assert decided in king.regions.all()


def test_deleting_a_person_takes_the_name_off_their_faces(cast: Cast) -> None:
    ada, king, grace = named(cast, "Ada", 2), named(cast, "King"), named(cast, "Grace")
    people.merge_people(ada, king, cast.editor)
    with pytest.raises(CurationError, match="King was merged into Ada"):
        people.delete_person(king, cast.editor)
    assert people.delete_person(ada, cast.editor) == 3
    assert list(Person.objects.all()) == [grace]
    assert Region.objects.filter(person=None).count() == 3
    assert said_of(ada)[-1] == "editor: Deleted; 3 faces lost the name."
    with pytest.raises(Gone):
        people.delete_person(ada, cast.editor)


@pytest.mark.django_db(transaction=True)
def test_a_face_named_while_its_person_is_deleted(cast: Cast) -> None:
    ada, face = named(cast, "Ada"), make_face(make_image(cast.private))
    with transaction.atomic():
        people.delete_person(ada, cast.editor)
        naming = InThread(lambda: name_face(face, ada, cast.superuser))
        wait_until_somebody_waits_for_a_lock()
    with pytest.raises(Gone):
        naming.outcome()


def test_an_undone_merge_can_be_done_again(cast: Cast) -> None:
    ada, king = named(cast, "Ada"), named(cast, "King")
    people.undo_merge(people.merge_people(ada, king, cast.editor), cast.editor)
    people.undo_merge(people.merge_people(king, ada, cast.editor), cast.editor)
    assert (ada.regions.count(), king.regions.count()) == (1, 1)


def test_merges_are_undone_in_their_order(cast: Cast) -> None:
    ada, king, byron = (named(cast, name) for name in ("Ada", "King", "Byron"))
    first = people.merge_people(king, byron, cast.editor)
    second = people.merge_people(ada, king, cast.editor)
    with pytest.raises(CurationError, match="merged into Ada since"):
        people.undo_merge(first, cast.editor)
    people.undo_merge(second, cast.editor)
    people.undo_merge(first, cast.editor)
    assert [person.regions.count() for person in (ada, king, byron)] == [1, 1, 1]
    with pytest.raises(CurationError, match="undone already"):
        people.undo_merge(first, cast.editor)


def test_what_cannot_be_merged(cast: Cast) -> None:
    ada, king, grace = (named(cast, name) for name in ("Ada", "King", "Grace"))
    with pytest.raises(CurationError, match="one and the same"):
        people.merge_people(ada, Person.objects.get(pk=ada.pk), cast.editor)
    people.merge_people(ada, king, cast.editor)
    for kept, gone in ((king, grace), (grace, king)):
        with pytest.raises(CurationError, match="King was merged into Ada"):
            people.merge_people(kept, gone, cast.editor)
    assert PersonMerge.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_editors_who_merge_the_same_two_into_each_other(cast: Cast) -> None:
    ada, king = named(cast, "Ada"), named(cast, "King")
    with transaction.atomic():
        people.merge_people(ada, king, cast.editor)
        other = InThread(lambda: people.merge_people(king, ada, cast.superuser))
        wait_until_somebody_waits_for_a_lock()
    with pytest.raises(CurationError):
        other.outcome()
    assert ada.regions.count() == 2


@pytest.mark.django_db(transaction=True)
def test_a_person_merged_while_they_are_renamed(cast: Cast) -> None:
    ada, king = named(cast, "Ada"), named(cast, "King")
    with transaction.atomic():
        people.merge_people(ada, king, cast.editor)
        renaming = InThread(lambda: people.rename_person(king, "Countess", cast.superuser))
        wait_until_somebody_waits_for_a_lock()
    with pytest.raises(CurationError, match="Go on with Ada"):
        renaming.outcome()


def test_nobody_is_merged_into_themselves_by_the_database(cast: Cast) -> None:
    ada = named(cast, "Ada")
    with pytest.raises(IntegrityError), transaction.atomic():
        Person.objects.filter(pk=ada.pk).update(merged_into=ada)


def test_people_are_offered_by_a_part_of_their_name(cast: Cast) -> None:
    for name in ("Grace Hopper", "Hope", "Ada"):
        named(cast, name)
    make_face(make_image(cast.foreign), Person.objects.create(name="Hopkins"))
    people.merge_people(Person.objects.get(name="Ada"), named(cast, "Hopper's twin"), cast.editor)
    assert [person.name for person in people.people_like("hop", cast.editor)] == ["Hope", "Grace Hopper"]


def test_names_of_many_who_were_merged_cost_few_queries(
    cast: Cast, django_assert_max_num_queries: Callable[[int], AbstractContextManager[object]]
) -> None:
    eve, ada = Person.objects.create(name="Eve"), named(cast, "Ada")
    make_face(make_image(cast.foreign), eve)
    for number in range(20):
        Person.objects.create(name=f"E{number}", merged_into=eve)
        Person.objects.create(name=f"A{number}", merged_into=Person.objects.create(name=f"B{number}", merged_into=ada))
    names = [f"{letter}{number}" for letter in "EAB" for number in range(20)]
    with django_assert_max_num_queries(8):
        assert people.names_taken(names, cast.editor) == {f"E{number}" for number in range(20)}


def test_a_name_is_not_used_of_somebody_who_is_named_only_elsewhere(cast: Cast) -> None:
    eve = Person.objects.create(name="Eve")
    people.check_may_use_name("Eve", cast.editor)  # of nobody's face
    face: Region = make_face(make_image(cast.foreign), eve)
    with pytest.raises(NameTaken):
        people.check_may_use_name("Eve", cast.editor)
    people.check_may_use_name("Eve", cast.superuser)
    name_face(make_face(make_image(cast.private)), "Eve", cast.superuser)
    people.check_may_use_name("Eve", cast.editor)
    assert face.person == eve
