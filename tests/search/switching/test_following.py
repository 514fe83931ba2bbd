"""`manage.py model fill --follow`: until the workers have computed all, or cannot go on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from time import sleep

import pytest
from django.core.management import call_command

from catalog import storage
from catalog.models import Collection, Embedding, EmbeddingModel, Image
from search import progress, tasks
from search.management import following
from search.switching import background
from tests.library import InThread, process_all, put_image, ready, squares

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def images(shop: Collection) -> list[Image]:
    return [ready(shop, squares((place, 10, 40, "red"))) for place in (10, 20, 30)]


Workers = list[InThread]


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    """One that fills, on a connection of its own, as soon as it is asked; beat asks again every 20 ms."""
    monkeypatch.setattr(following, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(background, "BATCH", 1)
    over, running = threading.Event(), []

    def work() -> None:
        while not over.wait(0.02):
            background.fill_a_while(-1)

    monkeypatch.setattr(tasks.fill, "delay", lambda: running.append(InThread(work)))
    yield running
    over.set()
    for thread in running:
        thread.outcome()


def followed(capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    call_command("model", "fill", "other", "--follow")
    return capsys.readouterr().out


def test_it_is_followed_to_its_end(
    images: list[Image], other: EmbeddingModel, workers: Workers, capsys: pytest.CaptureFixture[str]
) -> None:
    said = followed(capsys)
    assert f"{other} has 0 of 3 embeddings; workers compute" in said
    assert said.endswith(f"{other} has 3 of 3 embeddings.\n")
    assert Embedding.objects.filter(model=other).count() == 3


@dataclass
class SlowUploads:
    """A clock that goes by 100 seconds at every look while the worker waits for images; these are processed at last."""

    model: EmbeddingModel
    now: float = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        sleep(seconds)
        said = progress.reported(background.subject(self.model))
        if said is not None and said.step == background.YIELDING:
            self.now += 100
        if self.now == 500:
            process_all()


@pytest.mark.usefixtures("images", "workers")
def test_while_images_are_processed_it_goes_on_following(
    shop: Collection, other: EmbeddingModel, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patience is for workers that say nothing."""
    put_image(shop, squares((60, 10, 40, "blue")))
    clock = SlowUploads(other)
    monkeypatch.setattr(following, "time", clock)
    assert followed(capsys).endswith(f"{other} has 4 of 4 embeddings.\n")
    assert clock.now >= 500


def test_paused_by_somebody_else_it_ends(
    images: list[Image], other: EmbeddingModel, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(tasks.fill, "delay", lambda: background.pause(other))
    said = followed(capsys)
    assert f"{other} has 0 of 3 embeddings.\n" in said and "after a pause `model fill` goes on" in said


def test_where_a_worker_cannot_go_on_it_says_why(
    images: list[Image],
    other: EmbeddingModel,
    workers: Workers,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away(key: str) -> None:
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(storage, "open_original", away)
    said = followed(capsys)
    assert f"{other} has 0 of 3 embeddings.\nA worker could not go on: The original of image" in said
    assert "(Stale file handle)" in said and "tried again every minute" in said


def test_where_no_worker_is_there_it_loses_patience(
    images: list[Image], other: EmbeddingModel, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(following, "PATIENCE", 0.1)
    monkeypatch.setattr(tasks.fill, "delay", lambda: None)
    said = followed(capsys)
    assert f"{other} has 0 of 3 embeddings.\nThe rest is computed when a worker is free" in said
