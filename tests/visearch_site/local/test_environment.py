"""VAR/local/env: what is written into it, what is kept, and that the real environment wins."""

from __future__ import annotations

from pathlib import Path

import environ
import pytest

from visearch_site.local.environment import read_env, write_env

OWN = {"DATABASE_URL": "postgres://visearch:pass@/visearch?host=/tmp/a", "REDIS_URL": "unix:///tmp/a/redis.sock?db=0"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "env"


def test_the_secret_key_is_random_and_kept(file: Path, tmp_path: Path) -> None:
    first = write_env(file, {}, host="127.0.0.1", own=OWN)["SECRET_KEY"]
    assert len(first) >= 50
    assert write_env(file, {}, host="127.0.0.1", own=OWN)["SECRET_KEY"] == first
    assert write_env(tmp_path / "other", {}, host="127.0.0.1", own=OWN)["SECRET_KEY"] != first


def test_the_real_environment_wins_and_is_not_written(file: Path) -> None:
    real = {"DATABASE_URL": "postgres://elsewhere/db", "VISEARCH_HTTPS": "1", "SECRET_KEY": "real"}
    whole = write_env(file, real, host="127.0.0.1", own={"REDIS_URL": OWN["REDIS_URL"]})
    assert {name: whole[name] for name in real} == real
    assert set(read_env(file)) == {"SECRET_KEY", "ALLOWED_HOSTS", "REDIS_URL"}
    assert "SECRET_KEY=real" not in file.read_text()


def test_an_empty_variable_counts_as_unset(file: Path) -> None:
    assert write_env(file, {"DATABASE_URL": ""}, host="127.0.0.1", own=OWN)["DATABASE_URL"] == OWN["DATABASE_URL"]


def test_the_host_that_is_served_is_allowed(file: Path) -> None:
    hosts = write_env(file, {}, host="192.0.2.7", own=OWN)["ALLOWED_HOSTS"].split(",")
    assert hosts == ["localhost", "127.0.0.1", "[::1]", "192.0.2.7"]


def test_django_reads_the_same_values(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = write_env(file, {}, host="127.0.0.1", own=OWN)
    monkeypatch.setattr(environ.Env, "ENVIRON", {})
    environ.Env.read_env(str(file))
    assert {name: written[name] for name in read_env(file)} == environ.Env.ENVIRON
