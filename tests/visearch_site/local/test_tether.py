"""Programs die with their parent, whatever it died of."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.visearch_site.local.installation import PROJECT, eventually
from visearch_site.local import tether
from visearch_site.local.account import servers_account
from visearch_site.local.process import tether_account

SLEEPING_PARENT = """
import os, subprocess, sys
from visearch_site.local import tether
command = [sys.executable, "-c", "import time; time.sleep(600)"]
print(subprocess.Popen(tether.command_line(command, parent=os.getpid())).pid, flush=True)
os.wait()
"""


def run(command: list[str], **more: str) -> tuple[subprocess.Popen[str], str]:
    child = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, **more}, cwd="/", text=True)
    return child, child.communicate()[0]


def test_the_command_keeps_the_process_id_and_its_status_is_passed_on() -> None:
    command = [sys.executable, "-c", "import os, sys; print(os.getpid()); sys.exit(7)"]
    child, said = run(tether.command_line(command, parent=os.getpid()))
    assert (int(said), child.returncode) == (child.pid, 7)


@pytest.mark.parametrize("started", [False, True], ids=["while starting", "while running"])
def test_the_command_dies_with_a_killed_parent(started: bool) -> None:
    parent = subprocess.Popen([sys.executable, "-c", SLEEPING_PARENT], cwd=PROJECT, stdout=subprocess.PIPE)
    child = psutil.Process(int(parent.stdout.readline()))
    if started:
        eventually(lambda: child.cmdline()[1:2] == ["-c"])
    parent.kill()
    parent.communicate()
    child.wait(timeout=30)


def test_a_command_whose_parent_is_gone_never_runs(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    child, _ = run(tether.command_line(["/bin/touch", str(trace)], parent=1))
    assert child.returncode != 0
    assert not trace.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the servers under another account")
def test_the_account_gets_neither_groups_nor_secrets() -> None:
    account = servers_account()
    command = ["/bin/sh", "-c", 'id -u; id -G; echo "[$SECRET_KEY]"']
    _, said = run(
        tether.command_line(command, parent=os.getpid(), account=tether_account(account)), SECRET_KEY="s3cret"
    )
    assert said.split() == [str(account.uid), str(account.gid), "[]"]
