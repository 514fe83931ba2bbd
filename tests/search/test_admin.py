"""Search health in the admin: what it says of each pipeline, and rebuilding from there."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from pytest_django import Settings

from catalog import workers
from catalog.models import Collection, EmbeddingModel
from catalog.vision import providers
from search import progress, tasks
from search.engines.errors import BuildFailed
from search.health import PipelineHealth, health
from search.indexing import rebuild_index, rebuild_on_request
from search.locks import builder_lock
from search.models import IndexGeneration
from search.progress import REQUESTED, BuildProgress
from tests.catalog.admin.staff import take_redis_from
from tests.library import ready, squares

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin_client(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


@pytest.fixture(autouse=True)
def nothing_is_built(shop: Collection) -> None:
    cache.clear()


@pytest.fixture
def queued(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked of the workers."""
    sent: list[str] = []
    monkeypatch.setattr(tasks.rebuild, "delay", sent.append)
    return sent


@pytest.fixture
def image_model(shop: Collection) -> EmbeddingModel:
    return EmbeddingModel.objects.get(pipeline="image", state="serving")


def of_image() -> PipelineHealth:
    return next(state for state in health() if state.pipeline == "image")


def page(client: Client) -> str:
    return client.get(reverse("admin:search_health")).content.decode()


def rebuild(client: Client, model: EmbeddingModel) -> Any:
    return client.post(reverse("admin:search_rebuild", args=[model.pk]), follow=True)


def test_before_the_first_build(shop: Collection, admin_client: Client) -> None:
    ready(shop, squares((10, 10, 40, "red")))
    state = of_image()
    assert (state.generation, state.total, state.new, state.dropped, state.running) == (None, 1, 1, 0, None)
    assert "none yet: search answers exactly from the database" in page(admin_client)


def test_what_serves_what_is_newer_and_what_is_gone(
    shop: Collection, image_model: EmbeddingModel, admin_client: Client
) -> None:
    first = ready(shop, squares((10, 10, 40, "red")))
    ready(shop, squares((20, 20, 40, "blue")))
    rebuild_index(image_model)
    ready(shop, squares((30, 30, 40, "green")))
    first.delete()
    state = of_image()
    assert state.generation is not None
    assert (state.generation.count, state.total, state.new, state.dropped) == (2, 2, 1, 1)
    said = page(admin_client)
    for words in (
        state.generation.name,
        image_model.embedder,
        image_model.fingerprint[:12],
        image_model.licence,
        "1.0000",
    ):
        assert words in said


def test_a_failed_build_says_why(image_model: EmbeddingModel, admin_client: Client) -> None:
    IndexGeneration.objects.create(
        embedding_model=image_model, name="1", engine="exact", status="failed", reason="The disk is full."
    )
    assert "The disk is full." in page(admin_client)


def test_a_pipeline_without_a_model_says_what_to_do(image_model: EmbeddingModel, admin_client: Client) -> None:
    EmbeddingModel.objects.filter(pk=image_model.pk).update(state="retired")
    assert "No embedding model serves this pipeline." in page(admin_client)


def test_an_index_that_is_gone_from_the_disk_is_said(
    shop: Collection, image_model: EmbeddingModel, admin_client: Client, settings: Settings, tmp_path: Any
) -> None:
    ready(shop, squares((10, 10, 40, "red")))
    rebuild_index(image_model)
    assert of_image().trouble == ""
    settings.VISEARCH_INDEXES_DIR = tmp_path / "empty"
    assert "gone from the disk" in of_image().trouble
    assert str(tmp_path) not in page(admin_client)


def test_rebuilding_from_the_page(
    shop: Collection, image_model: EmbeddingModel, admin_client: Client, queued: list[str]
) -> None:
    ready(shop, squares((10, 10, 40, "red")))
    answer = rebuild(admin_client, image_model)
    assert queued == [str(image_model.pk)]
    assert "as soon as one is free" in answer.content.decode()
    assert of_image().running == BuildProgress(REQUESTED)
    assert "rebuild" in LogEntry.objects.get().change_message
    rebuild_on_request(queued[0])  # as a worker does
    state = of_image()
    assert state.running is None
    assert state.generation is not None
    assert state.generation.count == 1


def test_a_login_on_the_way_to_a_rebuild_leads_back_to_the_page(
    image_model: EmbeddingModel, admin_client: Client, queued: list[str]
) -> None:
    address = reverse("admin:search_rebuild", args=[image_model.pk])
    sent_to_login = Client().post(address)
    assert sent_to_login["Location"].endswith(f"?next={address}")
    answer = admin_client.get(address, follow=True)
    assert answer.redirect_chain == [(reverse("admin:search_health"), 302)]
    assert "again" in answer.content.decode()
    assert queued == []


def test_how_far_a_build_is(
    shop: Collection, image_model: EmbeddingModel, admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready(shop, squares((10, 10, 40, "red")))
    seen: list[Any] = []
    report = progress.report

    def watched(*args: Any, **options: Any) -> None:
        report(*args, **options)
        states = admin_client.get(reverse("admin:search_health_state")).json()["pipelines"]
        seen.append(next(state["running"] for state in states if state["pipeline"] == "image"))

    monkeypatch.setattr(progress, "report", watched)
    rebuild_on_request(str(image_model.pk))
    assert seen[0] == {"step": "reading", "done": 0, "total": 1, "left": ""}
    assert seen[-1] == {"step": "publishing", "done": 1, "total": 1, "left": ""}
    assert list(dict.fromkeys(said["step"] for said in seen)) == ["reading", "checking", "publishing"]
    assert of_image().running is None


def test_following_a_build_counts_nothing_and_asks_no_index(
    shop: Collection, image_model: EmbeddingModel, admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each page that is open asks once a second."""
    ready(shop, squares((10, 10, 40, "red")))
    row = rebuild_index(image_model)
    monkeypatch.setattr("search.health.index_for", None)
    with CaptureQueriesContext(connection) as queries:
        states = admin_client.get(reverse("admin:search_health_state")).json()["pipelines"]
    assert {"pipeline": "image", "running": None, "last": str(row.pk)} in states
    assert not [query["sql"] for query in queries if '"catalog_embedding"' in query["sql"]]


def test_a_builder_that_was_killed_is_not_shown_as_building(image_model: EmbeddingModel) -> None:
    progress.report(image_model, BuildProgress("building", 5, 10))  # and nobody holds the lock
    assert of_image().running is None
    with builder_lock(image_model):
        assert of_image().running == BuildProgress("building", 5, 10)


def test_a_build_by_the_command_is_shown(image_model: EmbeddingModel) -> None:
    with builder_lock(image_model):
        assert of_image().running == BuildProgress("building")
        rebuild_on_request(str(image_model.pk))  # gives way
    assert of_image().running is None
    assert not IndexGeneration.objects.exists()


def test_a_build_that_fails_leaves_no_progress_behind(
    shop: Collection, image_model: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready(shop, squares((10, 10, 40, "red")))
    progress.report(image_model, BuildProgress(REQUESTED))

    def fails(*_: object) -> None:
        raise BuildFailed("The check found 3 of 10.")

    monkeypatch.setattr("search.indexing._stream", fails)
    with pytest.raises(BuildFailed):
        rebuild_on_request(str(image_model.pk))
    state = of_image()
    assert state.running is None
    assert state.builds[0].reason == "The check found 3 of 10."


def test_a_model_that_no_longer_serves_is_not_built(image_model: EmbeddingModel, admin_client: Client) -> None:
    EmbeddingModel.objects.filter(pk=image_model.pk).update(state="retired")
    assert rebuild(admin_client, image_model).status_code == 404
    rebuild_on_request(str(image_model.pk))
    assert not IndexGeneration.objects.exists()


def test_without_redis_the_page_says_so(
    image_model: EmbeddingModel, admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_redis_from(tasks.rebuild, monkeypatch)
    answer = rebuild(admin_client, image_model).content.decode()
    assert "no worker hears of it" in answer
    assert "Searching goes on." in answer
    assert of_image().running is None


def test_what_networks_run_on_is_shown(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "none has said so within a day" in page(admin_client)
    monkeypatch.setattr(providers, "_in_use", ("OpenVINO", "CPU"))
    workers.report()
    shown = page(admin_client)
    assert f"Workers on {workers.reports()[0].host}" in shown and "OpenVINO, CPU" in shown
    assert "none has said so" not in shown


def test_what_this_process_runs_its_networks_on_is_shown(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "_in_use", ())
    assert "no network yet" in page(admin_client)
    monkeypatch.setattr(providers, "_in_use", ("CUDA", "CPU"))
    assert "CUDA, CPU" in page(admin_client)
