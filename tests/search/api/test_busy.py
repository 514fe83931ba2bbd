"""Searches and uploads share a few turns at decoding. The threads here are inside of it at the same time."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from rest_framework.test import APIClient

from catalog.api import decoding
from catalog.models import Collection, IntakeJob
from search.api import views
from search.querying import search_by_image
from tests.cast import assert_problem
from tests.library import InThread, squares

pytestmark = pytest.mark.django_db(transaction=True)
RED = squares((20, 30, 40, "red"))


class Gate:
    """Stands before the real search: tells who came in, and holds them until it is opened."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Semaphore(0), threading.Event()

    def __call__(self, *asked: Any) -> Any:
        self.entered.release()
        assert self.opened.wait(60)
        return search_by_image(*asked)

    def wait_for(self, count: int) -> None:
        for _ in range(count):
            assert self.entered.acquire(timeout=60)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch, shop: Collection) -> Gate:
    gate = Gate()
    monkeypatch.setattr(views, "search_by_image", gate)
    return gate


def search() -> Any:
    return APIClient().post("/api/v1/search/", {"image": SimpleUploadedFile("a.png", RED)}, format="multipart")


def upload() -> Any:
    client = APIClient()
    client.force_authenticate(User.objects.create_superuser("superuser"))
    body = {"image": SimpleUploadedFile("a.png", RED), "collection": "shop"}
    return client.post("/api/v1/images/", body, format="multipart")


@pytest.mark.parametrize("one_more", [search, upload])
def test_one_too_many_is_told_to_come_back(gate: Gate, monkeypatch: pytest.MonkeyPatch, one_more: Any) -> None:
    monkeypatch.setattr(decoding, "PATIENCE", 0)
    searching = [InThread(search) for _ in range(decoding.AT_ONCE)]
    gate.wait_for(decoding.AT_ONCE)
    response = one_more()
    gate.opened.set()
    assert_problem(response, 503, "busy")
    assert response.headers["Retry-After"] == "5"
    assert not IntakeJob.objects.exists()
    assert [each.outcome().status_code for each in searching] == [200] * decoding.AT_ONCE


def test_those_who_wait_get_their_turn(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "PATIENCE", 60)
    searching = [InThread(search) for _ in range(3 * decoding.AT_ONCE)]
    gate.wait_for(decoding.AT_ONCE)
    gate.opened.set()
    assert [each.outcome().status_code for each in searching] == [200] * len(searching)


def test_a_search_that_fails_gives_its_turn_back(shop: Collection) -> None:
    for _ in range(decoding.AT_ONCE + 1):
        body = {"image": SimpleUploadedFile("a.png", b"no image")}
        assert_problem(APIClient().post("/api/v1/search/", body, format="multipart"), 415, "not-an-image")
