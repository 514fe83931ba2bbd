"""The model that is about to serve is open in every process that is searched in before it serves."""

from __future__ import annotations

import logging
import threading

import pytest

from catalog.embedding_models import make_serving, serving_model
from catalog.models import Collection, EmbeddingModel
from catalog.vision.errors import ModelUnavailable
from search import ahead, serving, tasks
from search.indexing import rebuild_index
from search.switching import requests
from search.switching.background import ask, fill_a_while
from search.switching.requests import switch
from tests.library import ready, squares

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Every index is a large one; nobody waits. The seconds that somebody would have waited."""
    waited: list[float] = []
    monkeypatch.setattr(ahead, "SMALL", 0)
    monkeypatch.setattr(ahead, "_looked", {})
    monkeypatch.setattr(requests, "sleep", waited.append)
    monkeypatch.setattr(tasks.rebuild, "delay", lambda key: None)
    return waited


@pytest.fixture
def filled(shop: Collection, other: EmbeddingModel) -> EmbeddingModel:
    ready(shop, squares((10, 10, 40, "red")))
    ask(other)
    fill_a_while()
    rebuild_index(other)
    return other


def looked(pipeline: str = "image") -> threading.Thread | None:
    thread = ahead.look(pipeline)
    if thread is not None:
        thread.join(60)
    return thread


def test_what_is_announced_is_opened_beside_the_queries(filled: EmbeddingModel) -> None:
    looked()
    assert not serving.is_open(filled)
    ahead._looked.clear()
    assert 2 <= ahead.announce(filled) <= ahead.LONGEST
    assert looked() is not None
    assert serving.is_open(filled)
    assert looked() is None  # once a second is enough


def test_a_switch_announces_and_the_way_back_does_not_wait(filled: EmbeddingModel, quick: list[float]) -> None:
    first = serving_model("image")
    rebuild_index(first)
    switch(filled, None)
    assert len(quick) == 1 and quick[0] >= 2
    switch(first, None)
    assert len(quick) == 1
    assert serving_model("image") == first


def test_nobody_waits_where_there_is_nothing_to_open(
    shop: Collection, other: EmbeddingModel, quick: list[float]
) -> None:
    switch(other, None)
    assert quick == []


def test_what_cannot_be_opened_ahead_disturbs_nobody(
    filled: EmbeddingModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ModelUnavailable("other", "its file is damaged")

    monkeypatch.setattr(ahead, "warm_up", broken)
    ahead.announce(filled)
    with caplog.at_level(logging.WARNING):
        looked()
    assert "cannot be opened ahead: its file is damaged" in caplog.text


def test_one_that_serves_already_is_left_to_the_queries(filled: EmbeddingModel) -> None:
    ahead.announce(filled)
    make_serving(filled)
    looked()
    assert not serving.is_open(filled)
