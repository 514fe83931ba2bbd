"""What is kept of an evaluation, and what a model takes over from it."""

from __future__ import annotations

import json
import logging
from threading import Event
from types import SimpleNamespace

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from pytest_django import Settings

from catalog.models import Collection, EmbeddingModel, Image, Person, Region
from catalog.vision.registry import Evaluation
from search import progress
from search.engines.types import Metric
from search.evaluation.evaluation import evaluate
from search.evaluation.people import with_names
from search.evaluation.preview import Limits, proposal
from search.evaluation.records import CannotAdopt, adopt, keep, limits_of
from search.evaluation.requests import evaluate_on_request, running, subject
from search.evaluation.words import summary
from search.indexing import rebuild_index
from search.locks import held
from search.models import EvaluationRun
from tests.library import ready, squares
from tests.search.evaluation.points import clouds, reading

pytestmark = pytest.mark.django_db


@pytest.fixture
def model(shop: Collection) -> EmbeddingModel:
    return EmbeddingModel.objects.get(pipeline="face", state="serving")


@pytest.fixture
def run(model: EmbeddingModel) -> EvaluationRun:
    queries = reading(clouds(6, 4, 0.9, "query", seed=8), "the folder val")
    return keep(evaluate(reading(clouds(6, 12, 0.9)), queries, Metric.L2), model)


def test_a_run_is_kept_with_its_model_its_generation_and_its_drawings(shop: Collection, model: EmbeddingModel) -> None:
    ready(shop, squares((10, 10, 40, "red")))
    rebuild_index(model)
    run = keep(evaluate(reading(clouds(5, 12, 0.3)), None, Metric.L2), model)
    run.refresh_from_db()
    assert run.embedding_model == model
    assert run.generation == model.generations.get()
    assert run.figures["way"] == "leave one out"
    assert set(run.drawings) == {"roc", "distances"}
    for drawn in run.drawings.values():
        assert "<svg" in drawn


def test_a_model_takes_its_thresholds_from_a_run_and_the_log_says_who(
    run: EvaluationRun, model: EmbeddingModel
) -> None:
    chosen = proposal(run.figures)
    assert chosen is not None
    root = User.objects.create_superuser("root")
    adopt(run, chosen, root)
    model.refresh_from_db()
    assert (model.same_distance, model.near_distance) == (chosen.same, chosen.near)
    Evaluation(**{name: model.evaluation[name] for name in Evaluation.__dataclass_fields__})  # as the shipped ones
    assert model.evaluation["run"] == str(run.pk)
    assert model.evaluation["taken_by"] == "root"
    assert "false match rates" in model.evaluation["method"]
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id) == (root, str(model.pk))
    assert f"same {model.same_distance:g}" in entry.change_message
    adopt(run, Limits(0.5, 1.5), root)
    model.refresh_from_db()
    assert model.evaluation["method"].startswith("by hand")
    assert "instead of" in LogEntry.objects.order_by("-pk")[0].change_message


def test_a_command_leaves_its_trace_in_the_log_of_the_process(
    run: EvaluationRun, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "search.evaluation.records"):
        adopt(run, Limits(0.5, 1.5), None)
    assert "Took same 0.5 and near 1.5" in caplog.text
    assert not LogEntry.objects.exists()


def test_distances_of_another_metric_are_not_taken(run: EvaluationRun, settings: Settings) -> None:
    settings.VISEARCH_INDEXES = {**settings.VISEARCH_INDEXES, "face": {"ENGINE": "exact", "METRIC": "cosine"}}
    with pytest.raises(CannotAdopt, match="searched by cosine now"):
        adopt(run, Limits(0.5, 1.5), None)


def test_what_is_one_distance_when_rounded_is_not_taken(run: EvaluationRun, model: EmbeddingModel) -> None:
    with pytest.raises(CannotAdopt, match="Rounded to 4 digits"):
        adopt(run, Limits(0.50001, 0.50002), None)
    model.refresh_from_db()
    assert model.same_distance is None


def test_thresholds_by_another_metric_are_not_shown_beside_an_evaluation(
    run: EvaluationRun, model: EmbeddingModel, settings: Settings
) -> None:
    """A run by l2 and one by cosine of the same model: each is shown with what was measured by its own metric."""
    model = adopt(run, Limits(0.5, 1.5), None)
    assert limits_of(model) == limits_of(model, run.figures["metric"]) == Limits(0.5, 1.5)
    settings.VISEARCH_INDEXES = {**settings.VISEARCH_INDEXES, "face": {"ENGINE": "exact", "METRIC": "cosine"}}
    assert limits_of(model) is None
    assert limits_of(model, "cosine") is None
    assert limits_of(model, run.figures["metric"]) == Limits(0.5, 1.5)


# --- What somebody asked for in the admin -----------------------------------------------------------------------------


def fill(shop: Collection, each: int = 6) -> None:
    for colour in ("red", "blue"):
        for number in range(each):
            ready(shop, squares((10 + number, 10 + number, 30 + number, colour)), label=colour)


def test_a_worker_evaluates_a_collection(shop: Collection) -> None:
    fill(shop)
    root = User.objects.create_superuser("root")
    about = subject(shop.pk, "face")
    progress.report(about, progress.BuildProgress(progress.REQUESTED))
    run = evaluate_on_request(str(shop.pk), "face", root.pk)
    assert run is not None
    assert (run.status, run.collection, run.user) == ("done", shop, root)
    assert run.figures["retrieval"]["precision_at"]["1"] == 1.0
    assert running(shop, "face") is None
    assert json.dumps(run.figures)


def test_why_a_collection_cannot_be_evaluated_is_kept(shop: Collection) -> None:
    ready(shop, squares((10, 10, 40, "red")), label="red")
    run = evaluate_on_request(str(shop.pk), "face", None)
    assert run is not None
    assert run.status == "failed"
    assert "two labels at least" in run.reason
    with pytest.raises(CannotAdopt, match="measured nothing"):
        adopt(run, Limits(0.5, 1.5), None)


def test_what_nobody_foresaw_is_kept_without_its_words(shop: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(shop, each=2)

    def fails(*_: object) -> None:
        raise RuntimeError("/secret/path")

    monkeypatch.setattr("search.evaluation.requests.evaluate", fails)
    with pytest.raises(RuntimeError):
        evaluate_on_request(str(shop.pk), "face", None)
    run = EvaluationRun.objects.get()
    assert run.status == "failed"
    assert "/secret" not in run.reason
    assert running(shop, "face") is None


def test_a_collection_that_is_gone_and_a_model_that_no_longer_serves_are_nothing_to_do(shop: Collection) -> None:
    EmbeddingModel.objects.filter(pipeline="face").update(state="retired")
    assert evaluate_on_request(str(shop.pk), "face", None) is None
    key = str(shop.pk)
    shop.delete()
    assert evaluate_on_request(key, "face", None) is None


def test_runs_of_a_collection_go_with_it(shop: Collection, run: EvaluationRun) -> None:
    fill(shop)
    evaluate_on_request(str(shop.pk), "face", None)
    shop.delete()
    assert list(EvaluationRun.objects.all()) == [run]


def test_a_model_that_was_taught_takes_no_distances_from_a_collection(shop: Collection, model: EmbeddingModel) -> None:
    fill(shop)
    base = EmbeddingModel.objects.get(pipeline="image")
    EmbeddingModel.objects.filter(pk=model.pk).update(derived_from=base, passed_gate=True)
    run = evaluate_on_request(str(shop.pk), "face", None)
    assert run is not None
    assert "taught on labels of this site" in "\n".join(summary(run.figures))
    with pytest.raises(CannotAdopt, match="a folder that it never saw"):
        adopt(run, Limits(0.5, 1.5), None)
    model.refresh_from_db()
    of_folder = keep(evaluate(reading(clouds(6, 12, 0.9)), None, Metric.L2), model)
    assert not of_folder.figures["warning"]
    assert adopt(of_folder, Limits(0.5, 1.5), None).same_distance == 0.5


def test_people_are_kept_by_their_keys_and_who_is_deleted_is_in_no_run_by_name(shop: Collection) -> None:
    people = {"red": Person.objects.create(name="Ann Secret"), "blue": Person.objects.create(name="Bob")}
    fill(shop)
    for colour, person in people.items():
        Region.objects.filter(image__label=colour, pipeline="face").update(person=person)
    Image.objects.update(label="")
    run = evaluate_on_request(str(shop.pk), "face", None)
    assert run is not None
    assert run.status == "done"
    assert "Ann Secret" not in json.dumps([run.figures, run.drawings, run.what])
    assert set(with_names(run.figures)["retrieval"]["per_label"]) == {"Ann Secret", "Bob"}
    people["red"].delete()
    shown = with_names(run.figures)
    assert set(shown["retrieval"]["per_label"]) == {"somebody who was deleted", "Bob"}
    assert {each["query"]["label"] for each in shown["examples"]} == {"somebody who was deleted", "Bob"}


def test_one_person_alone_is_not_named_in_the_reason(shop: Collection) -> None:
    ready(shop, squares((10, 10, 40, "red")))
    Region.objects.filter(pipeline="face").update(person=Person.objects.create(name="Ann Secret"))
    run = evaluate_on_request(str(shop.pk), "face", None)
    assert run is not None
    assert "shows one person" in run.reason
    assert "Ann" not in run.reason


def test_what_another_worker_is_at_is_left_to_it(shop: Collection) -> None:
    fill(shop)
    about = subject(shop.pk, "face")
    progress.report(about, progress.BuildProgress("comparing them"))
    with held(about):
        assert evaluate_on_request(str(shop.pk), "face", None) is None
    assert running(shop, "face") is not None  # the other one still tells
    assert not EvaluationRun.objects.exists()
    assert evaluate_on_request(str(shop.pk), "face", None) is not None


def test_what_takes_long_is_still_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "TOUCH_SECONDS", 0.01)
    touched = Event()
    monkeypatch.setattr(progress, "cache", SimpleNamespace(touch=lambda key, seconds: touched.set()))
    with progress.kept_alive("evaluation-x"):
        assert touched.wait(10)
