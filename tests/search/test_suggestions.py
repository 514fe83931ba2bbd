"""Who a face may be. Faces are vectors of two numbers here; *same* is 0.5, *near* is 1."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse

from catalog.curation.faces import reject_person
from catalog.curation.people import merge_people
from catalog.models import Collection, EmbeddingModel, Person, Region
from search.exceptions import NothingToSearchWith
from search.suggestions import suggest_people
from tests.cast import Cast, make_face, make_image
from tests.catalog.admin.staff import staff_client
from tests.catalog.api.conftest import cast
from tests.search.vectors import embed, make_model

__all__ = ["cast"]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("fakes")]


@pytest.fixture
def model(db: None) -> EmbeddingModel:
    return make_model(same_distance=0.5, near_distance=1.0)


def face(model: EmbeddingModel, collection: Collection, at: float, name: str = "", **facts: Any) -> Region:
    """At this distance from 0 on a line."""
    person = Person.objects.get_or_create(name=name)[0] if name else None
    region = make_face(make_image(collection), person, **facts)
    embed(region, model, [at, 1.0])
    return region


def names(region: Region, user: Any) -> list[str]:
    return [suggestion.person.name for suggestion in suggest_people(region, user)]


def test_the_nearest_named_people_each_once_with_distance_and_likeness(cast: Cast, model: EmbeddingModel) -> None:
    asked = face(model, cast.private, 0.0)
    for at, name in ((0.3, "Ada"), (0.2, "Ada"), (0.1, ""), (0.7, "Grace"), (1.2, "Far away")):
        face(model, cast.private, at, name)
    found = suggest_people(asked, cast.editor)
    assert [(each.person.name, round(each.distance, 3), each.likeness) for each in found] == [
        ("Ada", 0.2, "same"),
        ("Grace", 0.7, "near"),
    ]


def test_without_a_measurement_all_are_suggested_and_none_is_judged(cast: Cast) -> None:
    model = make_model()
    asked = face(model, cast.private, 0.0)
    face(model, cast.private, 7.0, "Ada")
    assert [(each.person.name, each.likeness, each.similarity) for each in suggest_people(asked, cast.editor)] == [
        ("Ada", None, None)
    ]


def test_five_at_most(cast: Cast, model: EmbeddingModel) -> None:
    asked = face(model, cast.private, 0.0)
    for number in range(7):
        face(model, cast.private, 0.1 * number, f"Number {number}")
    assert names(asked, cast.editor) == [f"Number {number}" for number in range(5)]


def test_somebody_behind_a_crowd_without_names(cast: Cast, model: EmbeddingModel) -> None:
    asked = face(model, cast.private, 0.0)
    for number in range(100):
        face(model, cast.private, 0.001 * number)
    face(model, cast.private, 0.4, "Ada")
    assert names(asked, cast.editor) == ["Ada"]


def test_whom_the_face_is_or_is_not_is_not_suggested(cast: Cast, model: EmbeddingModel) -> None:
    asked = face(model, cast.private, 0.0, "Ada")
    for at, name in ((0.1, "Ada"), (0.2, "Grace"), (0.3, "Rosalind")):
        face(model, cast.private, at, name)
    reject_person(asked, Person.objects.get(name="Grace"), cast.editor)
    assert names(asked, cast.editor) == ["Rosalind"]


def test_a_rejection_holds_for_whom_they_were_merged_into(cast: Cast, model: EmbeddingModel) -> None:
    asked = face(model, cast.private, 0.0)
    for at, name in ((0.1, "Ada"), (0.2, "King")):
        face(model, cast.private, at, name)
    ada, king = Person.objects.get(name="Ada"), Person.objects.get(name="King")
    reject_person(asked, king, cast.editor)
    assert names(asked, cast.editor) == ["Ada"]
    merge_people(ada, king, cast.editor)
    assert names(asked, cast.editor) == []


def test_merged_people_are_suggested_as_who_they_are_now(cast: Cast, model: EmbeddingModel) -> None:
    asked = face(model, cast.private, 0.0)
    face(model, cast.private, 0.1, "King")
    merge_people(Person.objects.create(name="Ada"), Person.objects.get(name="King"), cast.editor)
    assert names(asked, cast.editor) == ["Ada"]


def test_people_whom_one_may_not_see_and_dismissed_faces_suggest_nobody(cast: Cast, model: EmbeddingModel) -> None:
    asked = face(model, cast.private, 0.0)
    face(model, cast.foreign, 0.1, "Eve")
    face(model, cast.private, 0.2, "Statue", dismissed=True)
    assert names(asked, cast.editor) == []
    assert names(asked, cast.superuser) == ["Eve"]


def test_a_face_without_a_vector(cast: Cast, model: EmbeddingModel) -> None:
    with pytest.raises(NothingToSearchWith, match="no embedding yet"):
        suggest_people(make_face(make_image(cast.private)), cast.editor)


def test_a_face_whose_vector_says_nothing(cast: Cast, model: EmbeddingModel) -> None:
    asked = make_face(make_image(cast.private))
    embed(asked, model, [0.0, 0.0])
    with pytest.raises(NothingToSearchWith, match="nothing in it to compare"):
        suggest_people(asked, cast.editor)


def test_the_address_answers_editors_in_words(cast: Cast, model: EmbeddingModel) -> None:
    asked, ada = face(model, cast.private, 0.0), face(model, cast.private, 0.25, "Ada").person
    assert ada is not None
    client = staff_client(cast, "editor")
    assert client.get(reverse("face-suggestions", args=[asked.pk])).json() == {
        "people": [{"person": str(ada.pk), "name": "Ada", "distance": "0.250", "likeness": "very likely the same"}],
        "note": "",
    }
    alone = face(model, cast.private, 50.0)
    bare = make_face(make_image(cast.private))
    for region, note in ((alone, "Nobody who was named"), (bare, "no embedding yet")):
        answer = client.get(reverse("face-suggestions", args=[region.pk])).json()
        assert answer["people"] == []
        assert note in answer["note"]


def test_without_a_model_the_address_says_what_to_do(cast: Cast) -> None:
    asked = make_face(make_image(cast.private))
    answer = staff_client(cast, "editor").get(reverse("face-suggestions", args=[asked.pk]))
    assert "manage.py models build" in answer.json()["note"]
