"""The judge of `make parity`: what it must not take for agreement."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import parity
from benchmarks.parity_figures import Compared, Figure, compared, layer_figures, layer_outputs, layers_in_words, matched
from catalog.vision.builders.graph import Graph
from catalog.vision.cards import MtcnnOptions
from catalog.vision.types import Box, Detection

NAN, INFINITE = float("nan"), float("inf")


def face(left: float, side: float = 40) -> Detection:
    return Detection(Box(left, 10, side, side), 0.9)


@pytest.mark.parametrize(
    ("figure", "at_least", "good"),
    [
        (1.0, True, True),
        (0.99, True, False),
        (NAN, True, False),
        (1.0, False, True),
        (1.01, False, False),
        (NAN, False, False),
        (INFINITE, False, False),
    ],
)
def test_a_figure_is_good_where_it_reaches_what_is_asked(figure: float, at_least: bool, good: bool) -> None:
    found = Figure("of something", figure, 1.0, at_least)
    assert found.good is good
    assert str(found).startswith("ok " if good else "SHORT")


# --- Faces ------------------------------------------------------------------------------------------------------------


def test_faces_are_paired_once_and_what_is_left_is_told() -> None:
    theirs = [face(0), face(100), face(200)]
    found = matched([face(4), face(2), face(100, 38), face(300)], theirs)
    assert found.overlaps == [pytest.approx(38 / 42, abs=0.01), pytest.approx(38 * 38 / 1600)]
    assert found.lost == [theirs[2]]
    assert found.more == [face(4), face(300)]  # one found twice counts as one found and one too many


def test_half_a_face_is_none() -> None:
    found = matched([face(25)], [face(0)])
    assert (found.overlaps, len(found.lost), len(found.more)) == ([], 1, 1)


def test_recall_falls_short_with_one_lost_face_and_faces_too_many_are_counted() -> None:
    theirs = [[face(0), face(100)], [face(0)]]
    recall, mean, more = parity._detections([[face(0)], [face(0), face(100), face(200), face(300)]], theirs)
    assert (recall.figure, recall.good) == (pytest.approx(2 / 3), False)
    assert mean.good
    assert (more.figure, more.good) == (pytest.approx(2 / 3), False)


def test_what_the_site_loses_of_the_packages_faces_is_told_with_the_photo(capsys: pytest.CaptureFixture[str]) -> None:
    options = MtcnnOptions(thresholds=(0.7, 0.7, 0.9))
    parity._tell_what_the_site_finds(options, [[face(0)], [face(0)]], [[face(0), face(100)], [face(0)]], ["a", "b"])
    said = capsys.readouterr().out
    assert "thresholds 0.7, 0.7, 0.9" in said
    assert "2 of the package's 3 faces" in said and "1 lost, 0 more" in said
    assert "lost: a, 40 x 40 px at 100, 10, the package's score 0.900" in said


def test_the_site_runs_mtcnn_with_the_options_of_its_settings() -> None:
    from django.conf import settings

    assert parity.site_options() == MtcnnOptions(**settings.VISEARCH_DETECTORS["mtcnn"]["OPTIONS"])


# --- Layers -----------------------------------------------------------------------------------------------------------


def layer(difference: float, size: float, *, is_result: bool = False) -> Compared:
    return compared("Conv", np.array([size + difference, 0]), np.array([size, 0.0]), is_result=is_result)


FINE = [layer(0, 1), layer(0, 1, is_result=True)]


@pytest.mark.parametrize(
    ("bad", "is_good"),
    [
        (layer(0.9e-5, 1), True),
        (layer(1.1e-5, 1), False),
        (layer(1.1e-5, 4), False),
        (layer(1.1e-5, 20), True),
        (layer(4.1e-5, 20), False),
        (layer(1.1e-5, 20, is_result=True), False),
        (compared("Conv", np.array([NAN, 0]), np.array([1.0, 0])), False),
        (compared("Conv", np.array([1.0, 0]), np.array([NAN, 0])), False),
        (compared("Conv", np.array([INFINITE, 0]), np.array([INFINITE, 0])), False),
        (compared("Conv", np.ones((3, 1)), np.ones((1, 3))), False),
        (compared("Conv", np.ones(0), np.ones(0)), False),
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_layer_that_differs_falls_short_wherever_it_comes(bad: Compared, is_good: bool, place: int) -> None:
    layers = [*FINE[:place], bad, *FINE[place:]]
    assert all(figure.good for figure in layer_figures("net", layers)) is is_good


def test_layers_that_nobody_compared_do_not_agree() -> None:
    assert not any(figure.good for figure in layer_figures("net", []))


def test_both_measures_are_told() -> None:
    said = layers_in_words("net", [*FINE, layer(1.3e-5, 20), layer(1e-6, 0.5)])
    assert "3 of all 4 layer outputs are within 1e-05" in said
    assert "1.3e-05 (Conv, numbers up to 20), the largest over a layer's largest number 2e-06" in said


def test_every_layer_after_the_normalising_is_compared_whatever_its_operator() -> None:
    graph = Graph("net")
    kernel, bias = np.ones((2, 3, 1, 1), np.float32), np.zeros(2, np.float32)
    x = graph.conv(graph.scaled("x", np.array([127.5], np.float32), 1 / 128), kernel, bias)
    x = graph.scaled(x, np.array([1], np.float32), 2)  # a layer that only looks like normalising
    outputs = {
        "offsets": (x, ["n", 2, "h", "w"]),
        "probabilities": (graph.add("Softmax", graph.add("Relu", x), axis=1), ["n", 2, "h", "w"]),
    }
    data = graph.to_bytes({"x": ["n", 3, "h", "w"]}, outputs)
    found = layer_outputs(data, np.full((1, 3, 4, 4), 255, np.float32))
    assert [(operator, is_result) for operator, is_result, _ in found] == [
        ("Conv", False),
        ("Sub", False),
        ("Mul", True),
        ("Softmax", True),
    ]
    np.testing.assert_allclose(found[0][2], 3 * 127.5 / 128)


# --- Photos -----------------------------------------------------------------------------------------------------------


def test_photos_of_a_folder_that_was_named_and_is_not_there_are_missed(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"There is no folder .*faces"):
        parity.photo_files(tmp_path)


def test_photos_are_found_by_any_of_their_endings_beside_the_committed_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "DATA", tmp_path / "none")
    committed = parity.photo_files(None)
    assert committed
    (tmp_path / "faces" / "ada").mkdir(parents=True)
    for name in ("a.JPG", "b.jpeg", "c.png", "notes.txt"):
        (tmp_path / "faces" / "ada" / name).touch()
    assert [path.name for path in parity.photo_files(tmp_path)[len(committed) :]] == ["a.JPG", "b.jpeg", "c.png"]
