"""Labelled vectors of folders and of collections: what is taken, what is left out, and that it is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from catalog.models import Collection, EmbeddingModel, Person, Region
from search.evaluation.collections import read_collection
from search.evaluation.folders import read_folder
from search.evaluation.labelled import LabelsAre, Missed, Reading
from tests.cast import make_image
from tests.library import ready, squares
from tests.library_fixtures import fakes, media, registered, shop

__all__ = ["fakes", "media", "registered", "shop"]
pytestmark = pytest.mark.django_db

ONE = squares((10, 10, 40, "red"))
TWO = squares((10, 10, 60, "red"), (100, 20, 40, "blue"))
NONE = squares()


def serving(pipeline: str) -> EmbeddingModel:
    return EmbeddingModel.objects.get(pipeline=pipeline, state="serving")


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def reasons(reading: Reading) -> dict[str, str]:
    return {each.name: each.reason for each in reading.left_out}


def read(folder: Path, pipeline: str = "face", *, as_queries: bool = False) -> Reading:
    return read_folder(folder, serving(pipeline), as_queries=as_queries, on_file=lambda done, total: None)


def test_a_folder_is_read_as_the_site_would_and_nothing_is_left_out_silently(shop: Collection, tmp_path: Path) -> None:
    other = squares((30, 30, 40, "blue"))
    folder = write(
        tmp_path / "photos",
        {
            "ada/1.png": ONE,
            "ada/again.png": ONE,
            "ada/nobody.png": NONE,
            "ada/several.png": TWO,
            "ada/deep/2.png": other,
            "bob/broken.png": ONE[:200],
            "bob/text.txt": b"Dear Sir",
            "loose.png": squares((50, 50, 40, "red")),
        },
    )
    (folder / "bob" / "link.png").symlink_to(folder / "ada" / "1.png")
    seen: list[tuple[int, int]] = []
    reading = read_folder(
        folder, serving("face"), as_queries=False, on_file=lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (9, 9)
    assert [(item.name, item.label) for item in reading.labelled.items] == [
        ("ada/1.png", "ada"),
        ("ada/deep/2.png", "ada"),
    ]
    assert reading.missed == (Missed("ada/nobody.png", "ada"),)
    said = reasons(reading)
    assert said["ada/again.png"] == "it is the same file as ada/1.png"
    assert "2 faces" in said["ada/several.png"]
    assert "no folder" in said["loose.png"]
    assert "not a regular file" in said["bob/link.png"]
    assert set(said) == {
        "ada/again.png",
        "ada/several.png",
        "loose.png",
        "bob/link.png",
        "bob/broken.png",
        "bob/text.txt",
    }
    assert reading.images == 9


def test_of_a_query_with_several_faces_the_one_that_a_search_takes(shop: Collection, tmp_path: Path) -> None:
    folder = write(tmp_path / "queries", {"ada/several.png": TWO})
    (item,) = read(folder, as_queries=True).labelled.items
    assert item.box is not None
    assert item.box.width == 60


def test_a_folder_gives_the_vectors_that_are_stored(shop: Collection, tmp_path: Path) -> None:
    image = ready(shop, ONE, label="red")
    for pipeline in ("face", "image"):
        folder = write(tmp_path / pipeline, {"red/1.png": ONE})
        from_folder, stored = read(folder, pipeline), read_collection(shop, serving(pipeline))
        np.testing.assert_array_equal(from_folder.labelled.vectors, stored.labelled.vectors)
        assert from_folder.labelled.files == stored.labelled.files == {image.sha256}


def test_whole_images_have_the_labels_of_their_images(shop: Collection) -> None:
    ready(shop, ONE, label="shoe", title="A shoe")
    ready(shop, TWO)
    make_image(shop, label="shoe", title="without a vector")
    make_image(shop, title="queued", status="queued", label="shoe")
    reading = read_collection(shop, serving("image"))
    assert [(item.name, item.label, item.box) for item in reading.labelled.items] == [("A shoe", "shoe", None)]
    assert reading.labels_are is LabelsAre.IMAGES
    assert [each.reason for each in reading.left_out] == ["it has no label"]
    assert reading.missed == (Missed("without a vector", "shoe"),)
    assert reading.images == 3


def test_faces_have_the_label_of_their_image_where_it_shows_one(shop: Collection) -> None:
    ready(shop, ONE, label="ada", title="one")
    ready(shop, TWO, label="ada", title="two")
    ready(shop, NONE, label="ada", title="none")
    reading = read_collection(shop, serving("face"))
    assert [item.name for item in reading.labelled.items] == ["one"]
    assert reading.missed == (Missed("none", "ada"),)
    assert reasons(reading)["two"].startswith("it shows several faces")


def test_faces_are_called_by_people_where_more_of_them_are_named_and_never_by_both(shop: Collection) -> None:
    ready(shop, ONE, label="a label", title="one")
    two = ready(shop, TWO, label="a label", title="two")
    for region, name in zip(Region.objects.filter(image=two, pipeline="face"), ("Ada", "Bob"), strict=True):
        region.person = Person.objects.create(name=name)
        region.save()
    reading = read_collection(shop, serving("face"))
    assert reading.labels_are is LabelsAre.PEOPLE
    assert sorted(reading.labelled.labels) == ["Ada", "Bob"]
    assert reasons(reading) == {"one": "a face that nobody named"}


def test_what_was_dismissed_is_in_no_figure(shop: Collection) -> None:
    image = ready(shop, ONE, label="ada", title="one")
    Region.objects.filter(image=image, pipeline="face").update(dismissed=True)
    reading = read_collection(shop, serving("face"))
    assert len(reading.labelled) == 0
    assert reading.missed == (Missed("one", "ada"),)


def test_of_more_than_can_be_held_some_are_drawn_always_the_same(
    shop: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        ready(shop, squares((10 + number, 10, 40, "red")), label="ada")
    everything = read_collection(shop, serving("image")).labelled
    monkeypatch.setattr("search.evaluation.collections.MOST_STORED", 3)
    some = read_collection(shop, serving("image")).labelled
    assert len(some) == 3
    for vector, item in zip(some.vectors, some.items, strict=True):
        np.testing.assert_array_equal(vector, everything.vectors[everything.items.index(item)])
    assert read_collection(shop, serving("image")).labelled.items == some.items
