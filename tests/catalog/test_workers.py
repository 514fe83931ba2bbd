"""How worker processes share the cores, and what they say of themselves."""

from __future__ import annotations

import json
import logging
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.utils import timezone
from django_redis import get_redis_connection  # type: ignore[import-untyped]
from pytest_django import Settings

from catalog import workers
from catalog.embedding_models import make_serving, register_models
from catalog.models import Collection, EmbeddingModel
from catalog.tasks import process_images
from catalog.vision import providers, registry
from catalog.vision.errors import ModelUnavailable
from visearch_site import celery

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def nobody_spoke(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.VISEARCH_THREADS = settings.VISEARCH_LANES = 0
    monkeypatch.setattr(providers, "_in_use", ())
    cache.clear()


@pytest.fixture
def four_cores(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(celery, "usable_cores", lambda: 4)
    return settings


@pytest.mark.parametrize("cores", [1, 2, 3, 4, 8, 12, 64])
@pytest.mark.parametrize("threads", [0, 1, 2])
def test_processes_lanes_and_threads_use_the_cores_there_are(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, cores: int, threads: int
) -> None:
    monkeypatch.setattr(celery, "usable_cores", lambda: cores)
    for processes in range(1, cores // max(threads, 1) + 1):
        settings.VISEARCH_THREADS, settings.VISEARCH_LANES = threads, 0
        celery.share_cores(options={"concurrency": processes})
        used = processes * settings.VISEARCH_LANES * settings.VISEARCH_THREADS
        assert cores / 2 < used <= cores, (processes, settings.VISEARCH_LANES, settings.VISEARCH_THREADS)
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("processes", "lanes_and_threads", "wanted"), [(5, (0, 0), 5), (2, (2, 2), 8), (None, (2, 0), 8), (4, (0, 2), 8)]
)
def test_more_than_there_are_is_said(
    four_cores: Settings,
    caplog: pytest.LogCaptureFixture,
    processes: int | None,
    lanes_and_threads: tuple[int, int],
    wanted: int,
) -> None:
    four_cores.VISEARCH_LANES, four_cores.VISEARCH_THREADS = lanes_and_threads
    with caplog.at_level(logging.WARNING):
        celery.share_cores(options={"concurrency": processes})
    assert f"want {wanted} cores, there are 4" in caplog.text
    assert "VISEARCH_WORKER_PROCESSES" in caplog.text


def test_a_worker_says_what_its_networks_run_on(settings: Settings) -> None:
    settings.VISEARCH_THREADS, settings.VISEARCH_LANES = 2, 3
    providers.note(("CUDA", "CPU"))
    workers.report()
    (said,) = workers.reports()
    assert (said.runs_on, said.lanes, said.threads) == (("CUDA", "CPU"), 3, 2)
    assert said.host and timezone.now() - said.said_at < timedelta(minutes=1)


def test_every_host_has_its_say_and_what_is_old_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    providers.note(("CPU",))
    for host in ("b", "a", "b"):
        monkeypatch.setattr(workers.socket, "gethostname", lambda host=host: host)
        workers.report()
    assert [said.host for said in workers.reports()] == ["a", "b"]
    tomorrow = timezone.now() + workers.KEPT
    monkeypatch.setattr(workers.timezone, "now", lambda: tomorrow)
    assert workers.reports() == []


def test_whoever_is_nudged_says_it_again_and_a_process_without_networks_says_nothing() -> None:
    process_images()
    assert workers.reports() == []
    providers.note(("CPU",))
    process_images()
    assert [said.runs_on for said in workers.reports()] == [("CPU",)]


def test_what_another_version_said_stops_neither_page_nor_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    providers.note(("CPU",))
    monkeypatch.setattr(workers.socket, "gethostname", lambda: "new")
    workers.report()
    kept: dict[str, Any] = cache.get(workers._KEY)
    more, less = {**kept["new"], "host": "more", "memory": 5}, {"host": "less"}
    kept |= {"more": more, "less": less, "odd": {**kept["new"], "said_at": "yesterday"}, "none": None}
    cache.set(workers._KEY, kept)
    assert [said.host for said in workers.reports()] == ["new"]
    cache.set(workers._KEY, ["a list"])
    process_images()
    assert [said.host for said in workers.reports()] == ["new"]


def test_nothing_in_the_cache_is_pickled() -> None:
    """Whoever can write to Redis could run code of theirs in every process that reads it."""
    providers.note(("CPU",))
    workers.report()
    raw = get_redis_connection("default").get(cache.make_key(workers._KEY))
    assert json.loads(raw)
    with pytest.raises(TypeError, match="serializable"):
        cache.set("anything", object())


# --- Before the first image -------------------------------------------------------------------------------------------


def test_a_process_loads_what_serves(shop: Collection, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = {"BACKEND": "tests.fakes.MeanColour"}
    settings.VISEARCH_EMBEDDERS = {**settings.VISEARCH_EMBEDDERS, "other": fake}
    pipeline = {"DETECTOR": "frame", "EMBEDDERS": ["image-colours", "other"]}
    settings.VISEARCH_PIPELINES = {**settings.VISEARCH_PIPELINES, "image": pipeline}
    register_models()
    make_serving(EmbeddingModel.objects.get(embedder="other"))
    loaded = set()
    embedder = registry.embedder

    def note(name: str) -> Any:
        loaded.add(name)
        return embedder(name)

    monkeypatch.setattr(registry, "embedder", note)
    celery.load_networks()
    assert loaded == {"face-colours", "other"}


def test_a_pipeline_that_cannot_be_loaded_does_not_keep_the_others_cold(
    shop: Collection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(providers, "_in_use", ("CPU",))
    embedder = registry.embedder
    loaded = set()

    def embedder_or_none(name: str) -> Any:
        if name == "face-colours":
            raise ModelUnavailable(name, f"The model {name} is not built.")
        loaded.add(name)
        return embedder(name)

    monkeypatch.setattr(registry, "embedder", embedder_or_none)
    celery.load_networks()
    assert "The model face-colours is not built." in caplog.text
    assert loaded == {"image-colours"}
    assert [report.runs_on for report in workers.reports()] == [("CPU",)]
