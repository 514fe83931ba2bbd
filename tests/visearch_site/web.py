"""The web server alone, in a process of its own: for what happens when its servers are away, and to large bodies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.db import connection

from tests.stack import Stack


@contextmanager
def web_server(folder: Path, **env: str) -> Iterator[Stack]:
    """gunicorn on the database of the tests, its environment changed by ``env``; its log is in ``folder``."""
    database = os.environ["DATABASE_URL"].replace("/visearch?", f"/{connection.settings_dict['NAME']}?")
    server = Stack(env={**os.environ, "DATABASE_URL": database, **env}, database_url=database, logs=folder)
    try:
        server.start_web()
        yield server
    finally:
        server.stop()
