"""Our own Postgres and Redis under supervisord: only those whose address the environment does not name."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from visearch_site.local import postgres, redis
from visearch_site.local.account import Account
from visearch_site.local.places import make_folder
from visearch_site.local.process import tether_account
from visearch_site.local.programs import redis_program
from visearch_site.local.supervision import SERVERS, Program


@dataclass(frozen=True)
class OwnServer:
    """A server of ours: the program, its address as an environment variable, and whether it answers."""

    program: Program
    variable: str
    url: str
    answers: Callable[[], bool]


def own_servers(home: Path, sockets: Path, account: Account | None) -> list[OwnServer]:
    """Those to start, their data folders in `home` made ready. Raises LocalError saying what to do."""
    makers = {"DATABASE_URL": own_postgres, "REDIS_URL": own_redis}
    return [make(home, sockets, account) for variable, make in makers.items() if not os.environ.get(variable)]


def own_postgres(home: Path, sockets: Path, account: Account | None) -> OwnServer:
    cluster = postgres.prepare_cluster(home / "postgres")
    program = Program(
        "postgres",
        SERVERS,
        cluster.command(sockets),
        cluster.data_dir,
        stop=postgres.STOP_SIGNAL,
        death=postgres.DEATH_SIGNAL,
        account=tether_account(account),
    )
    url = cluster.url(sockets)
    return OwnServer(program, "DATABASE_URL", url, lambda: postgres.answers(url))


def own_redis(home: Path, sockets: Path, account: Account | None) -> OwnServer:
    data_dir = make_folder(home / "redis", mode=0o700, account=account)
    program = Program(
        "redis",
        SERVERS,
        redis.command(redis_program(home, account), data_dir, sockets),
        data_dir,
        stop=redis.STOP_SIGNAL,
        death=redis.DEATH_SIGNAL,
        account=tether_account(account),
    )
    return OwnServer(program, "REDIS_URL", redis.url(sockets), lambda: redis.answers(sockets))
