"""Every run has servers and folders of its own: a Postgres, a Redis, and a var/ in a temporary folder.

They are started here, at import, because Django's settings need their addresses and are loaded right after; so nothing
of a run ever touches the checkout's var/.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import django
import pytest

from tests.stack import Stack, new_stack
from visearch_site.local.servers import Servers, local_servers

RUN_DIR = Path(tempfile.mkdtemp(prefix="visearch-test-"))
_at_exit = ExitStack()
atexit.register(_at_exit.close)
_at_exit.callback(shutil.rmtree, RUN_DIR, ignore_errors=True)


def _start_servers() -> Servers:
    folder = RUN_DIR / "servers"
    folder.mkdir()
    return _at_exit.enter_context(local_servers(folder, fsync=False))


SERVERS = _start_servers()
ENVIRONMENT = {
    "DJANGO_SETTINGS_MODULE": "visearch_site.settings",
    "SECRET_KEY": "only for tests, and long enough for all that look at its length: 0123456789",
    "DATABASE_URL": SERVERS.database_url,
    "REDIS_URL": SERVERS.redis_url,
    "VISEARCH_VAR": str(RUN_DIR / "var"),
    "VISEARCH_HTTPS": "0",
}
os.environ.update(ENVIRONMENT)
django.setup()  # pytest-django looked for settings before this file was read, and found none


ASK_FOR_PROCESS_ID = """
import os
from visearch_site.celery import process_id
print(os.getpid(), process_id.delay().get(timeout=60))
"""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """The two processes of a run read this file, too, and start servers of their own: they load no settings before."""
    for name in ENVIRONMENT:
        del os.environ[name]


def pytest_collection_finish() -> None:
    """Refuse to run where a test could pass against stand-ins."""
    from django.conf import settings
    from django.db import connection

    if getattr(settings, "CELERY_TASK_ALWAYS_EAGER", False):
        raise pytest.UsageError("Celery is eager: tasks would run in the test's own process.")
    if connection.vendor != "postgresql":
        raise pytest.UsageError(f"The database is {connection.vendor}, not Postgres.")


@pytest.fixture(scope="session")
def running_stack() -> Iterator[Stack]:
    """Web, worker and servers, proved to be processes of their own."""
    with new_stack(SERVERS, RUN_DIR, "stack") as stack:
        stack.manage("migrate")
        stack.manage("models", "build")
        stack.start("worker")
        stack.start_web()
        asked = stack.manage("shell", "-c", ASK_FOR_PROCESS_ID).stdout.split()[-2:]
        assert len({*asked, str(os.getpid())}) == 3, (
            "a task runs in the process that asked for it, or in that of the tests"
        )
        yield stack


@pytest.fixture(scope="session")
def django_db_modify_db_settings_xdist_suffix() -> None:
    """No suffix for the database's name: each process of a run in two has a Postgres of its own."""


@pytest.fixture(scope="session")
def servers() -> Servers:
    return SERVERS


@pytest.fixture(scope="session")
def run_dir() -> Path:
    """The folder of this run, removed at its end."""
    return RUN_DIR


@pytest.fixture
def stack(running_stack: Stack) -> Iterator[Stack]:
    """The running stack. A test that killed something gets it back for the next one."""
    running = running_stack
    yield running
    for name, start in (("worker", running.start), ("web", lambda _: running.start_web())):
        if name not in running.processes:
            start(name)
    if "beat" in running.processes:
        running.kill("beat")
