"""What a benchmark runs on when it needs a site of its own: a folder, and this process set up with servers in it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from visearch_site.local.servers import local_servers


@contextmanager
def own_folder() -> Iterator[Path]:
    """A temporary folder that servers under another account can reach."""
    with tempfile.TemporaryDirectory(prefix="visearch-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@contextmanager
def own_site(folder: Path) -> Iterator[None]:
    """Django in this process, with an empty database and files below ``folder``; once in a process."""
    with local_servers(folder) as servers:
        os.environ.update(
            DJANGO_SETTINGS_MODULE="visearch_site.settings",
            SECRET_KEY="benchmark",
            DATABASE_URL=servers.database_url,
            REDIS_URL=servers.redis_url,
            VISEARCH_VAR=str(folder / "var"),
            LOG_LEVEL="WARNING",  # figures stand in tables; what is logged of each image would bury them
        )
        import django

        django.setup()
        from django.core.management import call_command
        from django.db import connections

        call_command("migrate", verbosity=0)
        try:
            yield
        finally:
            connections.close_all()  # before their server ends
