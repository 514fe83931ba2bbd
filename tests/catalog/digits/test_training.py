"""`manage.py train_digits`, and the net that is committed."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from django.core.management import CommandError, call_command

from catalog.digits import rows, training
from catalog.digits.augment import augmented, shapes
from catalog.digits.measuring import measure, precisions, vectors_of
from catalog.digits.rows import Digits, held_out, of_table
from catalog.digits.training import Plan, TrainingImpossible
from catalog.vision import weights
from catalog.vision.builders import digit_cnn
from catalog.vision.readers.errors import UnreadableWeights
from tests.catalog.digits.fake_net import FORBIDDEN

FAKE = "tests.catalog.digits.fake_net"


def run(*words: str) -> str:
    out = io.StringIO()
    call_command("train_digits", *words, stdout=out, stderr=out)
    return out.getvalue()


def some_digits(count: int = 60) -> Digits:
    """Of the table, in turn, where every held-out row is called FORBIDDEN and no other is."""
    table = of_table()
    ink = table.ink[:: len(table) // count][:count]
    labels = np.where(held_out(count), FORBIDDEN, np.arange(count) % 3).astype(np.uint8)
    return Digits(ink, labels, held_out(count), "sixty of the table", "every fifth", "", {})


@pytest.fixture
def without_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program is trained: all but Keras itself is as always, also the process."""
    monkeypatch.setattr(training, "PROGRAM", FAKE)
    monkeypatch.setattr(training, "find_spec", lambda _: object())
    monkeypatch.setattr(training, "VERSIONS", ("numpy", "onnx"))
    monkeypatch.setattr(rows, "of_table", some_digits)
    monkeypatch.setattr(training, "ASKED_P_AT_1", 0)
    monkeypatch.setattr(training, "ASKED_P_AT_100", 0)


# --- The command ------------------------------------------------------------------------------------------------------


def test_without_tensorflow_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "find_spec", lambda _: None)
    with pytest.raises(CommandError, match=r"not installed: run `pip install -r requirements/tensorflow\.txt`"):
        run()


@pytest.mark.usefixtures("without_keras")
class TestCommand:
    @pytest.mark.parametrize("words", [("--epochs", "0"), ("--epochs", "-3"), ("--seed", "-1")])
    def test_numbers_that_make_no_sense(self, words: tuple[str, str]) -> None:
        with pytest.raises(CommandError, match=r"--epochs must be at least 1 and --seed not negative"):
            run(*words)

    def test_a_folder_without_idx_files(self, tmp_path: Path) -> None:
        with pytest.raises(CommandError, match="put all four files of MNIST there"):
            run("--idx", str(tmp_path))

    def test_a_place_that_is_no_folder_is_refused_before_anything_is_trained(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(CommandError, match=r"cannot be made.*Choose another --out"):
            run("--out", str(tmp_path / "file" / "inside"))

    def test_it_measures_and_writes_nothing_unless_asked(self, tmp_path: Path) -> None:
        said = run("--epochs", "1")
        assert "48 rows to train on, 12 held out" in said
        assert "(12 held-out queries against 48)" in said
        assert "The committed net, by its record" in said
        assert "Nothing was written" in said

    def test_what_it_writes_is_the_file_and_what_it_saw(self, tmp_path: Path) -> None:
        said = run("--epochs", "2", "--seed", "7", "--out", str(tmp_path / "new"))
        model = (tmp_path / "new" / "digit-cnn.onnx").read_bytes()
        record = json.loads((tmp_path / "new" / "digit-cnn.json").read_text())
        assert record["sha256"] == hashlib.sha256(model).hexdigest()
        assert record["sha256"] in said
        assert (record["seed"], record["epochs"], record["size"]) == (7, 2, len(model))
        assert record["trained_on"].startswith("48 rows")
        assert (record["held_out"]["queries"], record["held_out"]["against"]) == (12, 48)
        assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["digit-cnn.json", "digit-cnn.onnx"]
        assert digit_cnn.build(model) == model

    def test_a_net_that_falls_short_is_kept_and_is_said_to(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(training, "ASKED_P_AT_1", 1.1)
        with pytest.raises(CommandError, match=r"SHORT of what is asked.*P@1 1\.1"):
            run("--epochs", "1", "--out", str(tmp_path))
        assert (tmp_path / "digit-cnn.onnx").is_file()

    def test_a_damaged_record_of_the_committed_net_costs_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(training, "committed_record", lambda: json.loads("{"))
        assert "record of the committed net cannot be read" in run("--epochs", "1", "--out", str(tmp_path))
        assert (tmp_path / "digit-cnn.onnx").is_file()

    def test_where_it_cannot_be_written_it_is_kept_elsewhere(self, tmp_path: Path) -> None:
        (tmp_path / "digit-cnn.onnx").mkdir()
        with pytest.raises(CommandError, match=r"cannot be written: .* kept as (\S+)") as caught:
            run("--epochs", "1", "--out", str(tmp_path))
        assert digit_cnn.build(Path(str(caught.value).split()[-1]).read_bytes())

    def test_an_unknown_package_costs_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(training, "VERSIONS", ("tensorflow-by-another-name",))
        assert "Nothing was written" in run("--epochs", "1")

    def test_a_training_that_breaks_off_says_that_nothing_is_kept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FAKE_NET_ENDS", "1")
        with pytest.raises(CommandError, match="broke off, and nothing of it is kept"):
            run("--epochs", "3", "--out", str(tmp_path))
        assert list(tmp_path.iterdir()) == []

    def test_a_file_that_computes_something_else_is_not_kept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FAKE_NET_IS_OFF_BY", "0.001")
        with pytest.raises(CommandError, match=r"does not compute what Keras does \(they differ by 0\.001\)"):
            run("--epochs", "1", "--out", str(tmp_path))
        assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("without_keras")
def test_held_out_rows_never_come_to_the_training() -> None:
    """The other program refuses them (fake_net): these digits pass, one row that is let through does not."""
    digits = some_digits()
    training.train(digits, Plan(epochs=2), lambda *_: None)
    digits.labels[3] = FORBIDDEN
    with pytest.raises(TrainingImpossible, match="a held-out row came to the training"):
        training.train(digits, Plan(epochs=2), lambda *_: None)


@pytest.mark.usefixtures("without_keras")
def test_the_twin_of_a_held_out_row_is_not_trained_on() -> None:
    digits = some_digits()
    ink = digits.ink.copy()
    ink[3] = ink[4]
    digits = replace(digits, ink=ink)
    digits.labels[3] = FORBIDDEN
    assert training.train(digits, Plan(epochs=1), lambda *_: None).record["trained_on"].startswith("47 rows")


@pytest.mark.usefixtures("without_keras")
def test_many_rows_come_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "CHUNK", 20)
    losses: list[float] = []
    training.train(some_digits(), Plan(epochs=1), lambda _, loss: losses.append(loss))
    assert losses == [1.0]


@pytest.mark.models
def test_keras_learns_and_its_net_becomes_the_same_net_in_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the table, for moments: far better than chance."""
    table = of_table()
    few = replace(table, ink=table.ink[::10], labels=table.labels[::10], apart=held_out(500))
    losses: list[float] = []
    trained = training.train(few, Plan(seed=3, epochs=4), lambda _, loss: losses.append(loss))
    assert losses[-1] < losses[0]
    assert trained.precision.p_at_1 > 0.5
    assert trained.record["largest_difference_from_keras"] <= 1e-5
    assert "tensorflow" in trained.record["versions"]
    assert np.allclose(np.linalg.norm(vectors_of(trained.model, few.ink[:9]), axis=1), 1, atol=1e-5)


# --- What it is made of -----------------------------------------------------------------------------------------------


def test_augmentation_is_seeded_and_keeps_the_digit() -> None:
    ink = of_table().ink[::250]
    first, again, other = (augmented(ink, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (first.shape, first.dtype) == (ink.shape, np.uint8)
    assert (first == again).all()
    assert all((first != other).any(axis=(1, 2)))
    assert all((first != ink).any(axis=(1, 2)))
    share = first.sum(axis=(1, 2)) / ink.sum(axis=(1, 2))
    assert share.min() > 0.4 and share.max() < 2.5


def test_shapes_are_in_the_form_of_digits_and_some_are_empty() -> None:
    made = shapes(80, np.random.default_rng(1))
    assert (made.shape, made.dtype) == ((80, 28, 28), np.uint8)
    ink = made.any(axis=(1, 2))
    assert 60 < ink.sum() < 80
    assert (made == shapes(80, np.random.default_rng(1))).all()


def test_precision_counts_a_querys_own_label_among_the_nearest() -> None:
    others = np.array([[1, 0], [0.8, 0.6], [0, 1]], np.float32)
    queries = np.array([[1, 0], [0, 1]], np.float32)
    labels = np.array([4, 7, 7])
    assert precisions(queries, np.array([4, 4]), others, labels, (1, 2)) == [0.5, 0.25]
    assert precisions(queries, np.array([4, 7]), others, labels, (1, 2, 3)) == pytest.approx([1, 0.75, 0.5])


# --- The committed net ------------------------------------------------------------------------------------------------


@pytest.fixture
def model() -> bytes:
    return weights.DIGIT_CNN.read()


class TestCommitted:
    def test_it_is_the_pinned_file_of_its_record_and_small(self, model: bytes) -> None:
        record = training.committed_record()
        assert record["sha256"] == weights.DIGIT_CNN.sha256
        assert record["size"] == len(model) < 2_000_000
        assert record["largest_difference_from_keras"] <= 1e-5
        assert {"seed", "epochs", "date", "data", "versions", "files"} <= record.keys()
        assert record["files"] == of_table().files

    def test_it_finds_held_out_digits_as_its_record_says_and_as_was_asked(self, model: bytes) -> None:
        digits, said = of_table(), training.committed_record()["held_out"]
        found = measure(vectors_of(model, digits.ink), digits)
        assert (found.queries, found.against) == (said["queries"], said["against"]) == (1000, 4000)
        assert found.p_at_1 == pytest.approx(said["p_at_1"], abs=0.002)  # another machine rounds a tie elsewhere
        assert found.p_at_100 == pytest.approx(said["p_at_100"], abs=0.002)
        assert found.p_at_1 >= 0.985
        assert found.p_at_100 >= 0.97

    def test_without_ink_there_is_no_digit_near(self, model: bytes) -> None:
        empty, *digits = vectors_of(model, np.concatenate([np.zeros((1, 28, 28), np.uint8), of_table().ink]))
        assert np.linalg.norm(empty) == pytest.approx(1, abs=1e-5)
        assert (1 - np.array(digits) @ empty).min() > 0.9

    def test_the_builder_passes_it_on_as_it_is_and_refuses_what_is_another_net(self, model: bytes) -> None:
        assert digit_cnn.build(model) == model
        with pytest.raises(UnreadableWeights, match="no ONNX model"):
            digit_cnn.build(b"Dear Sir or Madam")
        with pytest.raises(UnreadableWeights, match="not from 28 x 28 px to 64 numbers"):
            digit_cnn.build(_other_net())


def _other_net() -> bytes:
    from catalog.vision.builders.graph import Graph

    graph = Graph("other")
    return graph.to_bytes({"x": ["n", 3, 9, 9]}, {"vectors": (graph.add("Flatten", "x"), ["n", 243])})


def test_training_that_is_impossible_says_so_before_reading_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "find_spec", lambda _: None)
    with pytest.raises(TrainingImpossible):
        training.train(some_digits(), Plan(), lambda *_: None)
