from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from knox.models import AuthToken
from rest_framework.test import APIClient
from rest_framework.throttling import SimpleRateThrottle

from tests.cast import Cast, assert_problem

pytestmark = pytest.mark.django_db
LOGIN, LOGOUT, LOGOUT_ALL = (f"/api/v1/auth/{name}/" for name in ("login", "logout", "logoutall"))
MINE = "/api/v1/collections/?editable=true"


@pytest.fixture(autouse=True)
def passwords(cast: Cast, settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # the real one is slow on purpose
    cast.editor.set_password("editor's password")
    cast.editor.save()


def basic(name: str, password: str) -> dict[str, Any]:
    return {"HTTP_AUTHORIZATION": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def count_with(token: str) -> int:
    return len(APIClient().get(MINE, HTTP_AUTHORIZATION=f"Token {token}").json()["results"])


def test_a_token_for_name_and_password(cast: Cast) -> None:
    client = APIClient()
    for response in (
        client.post(LOGIN, {"username": "editor", "password": "editor's password"}),
        client.post(LOGIN, **basic("editor", "editor's password")),
    ):
        assert response.status_code == 200, response.content
        assert set(response.json()) == {"token", "expiry"}
        assert count_with(response.json()["token"]) == 2


def test_tokens_are_hashed_and_expire(cast: Cast) -> None:
    token = APIClient().post(LOGIN, {"username": "editor", "password": "editor's password"}).json()["token"]
    row = AuthToken.objects.get()
    assert token not in (row.digest, row.token_key)
    assert timezone.now() < row.expiry < timezone.now() + timedelta(days=31)
    AuthToken.objects.update(expiry=timezone.now() - timedelta(seconds=1))
    response = APIClient().get(MINE, HTTP_AUTHORIZATION=f"Token {token}")
    assert_problem(response, 401, "authentication-failed")


@pytest.mark.parametrize("said", [{"username": "editor", "password": "wrong"}, {"username": "nobody", "password": "x"}])
def test_wrong_credentials_are_told_apart_by_nobody(cast: Cast, said: dict[str, str]) -> None:
    for response in (APIClient().post(LOGIN, said), APIClient().post(LOGIN, **basic(*said.values()))):
        assert_problem(response, 401, "authentication-failed")


def test_a_closed_account_gets_no_token(cast: Cast) -> None:
    cast.editor.is_active = False
    cast.editor.save()
    response = APIClient().post(LOGIN, {"username": "editor", "password": "editor's password"})
    assert_problem(response, 401, "authentication-failed")


@pytest.mark.parametrize("said", [{}, {"username": "editor"}, {"username": "a\x00", "password": "b"}, [], "editor"])
def test_login_without_what_it_needs(cast: Cast, said: Any) -> None:
    assert_problem(APIClient().post(LOGIN, said), 400, "invalid")


def test_guessing_is_slowed_down_whichever_way(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SimpleRateThrottle.THROTTLE_RATES, "login", "2/min")
    client = APIClient()
    client.post(LOGIN, {"username": "editor", "password": "wrong"})
    client.post(LOGIN, **basic("editor", "wrong"))
    for response in (
        client.post(LOGIN, {"username": "editor", "password": "editor's password"}),
        client.post(LOGIN, **basic("editor", "editor's password")),
    ):
        assert_problem(response, 429, "throttled")
        assert 0 < int(response.headers["Retry-After"]) <= 60


def test_logging_out_ends_one_token_or_all(cast: Cast) -> None:
    first, second, third = (AuthToken.objects.create(user=cast.editor)[1] for _ in range(3))
    assert APIClient().post(LOGOUT, HTTP_AUTHORIZATION=f"Token {first}").status_code == 204
    assert count_with(second) == 2
    assert APIClient().post(LOGOUT_ALL, HTTP_AUTHORIZATION=f"Token {second}").status_code == 204
    for token in (first, second, third):
        assert APIClient().get(MINE, HTTP_AUTHORIZATION=f"Token {token}").status_code == 401


def test_logging_out_needs_a_token(cast: Cast) -> None:
    for address in (LOGOUT, LOGOUT_ALL):
        response = APIClient().post(address)
        assert_problem(response, 401, "not-authenticated")
        assert response.headers["WWW-Authenticate"] == "Token"


@pytest.mark.parametrize("header", ["Token", "Token a b", "Token nonsense", "Token é", "Token a\x00b"])
def test_a_header_that_holds_no_token(cast: Cast, header: str) -> None:
    assert_problem(APIClient().get(MINE, HTTP_AUTHORIZATION=header), 401, "authentication-failed")


def test_the_session_of_the_site_counts_but_only_with_its_csrf_token(cast: Cast) -> None:
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(cast.editor)
    assert len(client.get(MINE).json()["results"]) == 2
    assert_problem(client.delete(f"/api/v1/images/{cast.private.pk}/"), 403, "permission-denied")
