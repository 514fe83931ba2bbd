"""The OpenAPI document and its page."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
import yaml
from django.core.management import call_command
from django.test import Client

METHODS = {"get", "post", "patch", "put", "delete"}


@pytest.fixture
def plain_static(settings: Any) -> None:
    """Static files by their own names: there is no manifest before collectstatic."""
    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": plain}


def schema() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(Client().get("/api/schema/").content)
    return document


def test_the_schema_is_valid_and_complete() -> None:
    out = io.StringIO()
    call_command("spectacular", "--fail-on-warn", "--validate", stdout=out, stderr=io.StringIO())
    assert out.getvalue().startswith("openapi: 3.")


def test_every_operation_says_what_it_does_and_how_it_fails(db: None) -> None:
    paths = schema()["paths"]
    assert {"/api/v1/search/", "/api/v1/images/{id}/", "/images/{id}/rendition/{size}.webp"} <= set(paths)
    for path, operations in paths.items():
        for method in METHODS & set(operations):
            operation = operations[method]
            assert operation["summary"], (method, path)
            assert operation["tags"] != ["api"], (method, path)
            failing = [answer for status, answer in operation["responses"].items() if status >= "4"]
            assert failing, (method, path)
            assert all("application/problem+json" in answer["content"] for answer in failing)


def test_the_token_is_in_the_schema(db: None) -> None:
    document = schema()
    assert document["components"]["securitySchemes"]["token"]["name"] == "Authorization"
    assert {"token": []} in document["paths"]["/api/v1/images/"]["post"]["security"]
    assert {} not in document["paths"]["/api/v1/images/"]["post"]["security"]
    assert {} in document["paths"]["/api/v1/search/"]["post"]["security"]


def test_the_page_needs_nobody_else_and_no_inline_script(db: None, plain_static: None) -> None:
    response = Client().get("/api/docs/")
    page = response.content.decode()
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(addresses) >= 4
    assert all(address.startswith("/") and not address.startswith("//") for address in addresses)
    assert re.findall(r"<script(?![^>]*src=)", page) == []
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "script-src" not in policy  # so that default-src holds for scripts
    assert "unsafe-eval" not in policy
    script = Client().get("/api/docs/?script=")
    assert script.headers["Content-Type"].startswith("application/javascript")
    assert '"validatorUrl": null' in script.content.decode()


def test_the_files_of_the_page_are_ours() -> None:
    from django.contrib.staticfiles import finders

    for name in ("swagger-ui.css", "swagger-ui-bundle.js", "swagger-ui-standalone-preset.js", "favicon-32x32.png"):
        assert finders.find(f"drf_spectacular_sidecar/swagger-ui-dist/{name}")


@pytest.mark.django_db
def test_the_front_page_leads_to_the_documentation() -> None:
    assert 'href="/api/docs/"' in Client().get("/").content.decode()
