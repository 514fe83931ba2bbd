"""What becomes of two images that look alike, decided once, by whoever is first."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from catalog.curation import duplicates, images
from catalog.curation.duplicates import Choice, decide, decide_all, unlink_version
from catalog.curation.errors import CurationError, Gone
from catalog.curation.faces import name_face
from catalog.duplicates.holding import open_choices, release_settled
from catalog.intake import url_lists
from catalog.models import Collection, Image, IntakeJob, IntakeLine, NearDuplicate, Person, Region
from catalog.uploads import receive
from tests.cast import Cast, make_cast, make_face, make_image
from tests.catalog.curation.log import said_of
from tests.catalog.duplicates.hashes import flipped, some_hash
from tests.drawn import photo
from tests.library import (
    InThread,
    files_in,
    process_all,
    put_image,
    wait_until_somebody_waits_for_a_lock,
    waiting_for_a_lock,
)
from tests.stack import wait_for

pytestmark = pytest.mark.django_db
HELD = {"status": "held", "held_for": "near-duplicate", "reason": "It looks like another one."}


def note(image: Image, other: Image, **facts: object) -> NearDuplicate:
    return NearDuplicate.objects.create(**{"image": image, "other": other, "distance": 1, **facts})


def pair(cast: Cast, **facts: object) -> NearDuplicate:
    """A held image and the ready one that it looks like."""
    other = make_image(cast.private, original_name="old.jpg")
    return note(make_image(cast.private, original_name="new.jpg", **{**HELD, **facts}), other)


def row(image: Image) -> Image:
    return Image.objects.get(pk=image.pk)


# --- What each choice does --------------------------------------------------------------------------------------------


def test_keeping_both_releases_the_new_one(cast: Cast) -> None:
    noted = pair(cast)
    decided = decide(noted, Choice.KEEP, cast.editor)
    assert (decided.image, decided.other) == (noted.image_id, noted.other_id)
    image = row(noted.image)
    assert (image.status, image.held_for, image.reason) == ("queued", "", "")
    noted.refresh_from_db()
    assert (noted.decision, noted.decided_by) == ("keep", cast.editor)
    assert said_of(noted.image) == ["editor: Kept beside old.jpg, which it looks like."]


def test_an_image_stays_held_until_all_its_choices_are_made(cast: Cast) -> None:
    first = pair(cast)
    second = note(first.image, make_image(cast.private))
    decide(first, Choice.KEEP, cast.editor)
    assert row(first.image).status == "held"
    decide(second, Choice.VERSION, cast.editor)
    assert row(first.image).status == "queued"


def test_what_was_processed_already_is_not_processed_again(cast: Cast) -> None:
    noted = pair(cast, status="ready", held_for="", reason="", processed_at=timezone.now())
    decide(noted, Choice.KEEP, cast.editor)
    assert row(noted.image).status == "ready"


def test_a_version_belongs_to_the_first_of_its_kind(cast: Cast) -> None:
    first = make_image(cast.private, title="first")
    second = make_image(cast.private, version_of=first)
    third = make_image(cast.private, title="third")
    mine = make_image(cast.private, version_of=third)
    decide(note(third, second), Choice.VERSION, cast.editor)
    assert row(third).version_of == row(mine).version_of == first
    assert said_of(third) == ["editor: Linked as a version of first."]
    unlink_version(third, cast.editor)
    assert row(third).version_of is None
    assert said_of(third)[1] == "editor: No longer a version of first."
    with pytest.raises(CurationError, match="no version"):
        unlink_version(third, cast.editor)


def test_an_image_is_a_version_of_one_only(cast: Cast) -> None:
    noted = pair(cast)
    decide(noted, Choice.VERSION, cast.editor)
    another = note(noted.image, make_image(cast.private, title="third"))
    with pytest.raises(CurationError, match=r"new.jpg is a version of old.jpg already\. Keep both here"):
        decide(another, Choice.VERSION, cast.editor)
    decide(another, Choice.KEEP, cast.editor)
    assert row(noted.image).version_of == noted.other


def test_two_that_are_linked_the_other_way_round_stay_so(cast: Cast) -> None:
    image = make_image(cast.private)
    other = make_image(cast.private, version_of=image)
    decide(note(image, other), Choice.VERSION, cast.editor)
    assert (row(image).version_of, row(other).version_of) == (None, image)


def test_discarding_deletes_the_new_one(cast: Cast) -> None:
    noted = pair(cast)
    decided = decide(noted, Choice.DISCARD, cast.editor)
    assert (decided.image, decided.other) == (None, noted.other_id)
    assert list(Image.objects.all()) == [noted.other]
    assert said_of(noted.image) == ["editor: Deleted from private: it looks like old.jpg."]


def test_the_new_one_takes_over_what_it_lacks(cast: Cast) -> None:
    noted = pair(cast, title="Mine", is_published=True)
    Image.objects.filter(pk=noted.other_id).update(
        title="Old", label="4711", external_id="a", link="https://a.example/", source_url="https://b.example/"
    )
    Image.objects.filter(pk=noted.other_id).update(licence="CC0", is_published=False)
    noted.other.tags.add("red")
    noted.image.tags.add("new")
    decided = decide(noted, Choice.REPLACE, cast.editor)
    image = row(noted.image)
    assert (decided.image, decided.other) == (image.pk, None)
    assert list(Image.objects.all()) == [image]
    assert (image.title, image.label, image.external_id, image.licence) == ("Mine", "4711", "a", "CC0")
    assert (image.link, image.source_url) == ("https://a.example/", "https://b.example/")
    assert {tag.name for tag in image.tags.all()} == {"red", "new"}
    assert not image.is_published  # nothing that was hidden is shown by it
    assert image.status == "queued"
    assert said_of(noted.image) == ["editor: Took the place of Old."]
    assert said_of(noted.other) == ["editor: Deleted from private: replaced by Mine."]


def test_versions_and_open_choices_of_the_older_one_go_to_the_new_one(cast: Cast) -> None:
    noted = pair(cast)
    version = make_image(cast.private, version_of=noted.other)
    waiting = note(make_image(cast.private, phash=flipped(some_hash(1), 1, 2, 3), **HELD), noted.other).image
    Image.objects.filter(pk=noted.image_id).update(phash=some_hash(1), phash_mirrored=some_hash(2))
    decide(noted, Choice.REPLACE, cast.editor)
    assert row(version).version_of == noted.image
    left = open_choices(cast.editor).get()
    assert (left.image, left.other, left.distance) == (waiting, noted.image, 3)
    assert release_settled() == 0
    assert row(waiting).status == "held"


def test_a_version_that_replaces_its_first_is_a_version_of_none(cast: Cast) -> None:
    noted = pair(cast)
    sister = make_image(cast.private, version_of=noted.other)
    Image.objects.filter(pk=noted.image_id).update(version_of=noted.other)
    decide(noted, Choice.REPLACE, cast.editor)
    assert row(noted.image).version_of is None
    assert row(sister).version_of == noted.image


# --- People -----------------------------------------------------------------------------------------------------------


def replaced_faces(cast: Cast, mirrored: bool) -> tuple[list[str], Image]:
    """An image of two named faces is replaced by one of twice the size that was processed; who is named on it."""
    noted = pair(cast, status="ready", held_for="", reason="", processed_at=timezone.now(), width=1280, height=960)
    NearDuplicate.objects.update(is_mirrored=mirrored)
    noted.refresh_from_db()
    ada, eve = Person.objects.create(name="Ada"), Person.objects.create(name="Eve")
    make_face(noted.other, ada, x=20, y=30, width=100, height=100)
    make_face(noted.other, eve, x=400, y=30, width=100, height=100)
    left = 2 * (640 - 20 - 100) if mirrored else 40
    make_face(noted.image, x=left + 5, y=66, width=190, height=200)
    make_face(noted.image, x=600, y=700, width=90, height=90)
    said = decide(noted, Choice.REPLACE, cast.editor).said
    assert said.endswith("Name again who was on it: Eve.")
    named = Region.objects.filter(image=noted.image, person__isnull=False).order_by("x")
    return [str(face.person) for face in named], noted.image


def test_faces_in_the_same_place_get_their_names_and_others_are_named_in_the_log(cast: Cast) -> None:
    names, image = replaced_faces(cast, mirrored=False)
    assert names == ["Ada"]
    assert said_of(image)[-1].endswith("Name again who was on it: Eve.")


def test_of_a_mirrored_image_the_place_is_mirrored_too(cast: Cast) -> None:
    assert replaced_faces(cast, mirrored=True)[0] == ["Ada"]


def test_a_face_that_somebody_named_or_who_it_is_not_stays_as_it_is(cast: Cast) -> None:
    ada, eve = Person.objects.create(name="Ada"), Person.objects.create(name="Eve")
    done = {"status": "ready", "held_for": "", "reason": "", "processed_at": timezone.now()}
    named, rejected = pair(cast, **done), pair(cast, **done)
    for noted in (named, rejected):
        make_face(noted.other, ada)
    make_face(named.image, eve)
    face = make_face(rejected.image)
    face.rejections.create(person=ada)
    for noted in (named, rejected):
        assert "Ada" in decide(noted, Choice.REPLACE, cast.editor).said
    assert [str(each.person) for each in named.image.regions.all()] == ["Eve"]
    assert [each.person for each in rejected.image.regions.all()] == [None]


def test_an_image_that_was_held_is_named_once_its_only_face_is_found(cast: Cast) -> None:
    noted = pair(cast)
    make_face(noted.other, Person.objects.create(name="Ada"))
    job = IntakeJob.objects.create(collection=cast.private, source="api")
    line = IntakeLine.objects.create(job=job, source="new.jpg", verdict="stored", image=noted.image)
    assert "Name again" not in decide(noted, Choice.REPLACE, cast.editor).said
    line.refresh_from_db()
    assert line.person_name == "Ada"


def test_of_several_faces_on_an_image_that_was_not_looked_at_none_is_guessed(cast: Cast) -> None:
    noted = pair(cast)
    make_face(noted.other, Person.objects.create(name="Ada"))
    make_face(noted.other, Person.objects.create(name="Eve"), x=200)
    assert decide(noted, Choice.REPLACE, cast.editor).said.endswith("Name again who was on it: Ada, Eve.")


# --- Several, twice, at once ------------------------------------------------------------------------------------------


def test_deciding_twice_says_who_was_first(cast: Cast) -> None:
    noted = pair(cast)
    decide(noted, Choice.KEEP, cast.editor)
    with pytest.raises(CurationError, match="editor has decided already: both kept"):
        decide(noted, Choice.DISCARD, cast.superuser)
    assert Image.objects.count() == 2


def test_what_is_gone_or_was_moved_cannot_be_decided(cast: Cast) -> None:
    gone, moved = pair(cast), pair(cast)
    gone.other.delete()
    Image.objects.filter(pk=moved.image_id).update(collection=cast.foreign)
    for noted in (gone, moved):
        with pytest.raises(Gone):
            decide(noted, Choice.REPLACE, cast.editor)
    assert Image.objects.count() == 3


def test_moving_one_of_them_closes_the_choice_and_releases_it(cast: Cast) -> None:
    noted, together = pair(cast), pair(cast)
    both = [together.image_id, together.other_id]
    images.move(Image.objects.filter(pk__in=[noted.image_id, *both]), cast.foreign, cast.superuser)
    assert list(NearDuplicate.objects.all()) == [together]
    assert release_settled() == 1
    assert (row(noted.image).status, row(together.image).status) == ("queued", "held")


def test_several_at_once_each_for_itself(cast: Cast) -> None:
    one, two, decided = pair(cast), pair(cast), pair(cast)
    three = note(two.image, one.other)  # goes with its image
    decide(decided, Choice.KEEP, cast.superuser)
    done, refused = decide_all([one, two, three, decided], Choice.DISCARD, cast.editor)
    assert done == 3
    assert [each for each, _ in refused] == [decided]
    assert set(Image.objects.all()) == {one.other, two.other, decided.image, decided.other}


def test_what_is_asked_about_anew_is_not_said_to_be_done(cast: Cast) -> None:
    """Two look like an old one, which the first of them replaces: the second looks like the first now."""
    noted = pair(cast)
    second = make_image(cast.private, phash=flipped(some_hash(1), 1), original_name="second.jpg", **HELD)
    Image.objects.filter(pk=noted.image_id).update(phash=some_hash(1), phash_mirrored=some_hash(2))
    other = note(second, noted.other)
    done, refused = decide_all([noted, other], Choice.REPLACE, cast.editor)
    assert done == 1
    assert [(each, why) for each, why in refused] == [
        (other, "It is asked about anew: it looks like new.jpg, too."),
    ]
    left = open_choices(cast.editor).get()
    assert (left.image, left.other) == (second, noted.image)


def held_until_it_waits(first: Callable[[], object], second: Callable[[], object]) -> None:
    """``first`` is done and not committed when ``second`` begins, and is committed once that waits, or is done, too.

    Raises what either did.
    """
    begun, go_on, is_done = threading.Event(), threading.Event(), threading.Event()

    def slowly() -> None:
        with transaction.atomic():
            first()
            begun.set()
            assert go_on.wait(30)

    def later() -> None:
        with transaction.atomic():
            second()
            is_done.set()
            assert go_on.wait(30)

    slow = InThread(slowly)
    assert begun.wait(30)
    quick = InThread(later)
    wait_for("the second", lambda: is_done.is_set() or waiting_for_a_lock())
    go_on.set()
    slow.outcome()
    quick.outcome()


@pytest.mark.django_db(transaction=True)
def test_two_who_replace_images_that_look_like_each_others_do_not_block_each_other() -> None:
    """Both new ones look like both old ones: each replacement hands on a choice about the other's image."""
    cast = make_cast()
    old = [make_image(cast.private, phash=some_hash(1)) for _ in range(2)]
    new = [make_image(cast.private, phash=some_hash(1), phash_mirrored=some_hash(2), **HELD) for _ in range(2)]
    notes = {(one, other): note(one, other) for one in new for other in old}
    held_until_it_waits(
        lambda: decide(notes[new[0], old[0]], Choice.REPLACE, cast.editor),
        lambda: decide(notes[new[1], old[1]], Choice.REPLACE, cast.superuser),
    )
    assert set(Image.objects.all()) == set(new)
    assert {(each.image, each.other) for each in open_choices(cast.superuser)} == {(new[1], new[0])}


@pytest.mark.django_db(transaction=True)
def test_two_group_photos_of_the_same_people_are_replaced_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their faces lie in another order, and each replacement has named one when the other begins."""
    cast = make_cast()
    people = [Person.objects.create(name=name) for name in ("Ada", "Eve")]
    notes = []
    for order in (people, people[::-1]):
        noted = pair(cast, status="ready", held_for="", reason="", processed_at=timezone.now())
        for left, person in zip((20, 300), order, strict=True):
            make_face(noted.other, person, x=left, y=30, width=100, height=100)
            make_face(noted.image, x=left, y=30, width=100, height=100)
        notes.append(noted)
    both = threading.Barrier(2)

    def named(region: Region, *of: Any) -> Region:
        face = name_face(region, *of)
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.5)  # where the other one cannot come so far before we are done, it need not
        return face

    monkeypatch.setattr(duplicates, "name_face", named)
    acts = [InThread(lambda noted=noted: decide(noted, Choice.REPLACE, cast.editor)) for noted in notes]  # type: ignore[misc]
    assert ["Name again" in act.outcome().said for act in acts] == [False, False]


@pytest.mark.django_db(transaction=True)
def test_of_two_who_decide_at_once_the_second_is_told() -> None:
    """One is in the middle of replacing the older image when the other discards the newer one: one image stays."""
    cast = make_cast()
    noted = pair(cast)
    begun, go_on = threading.Event(), threading.Event()

    def slowly() -> None:
        with transaction.atomic():
            decide(noted, Choice.REPLACE, cast.editor)
            begun.set()
            assert go_on.wait(30)

    slow = InThread(slowly)
    assert begun.wait(30)
    second = InThread(lambda: decide(NearDuplicate.objects.get(pk=noted.pk), Choice.DISCARD, cast.superuser))
    wait_until_somebody_waits_for_a_lock()
    go_on.set()
    slow.outcome()
    with pytest.raises(Gone, match="somebody deleted or replaced it"):
        second.outcome()
    assert list(Image.objects.all()) == [noted.image]


@pytest.mark.django_db(transaction=True)
def test_files_go_with_the_image_that_goes_and_the_other_is_processed(
    shop: Collection, cast: Cast, media: Path
) -> None:
    old, new = put_image(shop, photo(1), "old.jpg"), put_image(shop, photo(2), "new.jpg")
    process_all()
    Image.objects.filter(pk=new.pk).update(**HELD)
    NearDuplicate.objects.all().delete()
    decide(note(new, old), Choice.REPLACE, cast.editor)
    process_all()
    assert row(new).status == "ready"
    assert files_in(media)
    assert not [name for name in files_in(media) if str(old.pk) in name]


def test_every_choice_of_the_doors_can_be_made() -> None:
    assert set(duplicates.Choice) == set(duplicates._DECIDE)


# --- Brought again ----------------------------------------------------------------------------------------------------


def lines_of(job: IntakeJob) -> list[tuple[str, Image | None]]:
    return [(line.verdict, line.image) for line in job.lines.select_related("image")]


@pytest.mark.parametrize("choice", [Choice.DISCARD, Choice.REPLACE])
def test_what_was_let_go_is_not_taken_in_again(cast: Cast, choice: Choice) -> None:
    first = put_image(cast.private, photo(seed=1), "old.jpg")
    second = put_image(cast.private, photo(seed=2), "new.jpg")
    noted = note(second, first)
    decide(noted, choice, cast.editor)
    gone, kept = (second, first) if choice == Choice.DISCARD else (first, second)
    job = IntakeJob.objects.create(collection=cast.private, source=IntakeJob.Source.FOLDER)
    line = receive(job, io.BytesIO(photo(seed=2 if gone is second else 1)), "again.jpg")
    assert (line.verdict, line.image) == ("duplicate", kept)
    assert "discarded" in line.reason
    assert not open_choices(cast.editor).exists()
    elsewhere = IntakeJob.objects.create(collection=cast.public, source=IntakeJob.Source.FOLDER)
    assert receive(elsewhere, io.BytesIO(photo(seed=1)), "there.jpg").verdict == "stored"


def test_an_address_whose_image_was_let_go_is_not_fetched_again(cast: Cast) -> None:
    noted = pair(cast)
    job = IntakeJob.objects.create(collection=cast.private, source=IntakeJob.Source.URLS)
    url = "https://photographs.example/new.jpg"
    IntakeLine.objects.create(job=job, source=url, url=url, verdict="stored", image=noted.image)
    decide(noted, Choice.DISCARD, cast.editor)
    assert lines_of(job) == [("duplicate", noted.other)]
    again = url_lists.start(cast.private, url_lists.read(url))
    assert lines_of(again) == [("duplicate", noted.other)]


def test_what_was_let_go_for_one_that_goes_too_stays_away(cast: Cast) -> None:
    names = ("a.jpg", "b.jpg", "c.jpg")
    a, b, c = (put_image(cast.private, photo(seed=seed), name) for seed, name in enumerate(names))
    decide(note(b, a), Choice.DISCARD, cast.editor)  # b for a
    decide(note(c, a), Choice.REPLACE, cast.editor)  # a for c
    job = IntakeJob.objects.create(collection=cast.private, source=IntakeJob.Source.FOLDER)
    assert receive(job, io.BytesIO(photo(seed=1)), "b.jpg").image == c
    c.delete()
    assert receive(job, io.BytesIO(photo(seed=1)), "b.jpg").verdict == "stored"
