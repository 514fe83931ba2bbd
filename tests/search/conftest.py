from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_django import Settings

from tests.library_fixtures import fakes, media, registered, shop

__all__ = ["fakes", "media", "registered", "shop"]


@pytest.fixture
def take_redis_away(settings: Settings) -> Callable[[], None]:
    """From the call to the end of the test nobody listens where Redis should be."""

    def take_away() -> None:
        settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": "redis://127.0.0.1:1/0"}}

    return take_away


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB where mounting is allowed, else a plain folder."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    yield disk
    if mounted:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)  # a reader may have it mapped
