"""One table of codes, one shape; docs/api.md tells the same."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.db import IntegrityError
from django.http import UnreadablePostError
from django.test import Client, RequestFactory
from rest_framework import exceptions
from rest_framework.test import APIClient

from catalog.checking import GONE, OURS, STARVED, UNREADABLE
from catalog.exceptions import DecoderUnavailable, ModelUnavailable, NoServingModel, StorageUnavailable
from catalog.recovery import INTERRUPTED
from catalog.vision.helper.messages import CODES
from search.exceptions import SearchError
from tests.cast import assert_problem
from tests.stack import ROOT
from visearch_site import errors
from visearch_site.errors import describe, problem_json
from visearch_site.problems import PROBLEMS


def documented() -> dict[str, int]:
    """Code to status, of the table in docs/api.md."""
    rows = re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \|", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)
    return {code: int(status) for code, status in rows}


def refusal_codes() -> Iterator[str]:
    """Every code that the vision code refuses an image with, read from its source."""
    for path in (ROOT / "catalog" / "vision").rglob("*.py"):
        if path.parts[-2:] == ("helper", "messages.py"):  # it says again what was said elsewhere, of these
            yield from CODES
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "ImageRefused":
                code = node.args[0]
                assert isinstance(code, ast.Constant), f"{path}:{node.lineno}"
                yield str(code.value)


def subclasses(base: type[Any]) -> Iterator[Any]:
    children: list[type[Any]] = base.__subclasses__()
    for child in children:
        yield child
        yield from subclasses(child)


def test_the_documentation_has_every_code_with_its_status() -> None:
    assert documented() == {code: status for code, (status, _) in PROBLEMS.items()}


def test_every_code_that_can_be_raised_has_a_problem() -> None:
    refused = set(refusal_codes())
    searched = {error.code for error in subclasses(SearchError)}
    framework = {error.default_code.replace("_", "-") for error in subclasses(exceptions.APIException)}
    ours = {StorageUnavailable.code, ModelUnavailable.code, NoServingModel.code, DecoderUnavailable.code}
    assert len(refused) > 5
    failed = {*OURS, GONE, STARVED, UNREADABLE, INTERRUPTED}  # codes of lines, raised as StorageUnavailable
    assert refused | searched | framework | ours | failed <= set(PROBLEMS)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (IntegrityError("duplicate key (a secret)"), "conflict"),
        (RequestDataTooBig("a secret"), "body-too-large"),
        (SuspiciousOperation("odd"), "bad-request"),
        (UnreadablePostError("gone"), "parse-error"),
        (ModelUnavailable("mtcnn", "/srv/models/mtcnn.onnx is altered"), "model-unavailable"),
        (DecoderUnavailable("the process that reads images cannot be started: No space left"), "decoder-unavailable"),
    ],
)
def test_errors_of_the_libraries_below_are_told_in_our_words(error: Exception, code: str) -> None:
    response = problem_json(error, {})
    assert response is not None
    assert (response.status_code, response.data["code"]) == (PROBLEMS[code][0], code)
    assert str(error) not in response.data["detail"]


def test_what_nobody_foresaw_is_left_to_django() -> None:
    assert describe(RuntimeError("a secret")) is None


def test_messages_of_nested_fields_are_all_there() -> None:
    response = problem_json(exceptions.ValidationError({"tags": {"0": ["Too long."], "1": ["Empty."]}}), {})
    assert response is not None
    assert response.data["errors"] == {"tags": ["Too long.", "Empty."]}
    assert response.data["detail"] == "tags: Too long."


@pytest.mark.parametrize("path", ["/api/", "/api/v1/nothing/", "/api/v2/images/", "/images/nothing"])
def test_addresses_that_do_not_exist(path: str) -> None:
    assert_problem(Client().get(path), 404, "not-found")


def test_pages_have_pages_for_errors() -> None:
    response = Client().get("/nothing")
    assert (response.status_code, response.headers["Content-Type"]) == (404, "text/html; charset=utf-8")


def test_an_unforeseen_error_is_a_problem_without_a_trace(monkeypatch: pytest.MonkeyPatch, db: None) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr("catalog.api.views.CollectionViewSet.get_queryset", fail)
    response = APIClient(raise_request_exception=False).get("/api/v1/collections/")
    assert_problem(response, 500, "server-error")
    assert "secret" not in response.content.decode()


@pytest.mark.parametrize(
    ("handler", "status"), [(errors.bad_request, 400), (errors.permission_denied, 403), (errors.page_not_found, 404)]
)
def test_djangos_own_errors(handler: Any, status: int) -> None:
    for path, kind in (("/api/v1/x/", "application/problem+json"), ("/x/", "text/html")):
        response = handler(RequestFactory().get(path), SuspiciousOperation("odd"))
        assert (response.status_code, response.headers["Content-Type"].split(";")[0]) == (status, kind)


def test_a_host_that_is_not_ours_is_a_problem_too(settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["visearch.example"]
    assert_problem(Client().get("/api/v1/collections/", HTTP_HOST="evil.example"), 400, "bad-request")


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "image/png"])
def test_only_json_is_answered_and_problems_are_json_for_everybody(accept: str, db: None) -> None:
    assert_problem(Client().get("/api/v1/collections/", HTTP_ACCEPT=accept), 406, "not-acceptable")


def test_the_documentation_names_no_machine_of_ours() -> None:
    assert not re.search(r"/work/|/root/|/tmp/w", (Path(ROOT) / "docs" / "api.md").read_text())
