"""`make up` as its user sees it, with a small site in place of the real one: started, killed, ended, started again."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.visearch_site.local.installation import Installation, eventually
from visearch_site.local.account import servers_account
from visearch_site.local.environment import read_env
from visearch_site.local.errors import LocalError
from visearch_site.local.lock import only_one
from visearch_site.local.places import SYSTEM_HOME, servers_home
from visearch_site.local.servers import Servers


def gone(processes: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


# --- While it serves --------------------------------------------------------------------------------------------------


def test_it_says_where_it_serves(running: Installation) -> None:
    for page in ("/", "/api/docs/", "/admin/"):
        assert f"http://127.0.0.1:{running.port}{page}\n" in running.said()


def test_its_settings_are_readable_by_their_owner_alone(running: Installation) -> None:
    file = running.var / "local" / "env"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert set(read_env(file)) == {"SECRET_KEY", "DATABASE_URL", "REDIS_URL", "VISEARCH_HTTPS", "ALLOWED_HOSTS"}


def test_the_servers_are_not_in_the_network(running: Installation) -> None:
    ports = {connection.laddr.port for process in running.tree() for connection in process.net_connections(kind="inet")}
    assert ports == {running.port}


def test_a_second_start_beside_it_says_so_and_leaves_it_alone(running: Installation) -> None:
    before = running.tree()
    second = running.run()
    assert second.returncode == 0
    assert f"http://127.0.0.1:{running.port}/ (process {running.launcher.pid})" in second.stdout
    assert set(before) <= set(running.tree())


@pytest.mark.parametrize("words", ["small_site.py serve", "small_site.py wait", "redis-server", "bin/postgres"])
def test_what_is_killed_comes_back(running: Installation, words: str) -> None:
    victim = running.process(words)
    victim.kill()
    eventually(lambda: victim not in running.tree() and running.process(words))
    name = {"small_site.py serve": "web", "redis-server": "redis", "bin/postgres": "postgres"}.get(words, "")
    eventually(lambda: f"{name} died" in running.said())


def test_children_of_a_killed_program_end_too(running: Installation) -> None:
    web = running.process("small_site.py serve")
    children = eventually(web.children)
    web.kill()
    eventually(lambda: gone(children))


def test_rows_survive_a_killed_postgres(running: Installation) -> None:
    running.ask("CREATE TABLE kept AS SELECT 7 AS number")
    running.process("bin/postgres").kill()
    assert running.ask("SELECT number FROM kept") == [(7,)]


# --- Ending and starting again ----------------------------------------------------------------------------------------


def test_ctrl_c_ends_everything_and_nothing_else_and_the_next_start_repeats_nothing(used: Installation) -> None:
    used.start()
    eventually(lambda: "Loaded one folder" in used.said())
    home = servers_home(used.var / "local", servers_account())
    bystanders = [subprocess.Popen(["sleep", "600"], cwd=folder) for folder in (None, home, home / "postgres")]
    secret = read_env(used.var / "local" / "env")["SECRET_KEY"]
    tree = used.tree()
    assert used.interrupt() == 0
    assert gone(tree)
    assert [bystander.poll() for bystander in bystanders] == [None, None, None]
    assert not Path(read_env(used.var / "local" / "env")["DATABASE_URL"].partition("host=")[2]).exists()

    used.start()
    used.process("small_site.py wait").kill()
    eventually(lambda: "runs again" in used.said())
    assert "one folder" not in used.said()
    assert read_env(used.var / "local" / "env")["SECRET_KEY"] == secret
    assert [bystander.poll() for bystander in bystanders] == [None, None, None]
    for bystander in bystanders:
        bystander.kill()
        bystander.wait()


def test_the_whole_tree_killed_at_once_comes_up_whole(used: Installation) -> None:
    used.start()
    used.ask("CREATE TABLE kept AS SELECT 7 AS number")
    first = used.tree()
    used.kill()
    used.start()
    assert gone(first)
    assert used.ask("SELECT number FROM kept") == [(7,)]


def test_nothing_outlives_a_killed_launcher(used: Installation) -> None:
    used.start()
    tree = used.tree()
    used.launcher.kill()
    used.launcher.wait()
    used.start()  # at once: it waits for what is still ending
    assert gone(tree)


def test_a_killed_supervisor_ends_the_launcher_with_a_message(used: Installation) -> None:
    used.start()
    tree = used.tree()
    used.process("supervisor.supervisord").kill()
    assert used.launcher.wait(60) == 1
    assert "supervisord has ended" in used.said()
    assert gone(tree)


# --- What cannot be started -------------------------------------------------------------------------------------------


def test_a_port_in_use_is_said_before_anything_starts(installation: Installation) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", installation.port))
        other.listen()
        answer = installation.run()
    assert answer.returncode == 1
    assert f"PORT={installation.port + 1}" in answer.stderr
    assert not (installation.var / "local" / "servers" / "postgres").exists()


def test_a_folder_that_cannot_be_made_is_said(installation: Installation) -> None:
    installation.var.write_text("a file where the folder should be")
    answer = installation.run()
    assert answer.returncode == 1
    assert "VISEARCH_VAR" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_folder_that_may_not_be_written_is_said(folder: Path) -> None:
    folder.chmod(0o555)
    account = servers_account()
    os.seteuid(account.uid if account else os.geteuid())  # root may write everywhere
    try:
        with pytest.raises(LocalError, match=r"Permission denied.*VISEARCH_VAR"), only_one(folder / "lock", "here"):
            pass
    finally:
        os.seteuid(os.getuid())


def test_servers_of_ones_own_are_used_and_not_started(installation: Installation, servers: Servers) -> None:
    installation.start(DATABASE_URL=servers.database_url, REDIS_URL=servers.redis_url)
    assert installation.process("bin/postgres") is None
    assert installation.process("redis-server") is None
    assert not {"DATABASE_URL", "REDIS_URL"} & set(read_env(installation.var / "local" / "env"))
    installation.interrupt()
    psycopg.connect(servers.database_url).close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the servers under another account")
def test_data_lies_where_the_account_can_reach_it_and_no_mode_is_changed(installation: Installation) -> None:
    hidden = installation.var.parent
    hidden.chmod(0o700)
    home = servers_home(installation.var / "local", servers_account())
    try:
        installation.start()
        assert home.parent == SYSTEM_HOME
        assert str(home) in installation.said()
        assert (home / "postgres" / "PG_VERSION").is_file()
        assert stat.S_IMODE(home.stat().st_mode) == stat.S_IMODE(hidden.stat().st_mode) == 0o700
    finally:
        installation.end()
        shutil.rmtree(home)
