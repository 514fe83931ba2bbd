"""A Redis of our own: private, and it keeps its queue."""

from __future__ import annotations

import importlib.util
import stat
from pathlib import Path

import psutil
import pytest
from redis import Redis

from visearch_site.local.errors import LocalError
from visearch_site.local.programs import redis_program
from visearch_site.local.redis import start_redis


def test_a_queue_survives_kill_9(folder: Path, sockets: Path) -> None:
    first = start_redis(folder / "redis", sockets)
    Redis.from_url(first.url).rpush("queue", "message")
    first.kill()
    second = start_redis(folder / "redis", sockets)
    assert Redis.from_url(second.url).lrange("queue", 0, -1) == [b"message"]
    second.stop()


def test_it_is_reached_by_its_socket_alone_and_is_not_root(folder: Path, sockets: Path) -> None:
    server = start_redis(folder / "redis", sockets)
    process = psutil.Process(server.pid)
    assert process.net_connections(kind="inet") == []
    assert process.uids().real != 0
    assert stat.S_IMODE((sockets / "redis.sock").stat().st_mode) == 0o700
    server.stop()


def test_a_redis_in_path_is_preferred(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("valkey-server", "redis-server"):
        program = folder / name
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=":")
        assert redis_program(folder, None) == program


def test_without_any_redis_it_says_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LocalError, match=r"apt-get install redis-server.*REDIS_URL"):
        redis_program(folder, None)
