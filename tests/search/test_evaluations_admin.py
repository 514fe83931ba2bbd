"""Evaluations in the admin: asking for one, reading it, and trying other thresholds before taking them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from catalog.models import Collection, EmbeddingModel, Image
from search import progress, tasks
from search.engines.types import Metric
from search.evaluation import requests
from search.evaluation.evaluation import evaluate
from search.evaluation.records import keep
from search.evaluation.requests import evaluate_on_request
from search.models import EvaluationRun
from tests.cast import PEOPLE, Cast
from tests.catalog.admin.staff import staff_client, take_redis_from
from tests.catalog.api.conftest import cast
from tests.library import ready, squares
from tests.search.evaluation.points import clouds, reading

__all__ = ["cast"]
pytestmark = pytest.mark.django_db
COLOURS = ("red", "blue")


@pytest.fixture
def client(db: None) -> Client:
    cache.clear()
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


@pytest.fixture
def filled(shop: Collection) -> Collection:
    for colour in COLOURS:
        for number in range(4):
            ready(shop, squares((10 + number, 10, 30, colour)), label=f"{colour} <b>", title=f"{colour} {number}")
    return shop


@pytest.fixture
def run(shop: Collection) -> EvaluationRun:
    """Of a folder, with enough pairs for thresholds."""
    model = EmbeddingModel.objects.get(pipeline="face")
    queries = reading(clouds(6, 4, 0.9, "query", seed=8), "the folder val", missed=["<i>nobody</i>"])
    return keep(evaluate(reading(clouds(6, 12, 0.9)), queries, Metric.L2), model)


@pytest.fixture
def queued(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What was asked of the workers."""
    sent: list[tuple[Any, ...]] = []
    monkeypatch.setattr(tasks.evaluate, "delay", lambda *what: sent.append(what))
    return sent


def address(name: str, *keys: object) -> str:
    return reverse(f"admin:search_{name}", args=keys)


def get(client: Client, name: str, *keys: object, **query: object) -> str:
    answer = client.get(address(name, *keys), query)
    assert answer.status_code == 200
    return answer.content.decode()


def test_asking_for_an_evaluation_and_reading_it(
    client: Client, filled: Collection, queued: list[tuple[Any, ...]]
) -> None:
    root = User.objects.get(username="root")
    answer = client.post(address("evaluate", filled.pk), {"pipeline": "face"}, follow=True)
    assert queued == [(str(filled.pk), "face", root.pk)]
    assert "as soon as one is free" in answer.content.decode()
    assert "Asked for an evaluation of face." in LogEntry.objects.get().change_message
    state = client.get(address("evaluate_state", filled.pk)).json()["pipelines"]
    assert {each["pipeline"]: bool(each["running"]) for each in state} == {"face": True, "image": False}
    evaluate_on_request(*queued[0])  # as a worker does
    assert not any(each["running"] for each in client.get(address("evaluate_state", filled.pk)).json()["pipelines"])
    run = EvaluationRun.objects.get()
    assert "1.0000" in get(client, "evaluate", filled.pk)
    said = get(client, "evaluationrun_change", run.pk)
    assert "red &lt;b&gt;" in said
    assert "<b>" not in said.replace("&lt;b&gt;", "")
    image = Image.objects.filter(collection=filled).order_by("pk")[0]
    assert reverse("image-rendition", kwargs={"pk": image.pk, "size": 320}) in said
    assert "the collection shop" in get(client, "evaluationrun_changelist")


def test_images_that_are_gone_leave_their_names_alone(client: Client, filled: Collection) -> None:
    run = evaluate_on_request(str(filled.pk), "face", None)
    assert run is not None
    Image.objects.filter(collection=filled).delete()
    said = get(client, "evaluationrun_change", run.pk)
    assert "/rendition/" not in said
    assert "red 1" in said


def test_why_an_evaluation_failed_is_said(client: Client, shop: Collection) -> None:
    run = evaluate_on_request(str(shop.pk), "image", None)
    assert run is not None
    for said in (get(client, "evaluationrun_change", run.pk), get(client, "evaluate", shop.pk)):
        assert "it holds no images" in said
    assert client.get(address("evaluation_preview", run.pk)).status_code == 404
    assert client.get(address("evaluation_drawing", run.pk, "roc")).status_code == 404


def test_figures_are_drawn(client: Client, run: EvaluationRun) -> None:
    for name in ("roc", "distances"):
        answer = client.get(address("evaluation_drawing", run.pk, name))
        assert answer["Content-Type"] == "image/svg+xml"
        assert b"<svg" in answer.content
    said = get(client, "evaluationrun_change", run.pk)
    assert address("evaluation_drawing", run.pk, "roc") in said
    assert "&lt;i&gt;nobody&lt;/i&gt;" in said


def test_another_pair_of_thresholds_is_previewed_and_nothing_is_saved(client: Client, run: EvaluationRun) -> None:
    EmbeddingModel.objects.filter(pipeline="face").update(same_distance=1.0, near_distance=2.0)
    for name in ("evaluationrun_change", "evaluation_preview"):
        said = get(client, name, run.pk, same="1.5", near="4")
        assert "Use same 1.5000 and near 4.0000" in said
        assert "would be called something else" in said
    curve = run.figures["verification"]["curve"]
    assert f"of {curve['same'][-1]}" in said
    assert f"({curve['shown'][-1]} in all)" in said
    model = EmbeddingModel.objects.get(pipeline="face")
    assert (model.same_distance, model.near_distance) == (1.0, 2.0)
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize(
    ("same", "near", "words"),
    [
        ("2", "1", "near (1) must be more than same (2)"),
        ("1", "1", "must be more than same"),
        ("-1", "1", "greater than or equal to 0"),
        ("", "1", "same: This field is required."),
        ("nan", "1", "same: Enter a number."),
        ("<b>", "1", "same: Enter a number."),
    ],
)
def test_what_cannot_be_thresholds_is_said_and_not_saved(
    client: Client, run: EvaluationRun, same: str, near: str, words: str
) -> None:
    assert words in get(client, "evaluationrun_change", run.pk, same=same, near=near)
    answer = client.post(address("evaluation_thresholds", run.pk), {"same": same, "near": near}, follow=True)
    assert words in answer.content.decode()
    assert EmbeddingModel.objects.get(pipeline="face").same_distance is None
    assert not LogEntry.objects.exists()


def test_taking_the_thresholds_of_an_evaluation(client: Client, run: EvaluationRun) -> None:
    answer = client.post(address("evaluation_thresholds", run.pk), {"same": "1.25", "near": "3.5"}, follow=True)
    assert "same is 1.25 now, near 3.5" in answer.content.decode()
    model = EmbeddingModel.objects.get(pipeline="face")
    assert (model.same_distance, model.near_distance) == (1.25, 3.5)
    assert model.evaluation["taken_by"] == "root"
    assert "Took same 1.25 and near 3.5" in LogEntry.objects.get().change_message
    assert "Now: same up to 1.2500, near up to 3.5000" in get(client, "evaluationrun_change", run.pk)


def test_a_login_on_the_way_changes_nothing_and_leads_back(client: Client, run: EvaluationRun) -> None:
    answer = client.get(address("evaluation_thresholds", run.pk), {"same": "1", "near": "2"}, follow=True)
    assert answer.redirect_chain == [(address("evaluationrun_change", run.pk), 302)]
    assert "Nothing was changed" in answer.content.decode()
    assert EmbeddingModel.objects.get(pipeline="face").same_distance is None


def test_a_form_of_another_site_changes_nothing(run: EvaluationRun, filled: Collection) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("root"))
    answers = [
        client.post(address("evaluation_thresholds", run.pk), {"same": "1", "near": "2"}),
        client.post(address("evaluate", filled.pk), {"pipeline": "face"}),
    ]
    assert [answer.status_code for answer in answers] == [403, 403]
    assert EmbeddingModel.objects.get(pipeline="face").same_distance is None


def test_a_pipeline_that_does_not_run_there_is_not_evaluated(
    client: Client, shop: Collection, queued: list[tuple[Any, ...]]
) -> None:
    Collection.objects.update(pipelines=["image"])
    for pipeline in ("face", "", "voice"):
        answer = client.post(address("evaluate", shop.pk), {"pipeline": pipeline}, follow=True)
        assert "nothing to evaluate" in answer.content.decode()
    assert queued == []


def test_without_redis_the_page_says_so(client: Client, shop: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    take_redis_from(tasks.evaluate, monkeypatch)
    answer = client.post(address("evaluate", shop.pk), {"pipeline": "face"}, follow=True).content.decode()
    assert "no worker hears of it" in answer
    assert "disabled" not in answer.partition("Evaluate now")[0].rpartition("<button")[2]


# --- Who may ----------------------------------------------------------------------------------------------------------


def statuses(cast: Cast, ask: Callable[[Client], Any]) -> dict[str, int]:
    return {name: ask(staff_client(cast, name)).status_code for name in PEOPLE}


def test_evaluating_needs_an_editor_of_the_collection(
    registered: None, cast: Cast, queued: list[tuple[Any, ...]]
) -> None:
    address_ = address("evaluate", cast.private.pk)

    def ask(client: Client) -> Any:
        progress.forget(requests.subject(cast.private.pk, "face"))  # of who asked before
        return client.post(address_, {"pipeline": "face"})

    found = statuses(cast, ask)
    assert found == {"anonymous": 302, "viewer": 403, "editor": 302, "other_editor": 404, "superuser": 302}
    assert [who for _, _, who in queued] == [cast.editor.pk, cast.superuser.pk]


def test_runs_are_seen_by_editors_of_their_collection_and_thresholds_taken_by_superusers(
    cast: Cast, run: EvaluationRun
) -> None:
    EvaluationRun.objects.update(collection=cast.private)
    its_editor = {"anonymous": 302, "viewer": 403, "editor": 200, "other_editor": 404, "superuser": 200}
    for one in (("evaluation_drawing", run.pk, "roc"), ("evaluation_preview", run.pk)):
        assert statuses(cast, lambda client, one=one: client.get(address(*one))) == its_editor  # type: ignore[misc]
    state = address("evaluate_state", cast.private.pk)
    assert statuses(cast, lambda client: client.get(state)) == its_editor
    take = address("evaluation_thresholds", run.pk)
    found = statuses(cast, lambda client: client.post(take, {"same": "1", "near": "2"}))
    assert found == {**its_editor, "editor": 403, "superuser": 302}
    page = address("evaluationrun_change", run.pk)
    assert "Use same" in staff_client(cast, "superuser").get(page).content.decode()
    assert "Use same" not in staff_client(cast, "editor").get(page).content.decode()


def test_runs_of_folders_are_for_superusers_and_a_list_holds_what_each_may_see(cast: Cast, run: EvaluationRun) -> None:
    page = address("evaluationrun_change", run.pk)
    found = statuses(cast, lambda client: client.get(page))
    assert found == {"anonymous": 302, "viewer": 403, "editor": 404, "other_editor": 404, "superuser": 200}
    for collection in (cast.private, cast.foreign):
        EvaluationRun.objects.create(
            embedding_model=run.embedding_model,
            collection=collection,
            what=str(collection),
            status="failed",
            reason="x",
        )
    listed = {}
    for name in ("editor", "other_editor", "superuser"):
        rows = staff_client(cast, name).get(address("evaluationrun_changelist")).context["cl"].result_list
        listed[name] = {row.what for row in rows}
    assert listed == {
        "editor": {"private"},
        "other_editor": {"foreign"},
        "superuser": {"private", "foreign", run.what},
    }


def test_asking_again_while_one_is_under_way_asks_for_nothing(
    client: Client, filled: Collection, queued: list[tuple[Any, ...]]
) -> None:
    for _ in range(2):
        answer = client.post(address("evaluate", filled.pk), {"pipeline": "face"}, follow=True)
    assert "under way already" in answer.content.decode()
    assert len(queued) == 1


def test_a_run_of_another_metric_offers_nothing_to_take(client: Client, run: EvaluationRun, settings: Settings) -> None:
    settings.VISEARCH_INDEXES = {**settings.VISEARCH_INDEXES, "face": {"ENGINE": "exact", "METRIC": "cosine"}}
    for said in (get(client, "evaluationrun_change", run.pk), get(client, "evaluation_preview", run.pk)):
        assert "Use same" not in said
        assert "Pairs of two labels let in" not in said
    assert "searched by cosine now" in get(client, "evaluationrun_change", run.pk)


def test_a_run_of_a_taught_model_warns_and_offers_nothing_to_take(client: Client, filled: Collection) -> None:
    base = EmbeddingModel.objects.get(pipeline="image")
    EmbeddingModel.objects.filter(pipeline="face").update(derived_from=base, passed_gate=True)
    run = evaluate_on_request(str(filled.pk), "face", None)
    assert run is not None
    said = get(client, "evaluationrun_change", run.pk, same="1", near="2")
    assert said.count("taught on labels of this site") == 1
    assert "Use same" not in said


def test_a_superuser_deletes_a_run_and_the_log_says_so(client: Client, run: EvaluationRun) -> None:
    page = get(client, "evaluationrun_change", run.pk)
    assert address("evaluationrun_delete", run.pk) in page
    assert f'<h1 class="vs-heading">Evaluation of {run.what}</h1>' in page
    client.post(address("evaluationrun_delete", run.pk), {"post": "yes"})
    assert not EvaluationRun.objects.exists()
    assert LogEntry.objects.get().object_id == str(run.pk)
