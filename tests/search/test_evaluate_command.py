"""`manage.py evaluate`: what it prints, writes and saves, and what it says where it cannot."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from PIL import Image as PILImage

from catalog.models import Collection, EmbeddingModel
from search.models import EvaluationRun
from tests.library import files_in, ready, squares

pytestmark = pytest.mark.django_db
COLOURS = {"red": "#{:02x}1010", "blue": "#1010{:02x}", "violet": "#{:02x}10f0"}


def photo(colour: str, number: int) -> bytes:
    """Of a colour of its own in a place of its own."""
    return squares((5 + number, 8 + 2 * number, 30 + number, COLOURS[colour].format(200 + number)))


def photos(folder: Path, each: int, first: int = 0) -> Path:
    for colour in COLOURS:
        (folder / colour).mkdir(parents=True)
        for number in range(first, first + each):
            (folder / colour / f"{number}.png").write_bytes(photo(colour, number))
    return folder


def run(**options: Any) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command("evaluate", stdout=out, stderr=err, **options)
    return out.getvalue(), err.getvalue()


def test_held_out_queries_of_a_folder(shop: Collection, tmp_path: Path) -> None:
    train, val = photos(tmp_path / "train", 9), photos(tmp_path / "val", 2, first=20)
    out, err = run(folder=train, queries=val, out=tmp_path / "figures", save=True)
    assert "held-out queries, 6 queries" in out
    assert "all                          6  1.0000" in out
    made = files_in(tmp_path / "figures")
    assert {"evaluation.json", "roc.png", "distances.png", "nearest-1-typical.png"} <= set(made)
    assert not [name for name in made if "tmp" in name]
    for name in made:
        if name.endswith(".png"):
            assert PILImage.open(tmp_path / "figures" / name).width > 500
    model = EmbeddingModel.objects.get(pipeline="face")
    kept = EvaluationRun.objects.get()
    assert kept.figures == json.loads((tmp_path / "figures" / "evaluation.json").read_text())
    assert model.evaluation["run"] == str(kept.pk)
    assert f"same is {model.same_distance:g} now" in err


def test_as_json_nothing_else_is_printed(shop: Collection, tmp_path: Path) -> None:
    out, _ = run(folder=photos(tmp_path / "train", 4), pipeline="image", json=True)
    figures = json.loads(out)
    assert figures["way"] == "leave one out"
    assert figures["metric"] == "cosine"
    assert figures["catalogue"]["images"] == 12


def test_a_collection_by_its_labels_also_with_queries_of_a_folder(shop: Collection, tmp_path: Path) -> None:
    for colour in COLOURS:
        for number in range(4):
            ready(shop, photo(colour, number), label=colour, title=f"{colour} {number}")
    out, _ = run(collection="shop", out=tmp_path / "figures")
    assert "catalogue: the collection shop, 12 images, 12 vectors of 3 labels (the labels of images)" in out
    assert "nearest-1-typical.png" in files_in(tmp_path / "figures")
    assert EvaluationRun.objects.get().collection == shop
    out, _ = run(collection="shop", queries=photos(tmp_path / "val", 1, first=20))
    assert "held-out queries, 3 queries" in out
    with pytest.raises(CommandError, match=r"very files of the catalogue .*red/2.png \(there red 2\)"):
        run(collection="shop", queries=photos(tmp_path / "same", 1, first=2))


def test_what_was_missed_is_counted_and_named(shop: Collection, tmp_path: Path) -> None:
    train, val = photos(tmp_path / "train", 4), photos(tmp_path / "val", 1, first=20)
    (val / "red" / "nobody.png").write_bytes(squares())
    out, _ = run(folder=train, queries=val)
    assert "nothing found in 1: red/nobody.png" in out
    assert "counted as wrong: 0.7500" in out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"collection": "no such"}, "There is no collection 'no such'."),
        ({"folder": Path("/no/such")}, "is no folder"),
        ({"collection": "shop", "pipeline": "voice"}, "There is no pipeline 'voice'"),
        ({"collection": "shop"}, "it holds no images"),
    ],
)
def test_what_cannot_be_evaluated(shop: Collection, options: dict[str, Any], words: str) -> None:
    with pytest.raises(CommandError, match=words):
        run(**options)
    assert not EvaluationRun.objects.exists()


def test_one_label_alone(shop: Collection, tmp_path: Path) -> None:
    folder = photos(tmp_path / "train", 2)
    for colour in ("blue", "violet"):
        for file in (folder / colour).iterdir():
            file.unlink()
    with pytest.raises(CommandError, match="carries one label, 'red'"):
        run(folder=folder)


def test_a_folder_that_cannot_be_written(shop: Collection, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CommandError, match="cannot be written"):
        run(folder=photos(tmp_path / "train", 4), out=tmp_path / "file" / "figures")


def test_too_few_pairs_save_nothing(shop: Collection, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="Nothing was saved: there are too few pairs"):
        run(folder=photos(tmp_path / "train", 2), save=True)
    assert EmbeddingModel.objects.get(pipeline="face").same_distance is None


def test_a_collection_without_pipelines(shop: Collection) -> None:
    Collection.objects.update(pipelines=[])
    with pytest.raises(CommandError, match="No pipeline runs on the collection shop"):
        run(collection="shop")


def test_names_that_are_no_utf8_are_kept_and_printed_with_a_mark(shop: Collection, tmp_path: Path) -> None:
    train = photos(tmp_path / "train", 4)
    (train / "red" / "1.png").rename(train / "red" / os.fsdecode(b"\xff.png"))
    (train / "blue").rename(train / os.fsdecode(b"bl\xffue"))
    (train / os.fsdecode(b"bl\xffue") / os.fsdecode(b"\xfe.png")).write_bytes(squares())
    out, _ = run(folder=train, out=tmp_path / "figures")
    kept = EvaluationRun.objects.get().figures
    assert "bl\ufffdue" in kept["retrieval"]["per_label"]
    assert "bl\ufffdue/\ufffd.png" in kept["catalogue"]["missed"]["names"]
    assert "bl\ufffdue/\ufffd.png" in out
    grid = [name for name in files_in(tmp_path / "figures") if name.startswith("nearest-")]
    assert grid


def test_a_query_whose_file_is_in_the_collection_without_a_label_is_refused(shop: Collection, tmp_path: Path) -> None:
    for colour in COLOURS:
        for number in range(4):
            ready(shop, photo(colour, number), label=colour)
    ready(shop, photo("red", 20), title="nobody labelled it")
    with pytest.raises(CommandError, match=r"red/20.png \(there nobody labelled it\)"):
        run(collection="shop", queries=photos(tmp_path / "val", 1, first=20))
