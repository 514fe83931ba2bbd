"""From a stored file to regions with embeddings, once and again, with and without accidents."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from django.core.management import call_command
from django.db import transaction
from django.utils import timezone
from PIL import Image as PILImage
from pytest_django import Settings

from catalog import storage, storing
from catalog.embedding_models import register_models
from catalog.models import Collection, Embedding, EmbeddingModel, Image, IntakeLine, Person, Region
from catalog.processing import process_batch
from catalog.tasks import process_images
from catalog.uploads import process_again
from catalog.vision.errors import ModelFailed
from catalog.vision.originals.client import Original
from tests.cast import make_face
from tests.drawn import image_file, photo, turned_photo
from tests.fake_original import NAME as FAKE_ORIGINAL
from tests.fakes import ColourSquares, MeanColour
from tests.library import (
    InThread,
    files_in,
    process_all,
    put_image,
    ready,
    squares,
    wait_until_somebody_waits_for_a_lock,
)

pytestmark = pytest.mark.django_db
SQUARE = (20, 30, 40, "red")  # left, top, side


def faces(image: Image) -> list[Region]:
    return list(image.regions.filter(pipeline="face"))


def box(region: Region) -> tuple[float, ...]:
    return region.x, region.y, region.width, region.height


def embedding_ids() -> dict[Any, int]:
    return {row.region_id: row.pk for row in Embedding.objects.all()}


def again(image: Image, media: Path, *what: tuple[int, int, int, str]) -> None:
    """Process once more; with ``what``, as if the detector now saw these squares."""
    if what:
        (media / "originals" / storage.original_key(image.pk, image.format)).write_bytes(squares(*what))
    assert process_again([image.pk]) == 1
    process_all()
    image.refresh_from_db()
    assert image.status == "ready", image.reason


def end_all_rests() -> None:
    past = timezone.now() - timedelta(seconds=1)
    Image.objects.exclude(lease_until=None).update(lease_until=past)


# --- Ready ------------------------------------------------------------------------------------------------------------


def test_an_image_becomes_regions_with_embeddings(shop: Collection) -> None:
    image = ready(shop, squares(SQUARE, (120, 60, 50, "blue")))
    assert [(region.pipeline, box(region)) for region in image.regions.order_by("pipeline", "-width")] == [
        ("face", (120, 60, 50, 50)),
        ("face", (20, 30, 40, 40)),
        ("image", (0, 0, 200, 150)),
    ]
    for region in image.regions.all():
        embedding = region.embeddings.get()
        assert embedding.model.pipeline == region.pipeline
        assert embedding.dimension == embedding.model.dimension == 8
    blue, red = (np.frombuffer(face.embeddings.get().vector, "<f4") for face in faces(image))
    assert red == pytest.approx([1.01, 0.01] * 4)
    assert blue == pytest.approx([0.01, 1.01] * 4)
    face = faces(image)[0]
    assert (face.score, face.origin) == (1.0, "detector")
    assert face.detector.startswith("squares ")
    assert (image.reason, image.claimed_by, image.lease_until, image.attempts) == ("", "", None, 0)
    assert image.processed_at is not None


def test_boxes_are_in_pixels_of_the_original(shop: Collection) -> None:
    image = ready(shop, squares((800, 400, 400, "red"), size=(3000, 2000)))
    (face,) = faces(image)
    assert box(face) == pytest.approx((800, 400, 400, 400), abs=8)


def test_a_collection_runs_its_own_pipelines_only(shop: Collection) -> None:
    collection = Collection.objects.create(name="no faces", pipelines=["image"])
    bare = Collection.objects.create(name="bare")
    image, kept = ready(collection, squares(SQUARE)), ready(bare, squares(SQUARE))
    assert [region.pipeline for region in image.regions.all()] == ["image"]
    assert not kept.regions.exists()


def test_renditions_are_small_oriented_and_tell_nothing(shop: Collection) -> None:
    image = ready(shop, turned_photo())
    for size in (320, 1280):
        with storage.renditions().open(storage.rendition_key(image.pk, size)) as file:
            data = file.read()
        assert b"secret" not in data
        rendition = PILImage.open(io.BytesIO(data))
        assert (rendition.format, rendition.size) == ("WEBP", (40, 60))  # never enlarged
        assert not rendition.getexif()
        assert not {"exif", "xmp", "icc_profile"} & rendition.info.keys()
        red, blue = (np.array(rendition.convert("RGB"))[row, 20] for row in (5, 55))
        assert red == pytest.approx([255, 0, 0], abs=60)
        assert blue == pytest.approx([0, 0, 255], abs=60)


@pytest.mark.parametrize(
    ("size", "small", "large"), [((1600, 400), (320, 80), (1280, 320)), ((9, 700), (4, 320), (9, 700))]
)
def test_renditions_have_a_longest_side(
    shop: Collection, size: tuple[int, int], small: tuple[int, int], large: tuple[int, int]
) -> None:
    image = ready(shop, image_file(size=size))
    for longest, expected in ((320, small), (1280, large)):
        with storage.renditions().open(storage.rendition_key(image.pk, longest)) as file:
            assert PILImage.open(file).size == expected


def test_a_task_works_until_nothing_waits(shop: Collection, settings: Settings) -> None:
    settings.VISEARCH_BATCH = 2
    images = [put_image(shop, photo(seed, (30, 20))) for seed in range(5)]
    process_images(str(images[4].pk))
    assert {image.status for image in Image.objects.all()} == {"ready"}
    images[0].delete()
    process_images("019391c8-0000-7000-8000-000000000000")  # gone: nothing to do


# --- Again ------------------------------------------------------------------------------------------------------------


def test_a_second_run_changes_nothing(shop: Collection, media: Path) -> None:
    image = ready(shop, squares(SQUARE, (120, 60, 50, "blue")))
    regions, ids, files = list(image.regions.values()), embedding_ids(), files_in(media)
    again(image, media)
    assert list(image.regions.values()) == regions
    assert embedding_ids() == ids
    assert files_in(media) == files


def test_a_face_found_nearby_is_the_same_face(shop: Collection, media: Path) -> None:
    image = ready(shop, squares(SQUARE))
    (face,), ids = faces(image), embedding_ids()
    again(image, media, (25, 33, 44, "red"))
    (moved,) = faces(image)
    assert (moved.pk, box(moved)) == (face.pk, (25, 33, 44, 44))
    assert embedding_ids()[face.pk] == ids[face.pk]  # the same vector is the same row


def test_a_face_found_elsewhere_is_another_face(shop: Collection, media: Path) -> None:
    image = ready(shop, squares(SQUARE))
    (face,) = faces(image)
    again(image, media, (100, 60, 40, "red"))
    (other,) = faces(image)
    assert other.pk != face.pk
    assert face.pk not in embedding_ids()


def test_each_face_is_matched_with_the_one_nearest_to_it(shop: Collection, media: Path) -> None:
    image = ready(shop, squares((20, 30, 40, "red"), (80, 30, 42, "blue")))
    by_left = {face.x: face.pk for face in faces(image)}
    again(image, media, (22, 32, 42, "red"), (82, 32, 40, "blue"))
    assert {face.x: face.pk for face in faces(image)} == {22: by_left[20], 82: by_left[80]}


def test_another_vector_is_a_new_row_with_a_larger_id(shop: Collection, media: Path) -> None:
    image = ready(shop, squares(SQUARE))
    (face,), before = faces(image), embedding_ids()
    again(image, media, (20, 30, 40, "blue"))
    after = embedding_ids()
    assert after[face.pk] > max(before.values())
    assert len(after) == len(before)


@pytest.mark.parametrize(
    "what", [{"person": "Ada"}, {"dismissed": True}, {"origin": "person"}], ids=["named", "dismissed", "drawn"]
)
def test_what_somebody_named_dismissed_or_drew_stays(shop: Collection, media: Path, what: dict[str, Any]) -> None:
    image = ready(shop, squares(SQUARE))
    (face,), ids = faces(image), embedding_ids()
    if "person" in what:
        what = {"person": Person.objects.create(name="Ada")}
    Region.objects.filter(pk=face.pk).update(**what)
    again(image, media, (140, 90, 40, "blue"))
    kept, new = faces(image)
    assert (kept.pk, box(kept)) == (face.pk, (20, 30, 40, 40))
    assert {name: getattr(kept, name) for name in what} == what
    assert embedding_ids()[kept.pk] == ids[kept.pk]
    assert box(new) == (140, 90, 40, 40)


def test_a_named_face_moves_with_its_name_and_a_dismissed_one_stays_dismissed(shop: Collection, media: Path) -> None:
    image = ready(shop, squares(SQUARE, (120, 60, 50, "blue")))
    second, first = faces(image)
    ada = Person.objects.create(name="Ada")
    Region.objects.filter(pk=first.pk).update(person=ada)
    Region.objects.filter(pk=second.pk).update(dismissed=True)
    again(image, media, (22, 31, 41, "red"), (122, 61, 50, "blue"))
    regions = {region.pk: region for region in faces(image)}
    assert regions.keys() == {first.pk, second.pk}
    assert (regions[first.pk].person, box(regions[first.pk])) == (ada, (22, 31, 41, 41))
    assert (regions[second.pk].dismissed, box(regions[second.pk])) == (True, (122, 61, 50, 50))


def test_a_region_that_somebody_drew_gets_a_vector_and_keeps_its_box(shop: Collection, media: Path) -> None:
    image = ready(shop, squares(SQUARE))
    unseen = make_face(image, x=100, y=80, width=30, height=30, origin="person", score=None)
    over_a_face = faces(image)[0]
    Region.objects.filter(pk=over_a_face.pk).update(x=22, y=32, width=30, height=30, origin="person")
    again(image, media)
    assert {box(region) for region in faces(image)} == {(100, 80, 30, 30), (22, 32, 30, 30)}
    vector = np.frombuffer(unseen.embeddings.get().vector, "<f4")
    assert vector == pytest.approx([200 / 255 + 0.01] * 8, abs=1e-3)  # the grey ground


# --- The person of a face ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (squares(SQUARE), 1),
        (squares(SQUARE, (120, 60, 50, "blue")), 0),
        (image_file((200, 200, 200)), 0),
    ],
    ids=["one face", "two faces", "no face"],
)
def test_a_person_is_named_on_the_only_face(shop: Collection, data: bytes, named: int) -> None:
    image = ready(shop, data, person="Ada")
    assert [face.person.name for face in faces(image) if face.person] == ["Ada"] * named
    assert Person.objects.count() == named


def test_a_name_that_somebody_gave_is_not_overwritten(shop: Collection, media: Path) -> None:
    first, second = ready(shop, squares(SQUARE), person="Ada"), ready(shop, squares((9, 9, 40, "red")), person="Ada")
    assert Person.objects.count() == 1
    assert faces(first)[0].person == faces(second)[0].person
    Region.objects.filter(image=first).update(person=Person.objects.create(name="Grace"))
    again(first, media)
    assert [face.person.name for face in faces(first) if face.person] == ["Grace"]


# --- Accidents --------------------------------------------------------------------------------------------------------


def original(image: Image, media: Path) -> Path:
    return media / "originals" / storage.original_key(image.pk, image.format)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-300])


@pytest.mark.parametrize(
    ("harm", "says"), [(cut_off, "cut off or damaged"), (Path.unlink, "Restore it, or delete")], ids=["cut off", "gone"]
)
def test_a_file_that_does_not_decode_fails_its_image_and_its_line(
    shop: Collection, media: Path, harm: Callable[[Path], None], says: str
) -> None:
    image, other = put_image(shop, photo(1)), put_image(shop, photo(2))
    data = original(image, media).read_bytes()
    harm(original(image, media))
    process_all()
    image.refresh_from_db()
    line = IntakeLine.objects.get(image=image)
    assert image.status == line.verdict == "failed"
    assert says in image.reason
    assert image.reason == line.reason
    assert Image.objects.get(pk=other.pk).status == "ready"
    original(image, media).write_bytes(data)
    again(image, media)
    line.refresh_from_db()
    assert (line.verdict, line.code, line.reason) == ("stored", "", "")


def test_a_file_that_cannot_be_read_now_is_waited_for(shop: Collection, media: Path) -> None:
    image = put_image(shop, photo())
    data = original(image, media).read_bytes()
    original(image, media).unlink()
    original(image, media).mkdir()
    process_all()
    image.refresh_from_db()
    assert (image.status, image.attempts) == ("queued", 0)
    assert "cannot be read" in image.reason
    original(image, media).rmdir()
    original(image, media).write_bytes(data)
    end_all_rests()
    process_all()
    assert Image.objects.get().status == "ready"


def test_originals_that_are_not_mounted_fail_nothing(shop: Collection, media: Path) -> None:
    before = [put_image(shop, photo(seed)) for seed in range(3)]
    (media / "originals").rename(media / "elsewhere")
    process_all()
    assert {(image.status, image.attempts) for image in Image.objects.all()} == {("queued", 0)}
    assert all("storage of originals is empty, or not there" in image.reason for image in Image.objects.all())

    after = put_image(shop, photo(9))  # somebody uploads meanwhile, into the folder below
    end_all_rests()
    process_all()
    assert dict(Image.objects.values_list("pk", "status")) == {
        **{image.pk: "queued" for image in before},
        after.pk: "ready",
    }

    for folder in (media / "elsewhere").glob("??"):
        for file in folder.iterdir():
            (media / "originals" / folder.name).mkdir(exist_ok=True)
            file.rename(media / "originals" / folder.name / file.name)
    end_all_rests()
    process_all()
    assert {image.status for image in Image.objects.all()} == {"ready"}


def test_an_unreadable_file_is_not_waited_for_because_the_newest_one_is_unreadable_too(
    shop: Collection, media: Path
) -> None:
    ready(shop, photo(1))
    image, newest = put_image(shop, photo(2)), put_image(shop, photo(3))
    process_all()
    for each in (image, newest):
        original(each, media).unlink()
        original(each, media).mkdir()
    process_again([image.pk])
    for _ in range(3):
        process_all()
        end_all_rests()
    image.refresh_from_db()
    assert image.status == "failed"
    assert "others can be read" in image.reason


def test_renditions_that_cannot_be_written_now_are_waited_for(shop: Collection, media: Path) -> None:
    image = put_image(shop, photo())
    (media / "renditions").write_bytes(b"in the way")
    process_all()
    image.refresh_from_db()
    assert (image.status, image.attempts) == ("queued", 0)
    assert "cannot be written" in image.reason
    (media / "renditions").unlink()
    end_all_rests()
    process_all()
    assert Image.objects.get().status == "ready"


def test_an_image_that_breaks_the_code_fails_alone(
    shop: Collection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    detect = ColourSquares.detect

    def detect_or_break(self: ColourSquares, image: PILImage.Image) -> Any:
        if image.size == (31, 20):
            raise ZeroDivisionError("no such colour")
        return detect(self, image)

    monkeypatch.setattr(ColourSquares, "detect", detect_or_break)
    images = [put_image(shop, photo(seed, (30 + (seed == 1), 20))) for seed in range(4)]
    assert process_batch() == 4
    statuses = [Image.objects.get(pk=image.pk).status for image in images]
    assert statuses == ["ready", "failed", "ready", "ready"]
    assert "ZeroDivisionError" in Image.objects.get(pk=images[1].pk).reason
    assert "no such colour" in caplog.text


def fail_for(monkeypatch: pytest.MonkeyPatch, is_too_much: Callable[[PILImage.Image], bool]) -> None:
    """The embedders' network has no numbers for a batch with such a crop."""
    embed = MeanColour.embed

    def embed_or_fail(self: MeanColour, crops: Sequence[PILImage.Image]) -> Any:
        if any(map(is_too_much, crops)):
            raise ModelFailed("colours", "The model colours gave numbers that are not finite.")
        return embed(self, crops)

    monkeypatch.setattr(MeanColour, "embed", embed_or_fail)


@pytest.mark.parametrize("others", [0, 3])
def test_an_image_that_the_network_has_no_numbers_for_fails_alone(
    shop: Collection, monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    fail_for(monkeypatch, lambda crop: crop.getextrema() == ((0, 0),) * 3)
    black = put_image(shop, image_file((0, 0, 0)))
    fine = [put_image(shop, photo(seed)) for seed in range(others)]
    assert process_batch() == 1 + others
    black.refresh_from_db()
    assert black.status == "failed"
    assert "colours gives no usable numbers for this image" in black.reason
    assert [Image.objects.get(pk=image.pk).status for image in fine] == ["ready"] * others


def test_images_wait_for_a_network_that_has_no_numbers_for_anything(
    shop: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_for(monkeypatch, lambda crop: True)
    images = [put_image(shop, photo(seed)) for seed in range(3)]
    assert process_batch() == 3
    assert [Image.objects.get(pk=image.pk).status for image in images] == ["queued"] * 3
    assert set(Image.objects.values_list("attempts", flat=True)) == {0}


def test_an_image_that_the_detectors_network_fails_for_waits_alone(
    shop: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    detect = ColourSquares.detect

    def detect_or_fail(self: ColourSquares, image: PILImage.Image) -> Any:
        if image.size == (31, 20):
            raise ModelFailed("squares", "The model squares cannot be run.")
        return detect(self, image)

    monkeypatch.setattr(ColourSquares, "detect", detect_or_fail)
    images = [put_image(shop, photo(seed, (30 + (seed == 1), 20))) for seed in range(3)]
    assert process_batch() == 3
    assert [Image.objects.get(pk=image.pk).status for image in images] == ["ready", "queued", "ready"]


@pytest.mark.parametrize(
    "harm", [{"task": "fail"}, {"task": "die", "status": np.array(3)}, {"task": "hang"}], ids=["fail", "die", "hang"]
)
def test_an_image_on_which_an_original_breaks_holds_up_no_other_and_fails_in_the_end(
    shop: Collection, monkeypatch: pytest.MonkeyPatch, harm: dict[str, Any]
) -> None:
    package = Original("squares", FAKE_ORIGINAL, answer_seconds=1 if harm["task"] == "hang" else 60, stateless=True)
    detect = ColourSquares.detect

    def detect_by_process(self: ColourSquares, image: PILImage.Image) -> Any:
        package.ask(**(harm if image.size == (31, 20) else {"task": "who"}))
        return detect(self, image)

    monkeypatch.setattr(ColourSquares, "detect", detect_by_process)
    package.ask("who")
    images = [put_image(shop, photo(seed, (30 + (seed == 0), 20))) for seed in range(3)]
    assert process_batch() == 3
    assert [Image.objects.get(pk=image.pk).status for image in images] == ["queued", "ready", "ready"]
    end_all_rests()
    later = put_image(shop, photo(9, (30, 20)))
    assert [process_batch(), process_batch(), process_batch()] == [1, 1, 0]  # it is tried alone
    assert Image.objects.get(pk=later.pk).status == "ready"
    assert "squares failed for this image; it is tried again" in Image.objects.get(pk=images[0].pk).reason
    end_all_rests()
    process_all()
    failed = Image.objects.get(pk=images[0].pk)
    assert failed.status == IntakeLine.objects.get(image=failed).verdict == "failed"
    assert "The model squares failed for this image 3 times, while it runs for others" in failed.reason
    package.close()


def test_images_wait_for_an_original_that_breaks_on_everything(
    shop: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = Original("squares", FAKE_ORIGINAL, stateless=True)
    monkeypatch.setattr(ColourSquares, "detect", lambda self, image: package.ask("fail"))
    images = [put_image(shop, photo(seed)) for seed in range(2)]
    for _ in range(4):
        process_all()
        end_all_rests()
    package.close()
    for image in images:
        image.refresh_from_db()
        assert (image.status, image.attempts) == ("queued", 0)
        assert "the model squares cannot be used" in image.reason


def test_an_image_that_cannot_be_stored_fails_alone(
    shop: Collection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    images = [put_image(shop, photo(seed, (30, 20))) for seed in range(3)]

    def break_on_the_second(keys: list[UUID]) -> None:
        if images[1].pk in keys:
            raise ZeroDivisionError("no such person")

    monkeypatch.setattr(storing, "name_only_faces", break_on_the_second)
    assert process_batch() == 3
    assert [Image.objects.get(pk=image.pk).status for image in images] == ["ready", "failed", "ready"]
    assert not images[1].regions.exists()
    assert "ZeroDivisionError" in Image.objects.get(pk=images[1].pk).reason
    assert "no such person" in caplog.text


def test_a_vector_that_is_not_the_models_is_never_stored(shop: Collection, settings: Settings) -> None:
    image = put_image(shop, squares(SQUARE))
    EmbeddingModel.objects.filter(pipeline="face").update(fingerprint="0" * 64)
    process_all()
    image.refresh_from_db()
    assert (image.status, image.attempts) == ("queued", 0)
    assert "no longer the model that serves" in image.reason
    assert not Embedding.objects.exists()


@pytest.mark.parametrize("what", ["pipeline", "embedder"])
def test_settings_that_lost_what_a_collection_runs_are_waited_for(
    shop: Collection, settings: Settings, what: str
) -> None:
    image = put_image(shop, squares(SQUARE))
    before = settings.VISEARCH_PIPELINES, settings.VISEARCH_EMBEDDERS
    settings.VISEARCH_PIPELINES = {"image": before[0]["image"]}
    if what == "embedder":
        settings.VISEARCH_EMBEDDERS = {"image-colours": before[1]["image-colours"]}
    process_all()
    image.refresh_from_db()
    assert (image.status, image.attempts) == ("queued", 0)
    settings.VISEARCH_PIPELINES, settings.VISEARCH_EMBEDDERS = before
    end_all_rests()
    process_all()
    assert len(faces(image)) == 1


def test_a_pipeline_without_a_model_waits_and_the_others_go_on(shop: Collection) -> None:
    EmbeddingModel.objects.filter(pipeline="face").update(state="retired")
    no_faces = Collection.objects.create(name="no faces", pipelines=["image"])
    waiting = [put_image(shop, photo(seed, (30, 20))) for seed in range(9)]
    fine = [put_image(no_faces, photo(seed, (30, 20))) for seed in range(3)]
    process_all()
    for image in waiting:
        image.refresh_from_db()
        assert (image.status, image.attempts) == ("queued", 0)
        assert "No embedding model serves the pipeline 'face'" in image.reason
        assert "models build" in image.reason
    assert {Image.objects.get(pk=image.pk).status for image in fine} == {"ready"}
    EmbeddingModel.objects.filter(pipeline="face").update(state="serving")
    end_all_rests()
    process_all()
    assert {image.status for image in Image.objects.all()} == {"ready"}


@pytest.mark.models
def test_images_wait_for_a_missing_model_file_until_it_is_built(
    db: None, media: Path, settings: Settings, tmp_path: Path
) -> None:
    settings.VISEARCH_MODELS_DIR = tmp_path / "models"
    settings.VISEARCH_PIPELINES = {"image": settings.VISEARCH_PIPELINES["image"]}
    register_models()
    collection = Collection.objects.create(name="shop", pipelines=["image"])
    image = put_image(collection, photo())
    process_all()
    image.refresh_from_db()
    assert (image.status, image.attempts) == ("queued", 0)
    assert "models build" in image.reason
    assert len(files_in(media)) == 1
    call_command("models", "build", stdout=io.StringIO())
    end_all_rests()
    process_all()
    image.refresh_from_db()
    assert (image.status, image.reason) == ("ready", "")
    assert image.regions.get().embeddings.get().dimension == 1280


# --- At the same time -------------------------------------------------------------------------------------------------


def lock_the_models() -> None:
    """As a transaction does that stores embeddings."""
    list(EmbeddingModel.objects.select_for_update().order_by("pk"))


@pytest.mark.django_db(transaction=True)
def test_an_image_that_is_deleted_while_it_is_processed_leaves_nothing(shop: Collection, media: Path) -> None:
    image = put_image(shop, squares(SQUARE))
    with transaction.atomic():
        lock_the_models()
        working = InThread(process_batch)
        wait_until_somebody_waits_for_a_lock()  # its renditions are written, its regions are not stored yet
        assert len(files_in(media)) == 3
        InThread(lambda: Image.objects.get(pk=image.pk).delete()).outcome()
    assert working.outcome() == 1
    assert files_in(media) == []
    assert not Region.objects.exists()
    assert not Embedding.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_an_image_that_is_deleted_before_its_renditions_leaves_nothing(
    shop: Collection, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_image(shop, squares(SQUARE))
    embed = MeanColour.embed

    def embed_after_the_deletion(self: MeanColour, crops: Any) -> Any:
        Image.objects.all().delete()
        return embed(self, crops)

    monkeypatch.setattr(MeanColour, "embed", embed_after_the_deletion)
    process_batch()
    assert files_in(media) == []
    assert not Region.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_whoever_lost_its_lease_stores_nothing(shop: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    image = put_image(shop, squares(SQUARE))
    embed = MeanColour.embed

    def embed_too_late(self: MeanColour, crops: Any) -> Any:
        Image.objects.update(claimed_by="somebody else")
        return embed(self, crops)

    monkeypatch.setattr(MeanColour, "embed", embed_too_late)
    process_batch()
    image.refresh_from_db()
    assert (image.status, image.claimed_by) == ("processing", "somebody else")
    assert not image.regions.exists()


@pytest.mark.django_db(transaction=True)
def test_embedding_ids_commit_in_order(shop: Collection) -> None:
    first, second = ready(shop, squares(SQUARE)), put_image(shop, squares((9, 9, 40, "blue")))
    face = make_face(first, x=100, y=80)
    model = EmbeddingModel.objects.get(pipeline="face")
    with transaction.atomic():
        lock_the_models()
        working = InThread(process_batch)
        wait_until_somebody_waits_for_a_lock()
        slow = Embedding.objects.create(region=face, model=model, dimension=8, vector=b"0123" * 8)
    assert working.outcome() == 1
    assert min(row.pk for row in Embedding.objects.filter(region__image=second)) > slow.pk
