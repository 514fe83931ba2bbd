"""A Postgres of our own: made by initdb with scram-sha-256 and a random password, on a unix socket only."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

import psycopg

from visearch_site.local import process, tether
from visearch_site.local.account import Account, servers_account
from visearch_site.local.errors import LocalError
from visearch_site.local.places import give, make_folder
from visearch_site.local.process import ServerProcess
from visearch_site.local.programs import postgres_programs
from visearch_site.local.tree import served_folder

NAME = "visearch"  # of the role and of its database
PASSWORD_FILE = "visearch.password"  # noqa: S105 (in the data folder, 0600)
MAX_CONNECTIONS = 100
STOP_SIGNAL = signal.SIGINT  # fast shutdown: sessions are ended, everything is written
DEATH_SIGNAL = signal.SIGQUIT  # immediate shutdown: the next start recovers, as after a power cut


@dataclass
class PostgresServer(ServerProcess):
    """A running Postgres. `url` is understood by libpq, psycopg and django-environ."""

    url: str = ""
    data_dir: Path = Path()
    socket_dir: Path = Path()


@dataclass(frozen=True)
class Cluster:
    """A data folder of Postgres, the account that owns it, and the programs that serve it."""

    data_dir: Path
    programs: Path
    account: Account | None
    fsync: bool = True

    def command(self, socket_dir: Path) -> list[str]:
        """The server in the foreground: no TCP, its socket in `socket_dir`."""
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(socket_dir),
            "unix_socket_permissions": "0700",
            "max_connections": str(MAX_CONNECTIONS),
            "fsync": "on" if self.fsync else "off",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [str(self.programs / "postgres"), "-D", str(self.data_dir), *options]

    def url(self, socket_dir: Path) -> str:
        password = (self.data_dir / PASSWORD_FILE).read_text().strip()
        return f"postgres://{NAME}:{password}@/{NAME}?host={urllib.parse.quote(str(socket_dir))}"

    def run(self, command: list[str], stdin: str = "") -> None:
        """Runs one of the programs as the account. Raises LocalError with what it said when it fails."""
        tethered = tether.command_line(command, parent=os.getpid(), account=process.tether_account(self.account))
        done = subprocess.run(  # noqa: S603
            tethered, check=False, input=stdin, cwd=self.data_dir, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise LocalError(f"Postgres could not be set up ({Path(command[0]).name}): {done.stderr.strip()}")

    def clear_stale_lock(self) -> None:
        """Removes postmaster.pid if the process it names does not serve this folder: Postgres would believe it.

        Raises LocalError when it is. Without /proc the file is left to Postgres.
        """
        lock = self.data_dir / "postmaster.pid"
        if not lock.is_file() or not Path("/proc/self").exists():
            return
        pid = lock.read_text().partition("\n")[0].strip()
        if served_folder(pid) == self.data_dir.resolve():
            raise LocalError(f"Another Postgres (process {pid}) serves {self.data_dir}. End it first.")
        lock.unlink()


def prepare_cluster(data_dir: Path, *, fsync: bool = True) -> Cluster:
    """The cluster in `data_dir`, made when missing. The servers' account must be able to reach the folder above it.

    1. A folder beside it gets the cluster (initdb) and the role, with a random password kept in a file inside.
    2. The database is made by a server in single-user mode.
    3. The folder is renamed to `data_dir`: an interrupted attempt leaves nothing that looks finished.

    Raises LocalError when a step fails or the data was written by another version of Postgres.
    """
    account = servers_account()
    programs = postgres_programs(data_dir.parent, account)
    if not data_dir.is_dir():
        _make_cluster(data_dir, programs, account, fsync)
    _check_version(data_dir, programs)
    cluster = Cluster(data_dir, programs, account, fsync)
    cluster.clear_stale_lock()
    return cluster


def start_postgres(data_dir: Path, socket_dir: Path, *, fsync: bool = True) -> PostgresServer:
    """A Postgres on `data_dir` (made when missing), ready for connections on a socket in `socket_dir`.

    It ends with this process, however that ends. Raises LocalError saying what to do.
    """
    cluster = prepare_cluster(data_dir, fsync=fsync)
    started = process.start(
        "Postgres",
        cluster.command(socket_dir),
        folder=data_dir,
        account=cluster.account,
        death=DEATH_SIGNAL,
        stop=STOP_SIGNAL,
    )
    server = PostgresServer(**vars(started), url=cluster.url(socket_dir), data_dir=data_dir, socket_dir=socket_dir)
    server.wait_until(lambda: answers(server.url))
    return server


def answers(url: str) -> bool:
    """Whether the database takes connections."""
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def _make_cluster(data_dir: Path, programs: Path, account: Account | None, fsync: bool) -> None:
    aside = data_dir.with_name(f"{data_dir.name}.new")
    shutil.rmtree(aside, ignore_errors=True)
    make_folder(aside, mode=0o700, account=account)
    password_file = data_dir.with_name(f"{data_dir.name}.password")
    password_file.unlink(missing_ok=True)
    password_file.touch(mode=0o600)
    give(password_file, account)
    password_file.write_text(secrets.token_urlsafe(24))
    cluster = Cluster(aside, programs, account, fsync)
    initdb = [str(programs / "initdb"), "-D", str(aside), f"--username={NAME}", f"--pwfile={password_file}"]
    locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    cluster.run([*initdb, "--auth=scram-sha-256", *locale, *([] if fsync else ["--no-sync"])])
    single = [str(programs / "postgres"), "--single", "-D", str(aside), "-c", "exit_on_error=on", "postgres"]
    cluster.run(single, stdin=f"CREATE DATABASE {NAME}\n")
    password_file.rename(aside / PASSWORD_FILE)
    aside.rename(data_dir)


def _check_version(data_dir: Path, programs: Path) -> None:
    written_by = (data_dir / "PG_VERSION").read_text().strip()
    version = subprocess.run([programs / "postgres", "-V"], capture_output=True, text=True, check=True, cwd="/").stdout  # noqa: S603
    if f" {written_by}." not in version:
        raise LocalError(
            f"The data in {data_dir} is of PostgreSQL {written_by}, but the program here is {version.strip()}. "
            f"Install the older requirements/local.txt, dump the database (pg_dump), move the folder away, "
            f"and restore into a new one."
        )
