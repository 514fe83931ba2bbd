"""Both servers for the length of a block: what the tests run on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from visearch_site.local.account import servers_account
from visearch_site.local.places import socket_folder
from visearch_site.local.postgres import PostgresServer, start_postgres
from visearch_site.local.redis import RedisServer, start_redis


@dataclass(frozen=True)
class Servers:
    """A Postgres and a Redis, and the addresses under which they answer."""

    database_url: str
    redis_url: str
    postgres: PostgresServer
    redis: RedisServer


@contextmanager
def local_servers(folder: Path, *, fsync: bool = False) -> Iterator[Servers]:
    """Runs a Postgres and a Redis for the block, with data in `folder` and sockets in a short temporary folder.

    As root, with a `folder` that the servers' account cannot reach, the data lies in the temporary folder instead.
    `fsync=False` gives up what only a power cut would cost. Call it from the main thread: the servers end with the
    thread that started them. Raises LocalError saying what to do.
    """
    account = servers_account()
    with ExitStack() as stack:
        sockets = socket_folder(account)
        stack.callback(shutil.rmtree, sockets, ignore_errors=True)
        data = folder if account is None or account.can_reach(folder) else sockets
        postgres = start_postgres(data / "postgres", sockets, fsync=fsync)
        stack.callback(postgres.stop)
        redis = start_redis(data / "redis", sockets)
        stack.callback(redis.stop)
        yield Servers(postgres.url, redis.url, postgres, redis)
