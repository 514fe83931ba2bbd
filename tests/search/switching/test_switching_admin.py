"""A model's page in the admin: what superusers may do with it there, by POST alone."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.template.defaultfilters import filesizeformat
from django.test import Client
from django.urls import reverse

from catalog.embedding_models import make_serving, serving_model
from catalog.models import Collection, Embedding, EmbeddingModel, Image
from search import progress, tasks
from search.admin import switching
from search.indexing import rebuild_index
from search.models import EvaluationRun, IndexGeneration
from search.progress import REQUESTED, BuildProgress
from search.switching import background
from search.switching.background import fill_a_while
from search.switching.comparing import compare_on_request
from search.switching.removal import drop_on_request
from search.teaching.requests import reported
from tests.catalog.admin.staff import take_redis_from, told
from tests.heads import taught_model
from tests.library import ready, squares

pytestmark = pytest.mark.django_db
ACTIONS = ("fill", "fill_pause", "compare", "retire", "drop")


@pytest.fixture
def images(shop: Collection) -> list[Image]:
    return [
        ready(shop, squares((10 + 7 * number, 10 + 5 * label, 40, colour)), label=colour)
        for label, colour in enumerate(("red", "blue", "yellow"))
        for number in range(3)
    ]


@pytest.fixture
def root(shop: Collection) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[Any, ...]]]:
    found: list[tuple[str, tuple[Any, ...]]] = []

    def note(name: str, *args: Any, **options: Any) -> None:
        found.append((name, (*args, *options.values())))

    for name in ("fill", "rebuild", "compare", "drop"):
        monkeypatch.setattr(getattr(tasks, name), "delay", partial(note, name))
    return found


def page(model: EmbeddingModel) -> str:
    return reverse("admin:catalog_embeddingmodel_change", args=[model.pk])


def url(action: str, model: EmbeddingModel) -> str:
    return reverse(f"admin:search_{action}", args=[model.pk])


def press(client: Client, action: str, model: EmbeddingModel, **form: str) -> Any:
    return client.post(url(action, model), form, follow=True)


def test_it_is_filled_paused_and_gone_on_with(
    root: Client, images: list[Image], other: EmbeddingModel, sent: list[Any]
) -> None:
    assert "0 of 9" in root.get(page(other)).content.decode()
    answer = press(root, "fill", other)
    assert "Workers compute what it lacks" in told(answer)
    assert sent == [("fill", ())]
    assert "waiting for a worker, 0 of 9" in answer.content.decode()
    assert root.get(url("fill_state", other)).json() == {"busy": ["waiting for a worker, 0 of 9"]}
    text = press(root, "fill_pause", other).content.decode()
    assert "filling is paused" in text and "Go on computing" in text
    fill_a_while()
    press(root, "fill", other)
    fill_a_while()
    text = root.get(page(other)).content.decode()
    assert "9 of 9" in text and "kept up to date" in text
    assert root.get(url("fill_state", other)).json() == {"busy": ["waiting for a worker"]}  # that builds its index
    said = [entry.change_message for entry in LogEntry.objects.filter(object_id=str(other.pk)).order_by("pk")]
    assert said == ["Asked workers to compute what it lacks.", "Paused computing what it lacks.", said[0]]


def test_both_are_compared_side_by_side(
    root: Client, shop: Collection, images: list[Image], other: EmbeddingModel, sent: list[Any]
) -> None:
    make_serving(other)
    first = EmbeddingModel.objects.get(embedder="image-colours")
    answer = press(root, "compare", first, collection=str(shop.pk))
    assert "A worker compares it" in told(answer)
    [(name, arguments)] = sent
    assert name == "compare"
    assert "already" in told(press(root, "compare", first, collection=str(shop.pk)))
    compare_on_request(*arguments)  # as the worker does
    text = root.get(page(first)).content.decode()
    for run in EvaluationRun.objects.all():
        assert reverse("admin:search_evaluationrun_change", args=[run.pk]) in text
    assert {run.embedding_model for run in EvaluationRun.objects.all()} == {first, other}
    assert "P@10" in text and "+0.0000 (standard error" in text
    report = reported("image")
    assert report is not None and report.said.startswith("Compared")
    assert "Choose a collection" in told(press(root, "compare", first, collection="7"))


def test_what_cannot_be_compared_says_why(root: Client, shop: Collection, other: EmbeddingModel) -> None:
    compare_on_request(str(other.pk), str(shop.pk), None)
    report = reported("image")
    assert report is not None and report.went_wrong and "it holds no images" in report.said
    assert not EvaluationRun.objects.exists()
    text = root.get(page(other)).content.decode()
    assert "it holds no images" in text and "Look at it" not in text  # that is here
    assert "it holds no images" in root.get(page(serving_model("image"))).content.decode()


def test_what_a_worker_is_at_is_on_its_page_and_followed(
    root: Client, shop: Collection, images: list[Image], other: EmbeddingModel
) -> None:
    assert 'data-busy=""' in root.get(page(other)).content.decode()
    press(root, "fill", other)
    press(root, "compare", other, collection=str(shop.pk))
    progress.report(other, BuildProgress(REQUESTED))
    busy = root.get(url("fill_state", other)).json()["busy"]
    assert busy == ["waiting for a worker", "waiting for a worker, 0 of 9", "waiting for a worker"]
    text = root.get(page(other)).content.decode()
    assert 'data-busy="1"' in text
    assert re.findall(r"<span data-busy-with>([^<]*)<", text) == busy


def test_builds_are_on_its_page_and_why_one_failed(
    root: Client, images: list[Image], other: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    background.ask(other)
    fill_a_while()
    row = rebuild_index(other)
    text = root.get(page(other)).content.decode()
    assert row.name in text and filesizeformat(row.bytes) in text
    IndexGeneration.objects.create(
        embedding_model=other, name="00000009-aaaaaaaa", engine="exact", status="failed", reason="The disk is <full>."
    )
    assert "The disk is &lt;full&gt;." in root.get(page(other)).content.decode()
    user = User.objects.create_user("reader", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(content_type__model="embeddingmodel"))
    client = Client()
    client.force_login(user)
    assert "The disk is" not in client.get(page(other)).content.decode()


def test_the_way_back_is_named_and_what_ending_its_upkeep_means(
    root: Client, images: list[Image], other: EmbeddingModel
) -> None:
    first = serving_model("image")
    make_serving(other)
    everything = reverse("admin:catalog_embeddingmodel_changelist")
    assert "the way back, kept up" in root.get(everything).content.decode()
    text = root.get(page(first)).content.decode()
    assert "The way back of image" in text and "Stop keeping it up" in text and ">Retire<" not in text
    press(root, "retire", first)
    assert "the way back" in root.get(everything).content.decode()
    text = root.get(page(first)).content.decode()
    assert "It is not kept up" in text and "Stop keeping it up" not in text


def test_before_a_switch_the_page_says_that_a_large_index_is_built_first(
    root: Client, images: list[Image], other: EmbeddingModel, monkeypatch: pytest.MonkeyPatch, sent: list[Any]
) -> None:
    asked = url("serve", other)
    assert "exactly from the database until its index is built" in root.get(asked).content.decode()
    monkeypatch.setattr("search.switching.ready.EXACT_IS_QUICK", 5)
    text = root.get(asked).content.decode()
    assert "9 embeddings are computed, and its index is built first, by a worker" in text
    background.ask(other)
    fill_a_while()
    text = root.get(asked).content.decode()
    assert "Its index is built first, by a worker" in text and "exactly from the database" not in text
    monkeypatch.setattr(tasks.serve, "delay", lambda *args: sent.append(("serve", args)))
    said = told(press(root, "serve", other, instead_of=str(serving_model("image").pk)))
    assert "A worker builds its index; then" in said and sent[-1][0] == "serve"


def test_retired_it_keeps_what_it_has(root: Client, images: list[Image], other: EmbeddingModel) -> None:
    press(root, "fill", other)
    fill_a_while()
    assert "is retired" in told(press(root, "retire", other))
    other.refresh_from_db()
    assert (other.state, other.fill) == ("retired", "")
    assert Embedding.objects.filter(model=other).count() == 9
    assert "Let another model serve first" in told(press(root, "retire", serving_model("image")))


def test_dropping_asks_for_its_name_and_says_what_goes(
    root: Client, images: list[Image], other: EmbeddingModel, sent: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_serving(other)
    first = EmbeddingModel.objects.get(embedder="image-colours")
    text = root.get(url("drop", first)).content.decode()
    assert "9 embeddings" in text and "It is the way back of image" in text
    assert "Type image-colours" in told(press(root, "drop", first, name="yes"))
    assert "It is the way back" in told(press(root, "drop", first, name=str(first)))
    assert EmbeddingModel.objects.filter(pk=first.pk).exists()
    monkeypatch.setattr(switching, "DROPPED_AT_ONCE", 1)
    assert "A worker deletes 9 embeddings" in told(press(root, "drop", first, name=str(first), force="1"))
    user = User.objects.get().pk
    assert sent[-1] == ("drop", (str(first.pk), user, True))
    drop_on_request(str(first.pk), user, force=True)  # as the worker does
    assert not EmbeddingModel.objects.filter(pk=first.pk).exists()
    report = reported("image")
    assert report is not None and report.said == f"{first} is dropped."
    assert LogEntry.objects.filter(object_id=str(first.pk), change_message="Dropped it.", user=user).exists()
    assert "Let another model serve first" in told(press(root, "drop", other, name=str(other)))


def test_what_is_small_is_dropped_at_once(root: Client, images: list[Image], other: EmbeddingModel) -> None:
    assert "is dropped, with 0 embeddings" in told(press(root, "drop", other, name=str(other)))
    assert not EmbeddingModel.objects.filter(pk=other.pk).exists()
    assert Embedding.objects.filter(model=serving_model("image")).count() == 9


def test_the_way_back_may_be_taken_at_once(
    root: Client, shop: Collection, images: list[Image], other: EmbeddingModel, sent: list[Any]
) -> None:
    first = serving_model("image")
    make_serving(other)
    ready(shop, squares((100, 10, 40, "black")))
    text = root.get(url("serve", first)).content.decode()
    assert "Go back at once" in text
    press(root, "serve", first, instead_of=str(other.pk), at_once="1")
    assert serving_model("image") == first
    assert Embedding.objects.filter(model=first).count() == 9
    assert ("fill", ()) in sent


@pytest.mark.parametrize("action", ACTIONS)
def test_nobody_but_superusers(shop: Collection, other: EmbeddingModel, action: str) -> None:
    user = User.objects.create_user("reader", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(content_type__model="embeddingmodel"))
    client = Client()
    client.force_login(user)
    assert (
        "<form"
        not in client.get(page(other)).content.decode().partition('id="vs-switching"')[2].partition("</section>")[0]
    )
    assert client.post(url(action, other), {"name": str(other)}).status_code == 403
    assert client.get(url("fill_state", other)).status_code == 403
    other.refresh_from_db()
    assert (other.state, other.fill) == ("building", "")


@pytest.mark.parametrize("action", ACTIONS)
def test_nothing_happens_without_the_token_of_the_form_or_by_a_link(
    root: Client, images: list[Image], other: EmbeddingModel, action: str, sent: list[Any]
) -> None:
    careless = Client(enforce_csrf_checks=True)
    careless.force_login(User.objects.get(username="root"))
    assert careless.post(url(action, other), {"name": str(other)}).status_code == 403
    assert root.get(url(action, other), follow=True).status_code == 200
    other.refresh_from_db()
    assert (other.state, other.fill, sent) == ("building", "", [])


def test_without_redis_it_says_so(
    root: Client, shop: Collection, other: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for task in (tasks.fill, tasks.compare):
        take_redis_from(task, monkeypatch)
    assert "workers begin when beat asks them" in told(press(root, "fill", other))
    other.refresh_from_db()
    assert other.fill == "asked"
    assert "manage.py model compare" in told(press(root, "compare", other, collection=str(shop.pk)))


def test_what_failed_its_gate_is_not_filled(root: Client, images: list[Image]) -> None:
    model = taught_model(passed=False)
    assert url("fill", model) not in root.get(page(model)).content.decode()
    assert "It may not serve" in told(press(root, "fill", model))
