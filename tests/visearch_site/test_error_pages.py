"""Errors as pages: the design of the page, and the API's status, for all addresses that are not the API's."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import OperationalError
from django.test import Client, RequestFactory
from django.utils import translation
from pytest_django import Settings
from rest_framework.exceptions import Throttled

from catalog.api.decoding import Busy
from catalog.exceptions import ModelUnavailable, StorageUnavailable
from tests.cast import assert_problem
from tests.visearch_site.web import web_server
from visearch_site import error_pages, errors
from visearch_site.problems import PROBLEMS

BROWSER = {"Accept": "text/html,application/xhtml+xml,image/webp,*/*;q=0.8"}


def is_page(response: Any, status: int) -> str:
    assert response.status_code == status
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    page: str = response.content.decode()
    assert 'class="brand"' in page, "not in the design of the page"
    assert page.count("<h1") == 1
    return page


def raising(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("search.views.sample_images", fail)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (SuspiciousOperation("odd"), 400, "not understood"),
        (RequestDataTooBig("a secret"), 413, "too much at once"),
        (PermissionDenied("a secret"), 403, "not for you to see"),
        (Throttled(30), 429, "Wait 30 seconds"),
        (Busy(), 503, "Many are searching"),
        (OperationalError("a secret"), 503, "away for a moment"),
        (StorageUnavailable("The disk is away."), 503, "away for a moment"),
        (ModelUnavailable("mtcnn", "/srv/secret is altered"), 503, "being looked after"),
        (RuntimeError("a secret"), 500, "Something broke here"),
    ],
)
def test_what_a_page_raises(monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, says: str) -> None:
    raising(monkeypatch, error)
    response = Client(raise_request_exception=False).get("/")
    page = is_page(response, status)
    assert says in page
    assert "secret" not in page
    assert ("Retry-After" in response.headers) == (status in (429, 503))
    assert "no-store" in response.headers["Cache-Control"]


@pytest.mark.parametrize("path", ["/nothing", "/images/01890000-0000-7000-8000-000000000000/", "/search/image/x/"])
def test_addresses_that_do_not_exist_are_pages(db: None, path: str) -> None:
    is_page(Client().get(path, headers=BROWSER), 404)


@pytest.mark.parametrize("path", ["/", "/logout/"])
def test_a_method_that_an_address_does_not_take_is_a_page(db: None, path: str) -> None:
    response = Client().put(path, headers=BROWSER)
    assert "That does not work here" in is_page(response, 405)
    assert response.headers["Allow"]
    assert_problem(Client().put("/api/v1/search/"), 405, "method-not-allowed")


def test_whoever_looks_for_a_file_of_an_image_with_a_browser_gets_a_page(db: None) -> None:
    is_page(Client().get("/images/nothing", headers=BROWSER), 404)
    assert_problem(Client().get("/images/nothing", headers={"Accept": "image/webp"}), 404, "not-found")
    assert_problem(Client().get("/api/nothing", headers=BROWSER), 404, "not-found")


def test_a_host_that_is_not_ours(settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["visearch.example"]
    is_page(Client().get("/", headers={"host": "evil.example"}), 400)


def test_a_page_of_an_error_needs_no_database(tmp_path: Any, django_db_setup: None) -> None:
    import requests

    nowhere = "postgres://nobody:secret@/nothing?host=/nonexistent"
    with web_server(tmp_path, DATABASE_URL=nowhere) as server:
        answer = requests.get(f"{server.url}/", headers=BROWSER, cookies={"sessionid": "x" * 32}, timeout=60)
        missing = requests.get(f"{server.url}/nothing", headers=BROWSER, timeout=60)
    assert (answer.status_code, missing.status_code) == (503, 404)
    assert 'class="brand"' in answer.text
    assert 'class="brand"' in missing.text


def test_a_page_that_cannot_be_made_is_django_s_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(error_pages, "render", fail)
    response = errors.server_error(RequestFactory().get("/"))
    assert response.status_code == 500
    assert b"secret" not in response.content


def test_errors_are_told_in_german_too() -> None:
    with translation.override("de"):
        page = is_page(errors.page_not_found(RequestFactory().get("/nothing"), Exception()), 404)
    assert "Hier ist nichts" in page


def test_words_are_for_codes_that_there_are() -> None:
    assert set(error_pages.WORDS) - {"session-ended", "too-many-sign-ins"} <= set(PROBLEMS)
