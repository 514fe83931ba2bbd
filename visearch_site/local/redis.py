"""A Redis of our own: on a unix socket only, its queue kept on disk."""

from __future__ import annotations

import signal
import socket
from dataclasses import dataclass
from pathlib import Path

from visearch_site.local import process
from visearch_site.local.account import servers_account
from visearch_site.local.places import make_folder
from visearch_site.local.process import ServerProcess
from visearch_site.local.programs import redis_program

STOP_SIGNAL = signal.SIGTERM
DEATH_SIGNAL = signal.SIGKILL  # what was acknowledged is in the append-only file; SIGTERM may wait for a save
SOCKET_NAME = "redis.sock"


@dataclass
class RedisServer(ServerProcess):
    """A running Redis. `url` is understood by redis-py."""

    url: str = ""


def command(program: Path, data_dir: Path, socket_dir: Path) -> list[str]:
    """The server in the foreground: no TCP, a socket in `socket_dir`, each write appended to a file."""
    settings = {
        "port": "0",
        "unixsocket": str(socket_dir / SOCKET_NAME),
        "unixsocketperm": "700",
        "dir": str(data_dir),
        "appendonly": "yes",
        "daemonize": "no",
    }
    return [str(program), *(part for name, value in settings.items() for part in (f"--{name}", value))]


def url(socket_dir: Path) -> str:
    return f"unix://{socket_dir / SOCKET_NAME}?db=0"


def start_redis(data_dir: Path, socket_dir: Path) -> RedisServer:
    """A Redis keeping its data in `data_dir` (made when missing), answering on a socket in `socket_dir`.

    It ends with this process, however that ends. Raises LocalError saying what to do.
    """
    account = servers_account()
    program = redis_program(data_dir.parent, account)
    make_folder(data_dir, mode=0o700, account=account)
    started = process.start(
        "Redis",
        command(program, data_dir, socket_dir),
        folder=data_dir,
        account=account,
        death=DEATH_SIGNAL,
        stop=STOP_SIGNAL,
    )
    server = RedisServer(**vars(started), url=url(socket_dir))
    server.wait_until(lambda: answers(socket_dir))
    return server


def answers(socket_dir: Path) -> bool:
    """Whether Redis answers a PING and has read its data."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        try:
            connection.connect(str(socket_dir / SOCKET_NAME))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False
