"""From labels to a model with its comparison. Fisher's discriminants stand for training, which has its own tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from pytest_django.fixtures import Settings

from catalog.embedding_models import make_serving, serving_model
from catalog.exceptions import CannotServe
from catalog.lineage import lineage
from catalog.models import Collection, Embedding, EmbeddingModel, Image, Person
from catalog.vision import registry
from catalog.vision.heads import Taught
from search import tasks
from search.engines.types import Metric
from search.teaching import teaching, training
from search.teaching.comparing import moved
from search.teaching.errors import TeachingFailed, TeachingRefused
from search.teaching.reading import LabelSource, read_statements, with_vectors
from search.teaching.requests import reported, teach_on_request
from search.teaching.splitting import split
from search.teaching.teaching import Wish, teach
from search.teaching.training import Learned, Lesson
from search.teaching.words import classes_of
from tests.cast import make_face, make_image
from tests.heads import discriminants
from tests.search.teaching.catalogue import SIGNAL, label_images, name_faces
from tests.search.vectors import embed

pytestmark = pytest.mark.django_db
BY_LABELS = Wish("image", LabelSource.LABELS)


@pytest.fixture
def labelled(shop: Collection) -> Collection:
    label_images(shop)
    return shop


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is trained by TensorFlow."""
    monkeypatch.setattr(teaching, "train", discriminants)


def forgetful(lessons: Sequence[Lesson], seed: int) -> Learned:
    """Training gone wrong: only what says nothing is kept."""
    taught = Taught(np.eye(8, 4, -4, dtype=np.float32), np.zeros(8, np.float32))
    return Learned(tuple((taught,) for _ in lessons), {})


def test_a_head_that_helps_may_serve_and_nothing_serves_yet(labelled: Collection) -> None:
    base = serving_model("image")
    model = teach(BY_LABELS, trainer=discriminants)
    assert (model.state, model.derived_from, model.passed_gate) == ("building", base, True)
    assert (model.licence, model.source, model.pipeline) == (base.licence, base.source, "image")
    about = model.teaching
    assert about["decision"].startswith("It may serve: P@10 went from ")
    assert about["labels"]["after"]["p10"] > about["labels"]["before"]["p10"]
    assert about["unseen"]["after"]["p10"] >= about["unseen"]["before"]["p10"] - 0.01
    assert (len(about["taught_classes"]), len(about["unseen_classes"])) == (6, 2)
    assert about["counts"] == {f"class {number}": 12 for number in range(8)}
    assert (about["from"], about["collection"], about["seed"], about["metric"]) == ("labels", None, 0, "cosine")
    assert 0 < model.same_distance < model.near_distance < 2
    assert model.evaluation["n_pairs"] > 100
    assert serving_model("image") == base
    assert not Embedding.objects.filter(model=model).exists()


def test_what_is_measured_is_what_runs(labelled: Collection) -> None:
    model = teach(BY_LABELS, trainer=discriminants)
    make_serving(model)
    row = Embedding.objects.filter(model=model).select_related("region").first()
    of_base = Embedding.objects.get(model=model.derived_from, region=row.region)
    vector = np.frombuffer(of_base.vector, "<f4")[None]
    expected = registry.derived_embedder(model.embedder).from_base(vector)[0]
    np.testing.assert_allclose(np.frombuffer(row.vector, "<f4"), expected, atol=1e-6)
    assert model.dimension == len(expected)


def test_a_head_that_does_not_help_is_kept_with_its_figures_and_may_not_serve(labelled: Collection) -> None:
    model = teach(BY_LABELS, trainer=forgetful)
    assert model.passed_gate is False
    assert model.teaching["decision"].startswith("It may not serve: ")
    with pytest.raises(Exception, match="It may not serve"):
        make_serving(model)


def test_the_same_labels_and_seed_are_the_same_model(labelled: Collection) -> None:
    first, again = (teach(BY_LABELS, trainer=discriminants) for _ in range(2))
    other = teach(Wish("image", LabelSource.LABELS, seed=1), trainer=discriminants)
    assert first == again
    assert other != first
    assert other.teaching["unseen_classes"] != first.teaching["unseen_classes"]


def test_training_sees_nothing_that_judges(labelled: Collection) -> None:
    seen: list[Lesson] = []

    def watch(lessons: Sequence[Lesson], seed: int) -> Learned:
        seen.extend(lessons)
        return discriminants(lessons, seed)

    about = teach(BY_LABELS, trainer=watch).teaching
    chooses, kept = seen
    parts = split(sorted(f"class {number // 12}" for number in range(96)), 0)
    statements = read_statements(serving_model("image"), LabelSource.LABELS, None).said
    every = with_vectors(statements, serving_model("image"))
    assert bytes_of(kept.vectors) == bytes_of(every.vectors[[*parts.training, *parts.choosing]])
    assert bytes_of(chooses.vectors) < bytes_of(every.vectors[parts.training])
    assert not bytes_of(kept.vectors) & bytes_of(every.vectors[[*parts.judging, *parts.unseen]])
    assert not set(about["unseen_classes"]) & (set(chooses.labels) | set(kept.labels))
    assert set(chooses.labels) < set(kept.labels) == set(about["taught_classes"])
    assert len(kept.vectors) == about["examples"]["taught"]
    assert len(kept.vectors) + about["examples"]["held_out"] + about["examples"]["unseen"] == 96


def bytes_of(rows: np.ndarray) -> set[bytes]:
    return {row.tobytes() for row in rows}


def test_the_head_that_is_kept_is_of_the_lesson_that_learned_from_all(labelled: Collection) -> None:
    given = [Taught(np.eye(8, 3, -shift, dtype=np.float32), np.zeros(8, np.float32)) for shift in (0, 1)]
    model = teach(BY_LABELS, trainer=lambda lessons, seed: Learned(tuple((each,) for each in given), {}))
    vector = np.arange(1, 9, dtype=np.float32)[None]
    answer = registry.derived_embedder(model.embedder).from_base(vector)
    weight = model.teaching["weight"]
    np.testing.assert_allclose(answer, moved(vector, given[1], weight), atol=1e-6)
    assert not np.allclose(answer, moved(vector, given[0], weight), atol=1e-3)


def test_limits_are_measured_on_what_was_kept_back(labelled: Collection) -> None:
    """What judges lies apart from one another as nothing that taught does."""
    every = with_vectors(read_statements(serving_model("image"), LabelSource.LABELS, None).said, serving_model("image"))
    parts = split(every.labels, 0)
    close = teaching._distances(every, parts, np.ones_like(every.vectors), Metric.L2)
    assert close == {}  # all at one place: there is nothing to tell apart
    vectors = np.zeros_like(every.vectors)
    kept_back = np.concatenate([parts.judging, parts.unseen])
    vectors[kept_back] = 100 * every.vectors[kept_back]
    limits = teaching._distances(every, parts, vectors, Metric.L2)
    assert 10 < limits["same"] < limits["near"]


def test_a_head_of_the_same_bytes_is_judged_anew(shop: Collection) -> None:
    """More labels of classes that were kept back train nothing, and may turn the verdict."""
    label_images(shop)
    first = teach(BY_LABELS, trainer=signal_alone)
    assert first.passed_gate is True
    contradict(shop, first.teaching["unseen_classes"])
    again = teach(BY_LABELS, trainer=signal_alone)
    assert again.pk == first.pk
    stored = EmbeddingModel.objects.get(pk=first.pk)
    assert stored.passed_gate is False
    assert stored.teaching["examples"]["unseen"] == first.teaching["examples"]["unseen"] + 120
    assert stored.same_distance != first.same_distance
    assert stored.evaluation["n_pairs"] > first.evaluation["n_pairs"]
    with pytest.raises(CannotServe, match="It may not serve"):
        make_serving(again)
    Image.objects.filter(sha256__startswith="0" * 50).delete()
    assert teach(BY_LABELS, trainer=signal_alone).passed_gate is True


def test_the_one_that_serves_stays_and_who_teaches_it_again_hears_that_it_fails_now(shop: Collection) -> None:
    label_images(shop)
    first = teach(BY_LABELS, trainer=signal_alone)
    make_serving(first)
    contradict(shop, first.teaching["unseen_classes"])
    with pytest.raises(TeachingRefused, match=r"which serves image .* It may not serve"):
        teach(BY_LABELS, trainer=signal_alone)
    assert serving_model("image") == first
    assert serving_model("image").teaching == EmbeddingModel.objects.get(pk=first.pk).teaching
    assert serving_model("image").passed_gate is True


def test_limits_that_staff_took_over_stay(shop: Collection) -> None:
    label_images(shop)
    first = teach(BY_LABELS, trainer=signal_alone)
    first.same_distance, first.near_distance, first.evaluation = 0.01, 0.02, {"run": "1"}
    first.save()
    contradict(shop, first.teaching["unseen_classes"])
    again = teach(BY_LABELS, trainer=signal_alone)
    assert (again.passed_gate, again.same_distance, again.near_distance) == (False, 0.01, 0.02)


def signal_alone(lessons: Sequence[Lesson], seed: int) -> Learned:
    """The same head, whatever there is to learn from."""
    return Learned(tuple((Taught(np.eye(8, SIGNAL, dtype=np.float32), np.zeros(8, np.float32)),) for _ in lessons), {})


def contradict(shop: Collection, names: Sequence[str]) -> None:
    """Sixty more of each of two classes, which only what `signal_alone` passes over tells apart."""
    random = np.random.default_rng(0)
    for start, name, sign in zip((0, 60), names, (1, -1), strict=True):
        for number in range(start, start + 60):
            rest = 1.5 * sign + 0.8 * random.standard_normal(8 - SIGNAL)
            image = make_image(shop, label=name, sha256=f"{number:064x}")
            vector = np.concatenate([3 * random.standard_normal(SIGNAL), rest])
            embed(make_face(image, pipeline="image"), lineage(serving_model("image"))[0], vector)


@pytest.mark.models
def test_keras_teaches_a_catalogue(labelled: Collection) -> None:
    """All of it, as a worker does it: nothing stands for anything."""
    model = teach(BY_LABELS)
    assert model.passed_gate is True
    assert model.teaching["stage"] in training.STAGES
    assert set(model.teaching["libraries"]) == {"keras", "tensorflow"}
    make_serving(model)
    assert Embedding.objects.filter(model=model).count() == 96


def test_a_model_is_taught_on_the_base_of_what_was_taught_before(labelled: Collection) -> None:
    base = serving_model("image")
    first = teach(BY_LABELS, trainer=discriminants)
    make_serving(first)
    second = teach(Wish("image", LabelSource.LABELS, seed=1), trainer=discriminants)
    assert second.derived_from == base
    assert second.teaching["labels"]["before"]["p10"] < 0.95


def test_by_people(shop: Collection) -> None:
    name_faces(shop)
    model = teach(Wish("face", LabelSource.PEOPLE, name="who"), trainer=discriminants)
    assert model.embedder.startswith("who-") and model.pipeline == "face"
    assert {str(person.pk) for person in Person.objects.all()} == set(model.teaching["counts"])
    assert [name for name, _, _ in classes_of(model.teaching)] == [f"person {number}" for number in range(6)]
    Person.objects.all().delete()
    assert {name for name, _, _ in classes_of(model.teaching)} == {"somebody who was deleted"}


# --- What counts as said ----------------------------------------------------------------------------------------------


def labels_of(shop: Collection | None = None, source: LabelSource = LabelSource.LABELS) -> list[str]:
    pipeline = "image" if source is LabelSource.LABELS else "face"
    return [each.label for each in read_statements(serving_model(pipeline), source, shop).said]


def labelled_image(shop: Collection, label: str, sha256: str, **facts: Any) -> Image:
    image = make_image(shop, label=label, sha256=sha256 * 64, **facts)
    embed(make_face(image, pipeline="image"), serving_model("image"), [1.0] * 8)
    return image


def test_a_file_counts_once_and_not_at_all_where_its_labels_disagree(shop: Collection) -> None:
    other = Collection.objects.create(name="other")
    labelled_image(shop, "hat", "a")
    labelled_image(other, "hat", "a")
    labelled_image(shop, "hat", "b")
    labelled_image(other, "shoe", "b")
    labelled_image(shop, "", "c")
    labelled_image(shop, "shoe", "d", status="failed", reason="x")
    statements = read_statements(serving_model("image"), LabelSource.LABELS, None)
    assert [each.label for each in statements.said] == ["hat"]
    assert dict(statements.left_out) == {"the same file again": 1, "a file with several labels": 2, **_zero(statements)}
    assert labels_of(other) == ["hat", "shoe"]


def _zero(statements: Any) -> dict[str, int]:
    return {reason: 0 for reason, count in statements.left_out.items() if not count}


def test_a_label_says_nothing_of_one_region_among_several(shop: Collection) -> None:
    image = labelled_image(shop, "hat", "a")
    embed(make_face(image, pipeline="image"), serving_model("image"), [2.0] * 8)
    assert labels_of() == []


def test_a_face_with_two_names_in_two_copies_of_its_file_says_nothing(shop: Collection) -> None:
    other = Collection.objects.create(name="other")
    ada, bob, eve = (Person.objects.create(name=name) for name in ("Ada", "Bob", "Eve"))
    for collection, left in ((shop, ada), (other, bob)):
        group = make_image(collection, sha256="a" * 64)
        embed(make_face(group, left), serving_model("face"), [1.0] * 8)
        embed(make_face(group, eve, x=300.0), serving_model("face"), [2.0] * 8)
    statements = read_statements(serving_model("face"), LabelSource.PEOPLE, None)
    assert [each.label for each in statements.said] == [str(eve.pk)]
    assert statements.left_out["a face that is somebody else in another copy of its file"] == 2
    assert labels_of(shop, LabelSource.PEOPLE) == sorted([str(ada.pk), str(eve.pk)])
    crowd = make_image(shop)
    for person in (ada, bob):  # two that overlap in one image are two
        embed(make_face(crowd, person), serving_model("face"), [1.0] * 8)
    assert {str(ada.pk), str(bob.pk)} <= set(labels_of(source=LabelSource.PEOPLE))


def test_dismissed_faces_and_faces_without_a_name_say_nothing(shop: Collection) -> None:
    ada = Person.objects.create(name="Ada")
    for facts in ({"person": ada}, {"person": ada, "dismissed": True}, {}):
        embed(make_face(make_image(shop), **facts), serving_model("face"), [1.0] * 8)
    assert labels_of(source=LabelSource.PEOPLE) == [str(ada.pk)]


# --- Refused ----------------------------------------------------------------------------------------------------------


def test_too_few_labels_are_refused_with_the_least_there_must_be(shop: Collection) -> None:
    label_images(shop, classes=4)
    with pytest.raises(TeachingRefused, match="4 of 4 classes have at least 8 labelled examples; teaching needs 5"):
        teach(BY_LABELS, trainer=discriminants)
    assert registry.taught() == []


def test_without_tensorflow_it_says_what_to_install(labelled: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TeachingRefused, match=r"pip install -r requirements/tensorflow\.txt"):
        teach(BY_LABELS)
    assert EmbeddingModel.objects.filter(derived_from__isnull=False).count() == 0


@pytest.mark.parametrize("name", ["", "..", "päth", "x" * 61, "a/b"])
def test_a_name_that_cannot_be_a_file_is_refused(labelled: Collection, name: str) -> None:
    with pytest.raises(TeachingRefused, match="cannot be the name of a head"):
        teach(Wish("image", LabelSource.LABELS, name=name or "-"), trainer=discriminants)


def test_a_pipeline_that_has_no_model_is_refused(shop: Collection) -> None:
    EmbeddingModel.objects.update(state="retired")
    with pytest.raises(TeachingRefused, match="No embedding model serves"):
        teach(BY_LABELS, trainer=discriminants)


def test_a_folder_that_cannot_be_made_is_said(labelled: Collection, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    settings.VISEARCH_MODELS_DIR = tmp_path / "file"
    with pytest.raises(TeachingFailed, match="cannot be written below"):
        teach(BY_LABELS, trainer=discriminants)


def test_numbers_that_are_not_finite_are_no_head(tmp_path: Path) -> None:
    np.savez(tmp_path / "learned.npz", projection=np.full((8, 2), np.nan, np.float32), mean=np.zeros(8, np.float32))
    with pytest.raises(TeachingFailed, match="not finite"):
        training._read(tmp_path / "learned.npz")


# --- By command, by a worker ------------------------------------------------------------------------------------------


def test_the_command_teaches_and_serves(
    labelled: Collection, quick: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built: list[str] = []
    monkeypatch.setattr(tasks.rebuild, "delay", built.append)
    call_command("teach", "--pipeline", "image", "--from", "labels", "--collection", "shop", "--serve")
    said = capsys.readouterr().out
    model = serving_model("image")
    assert model.derived_from is not None
    assert model.teaching["collection"] == "shop"
    assert f"{model} serves image now, instead of image-colours" in said
    assert "classes never seen: P@1" in said and "It may serve" in said
    assert built == [str(model.pk)]
    call_command("model", "back", "--pipeline", "image")
    assert serving_model("image").embedder == "image-colours"
    call_command("model", "serve", model.embedder)
    assert serving_model("image") == model
    call_command("model", "list", "--pipeline", "image")
    assert "retired   image-colours" in capsys.readouterr().out


def test_the_commands_refuse_what_did_not_pass(labelled: Collection) -> None:
    model = teach(BY_LABELS, trainer=forgetful)
    with pytest.raises(CommandError, match="It may not serve"):
        call_command("model", "serve", model.embedder)
    with pytest.raises(CommandError, match="No other model has served"):
        call_command("model", "back", "--pipeline", "image")
    with pytest.raises(CommandError, match="none of the models"):
        call_command("model", "serve", "nobody")
    assert serving_model("image").embedder == "image-colours"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--pipeline", "cats", "--from", "labels"], "There is no pipeline 'cats'"),
        (["--pipeline", "image", "--from", "labels", "--collection", "x"], "There is no collection 'x'"),
        (["--pipeline", "image", "--from", "people"], "0 of 0 classes"),
        (["--pipeline", "image", "--from", "labels", "--seed", "-1"], "--seed is a whole number"),
    ],
)
def test_the_command_refuses_in_a_sentence(labelled: Collection, quick: None, options: list[str], says: str) -> None:
    with pytest.raises(CommandError, match=says):
        call_command("teach", *options)


def test_a_worker_says_what_came_of_it(labelled: Collection, quick: None) -> None:
    teach_on_request("image", "labels", str(labelled.pk), "", None)
    report = reported("image")
    assert report is not None
    assert report.said.startswith("Taught ") and "It may serve" in report.said and not report.went_wrong
    teach_on_request("image", "labels", str(labelled.pk), "", None)
    again = reported("image")
    assert again is not None and again.model == report.model
    assert again.said.startswith("Teaching gave nothing new")
    teach_on_request("image", "labels", str(labelled.pk), "", None, seed=3)
    other = reported("image")
    assert other is not None and other.said.startswith("Taught ")
    assert EmbeddingModel.objects.get(pk=other.model).teaching["seed"] == 3
    labelled.images.all().delete()
    teach_on_request("image", "labels", None, "", None)
    report = reported("image")
    assert report is not None and report.went_wrong and "0 of 0 classes" in report.said
