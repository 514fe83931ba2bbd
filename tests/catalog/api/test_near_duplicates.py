"""Near duplicates through the API: listing them, and choosing."""

from __future__ import annotations

import pytest

from catalog.models import Collection, Image, NearDuplicate
from tests.cast import Cast, assert_problem, make_image

pytestmark = pytest.mark.django_db
LIST = "/api/v1/near-duplicates/"


def pair(collection: Collection, **facts: object) -> NearDuplicate:
    held = {"status": "held", "held_for": "near-duplicate", "reason": "It looks like another one."}
    other = make_image(collection, title="old")
    image = make_image(collection, title="new", **held)
    return NearDuplicate.objects.create(**{"image": image, "other": other, "distance": 3, **facts})


def test_a_pair_says_what_it_is(cast: Cast) -> None:
    noted = pair(cast.private, is_mirrored=True)
    body = cast.client("editor").get(f"{LIST}{noted.pk}/").json()
    created = body.pop("created_at")
    assert created
    assert body == {
        "id": str(noted.pk),
        "collection": {"id": str(cast.private.pk), "name": "private"},
        "image": str(noted.image_id),
        "other": str(noted.other_id),
        "distance": 3,
        "is_mirrored": True,
        "is_held": True,
        "decision": "",
        "decided_at": None,
    }


def test_lists_are_narrowed(cast: Cast) -> None:
    private, public, decided = pair(cast.private), pair(cast.public), pair(cast.private, decision="keep")
    client = cast.client("editor")

    def keys(**narrowed: str) -> list[str]:
        return [each["id"] for each in client.get(LIST, narrowed).json()["results"]]

    assert keys() == [str(each.pk) for each in (decided, public, private)]
    assert keys(open="true") == [str(public.pk), str(private.pk)]
    assert keys(open="false") == [str(decided.pk)]
    assert keys(collection="public") == keys(image=str(public.image_id)) == [str(public.pk)]
    assert_problem(client.get(LIST, {"collection": "foreign"}), 404, "not-found")
    assert_problem(client.get(LIST, {"decision": "keep"}), 400, "invalid")


def test_a_list_costs_the_same_for_one_and_for_many(cast: Cast, django_assert_num_queries: object) -> None:
    client = cast.client("editor")
    pair(cast.private)
    for _ in range(2):
        with django_assert_num_queries(4):  # type: ignore[operator]  # token, other tokens, groups, pairs
            client.get(LIST)
        for _ in range(5):
            pair(cast.private)


@pytest.mark.parametrize(
    ("decision", "left"),
    [("keep", {"old", "new"}), ("version", {"old", "new"}), ("replace", {"new"}), ("discard", {"old"})],
)
def test_choosing(cast: Cast, decision: str, left: set[str]) -> None:
    noted = pair(cast.private)
    answer = cast.client("editor").post(f"{LIST}{noted.pk}/", {"decision": decision})
    assert answer.status_code == 200
    body = answer.json()
    assert (body["decision"], bool(body["image"]), bool(body["other"])) == (decision, "new" in left, "old" in left)
    assert body["said"]
    assert {image.title for image in Image.objects.all()} == left


def test_choosing_twice_is_a_conflict_and_what_is_gone_is_not_found(cast: Cast) -> None:
    noted = pair(cast.private)
    client = cast.client("editor")
    assert client.post(f"{LIST}{noted.pk}/", {"decision": "keep"}).status_code == 200
    body = assert_problem(client.post(f"{LIST}{noted.pk}/", {"decision": "discard"}), 409, "conflict")
    assert body["detail"] == "editor has decided already: both kept."
    noted.image.delete()
    assert_problem(client.post(f"{LIST}{noted.pk}/", {"decision": "keep"}), 404, "not-found")


@pytest.mark.parametrize("sent", [{}, {"decision": ""}, {"decision": "burn"}, {"decision": "keep", "why": "x"}])
def test_what_is_no_choice(cast: Cast, sent: dict[str, str]) -> None:
    noted = pair(cast.private)
    assert_problem(cast.client("editor").post(f"{LIST}{noted.pk}/", sent), 400, "invalid")
    noted.refresh_from_db()
    assert noted.decision == ""


def test_an_image_says_of_what_it_is_a_version_to_whoever_sees_that(cast: Cast) -> None:
    first = make_image(cast.public, title="first")
    hidden = make_image(cast.public, version_of=first, is_published=False)
    version = make_image(cast.public, version_of=first)

    def told(name: str, image: Image) -> tuple[object, object]:
        body = cast.client(name).get(f"/api/v1/images/{image.pk}/").json()
        return body["version_of"], body["versions"]

    assert told("anonymous", first) == (None, [str(version.pk)])
    assert told("editor", first) == (None, [str(version.pk), str(hidden.pk)])
    assert told("anonymous", version) == (str(first.pk), [])
    Image.objects.filter(pk=first.pk).update(is_published=False)
    assert told("anonymous", version) == (None, [])


def test_a_collection_says_what_it_does_about_them(cast: Cast) -> None:
    body = cast.client("anonymous").get(f"/api/v1/collections/{cast.public.pk}/").json()
    assert body["near_duplicates"] == "warn"
