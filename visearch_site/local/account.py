"""The account that our own Postgres and Redis run under: ourselves, or as root, whom Postgres refuses, another."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from visearch_site.local.errors import LocalError

ACCOUNT_NAME = "visearch"
FALLBACK_NAME = "nobody"


@dataclass(frozen=True)
class Account:
    """A system user that is not root."""

    name: str
    uid: int
    gid: int

    def can_reach(self, path: Path) -> bool:
        """Whether this user may enter the folder (or run the file) `path`, asked of the system by trying it."""
        probe = ["/bin/sh", "-c", 'test -r "$1" && test -x "$1"', "sh", str(path)]
        tried = subprocess.run(  # noqa: S603
            probe, check=False, cwd="/", user=self.uid, group=self.gid, extra_groups=[]
        )
        return tried.returncode == 0


def servers_account() -> Account | None:
    """Who the servers run as: None for ourselves; as root the user `visearch`, made when missing, else `nobody`.

    Raises LocalError when root has neither.
    """
    if os.geteuid() != 0:
        return None
    for name in (ACCOUNT_NAME, FALLBACK_NAME):
        account = _find(name) or (_create(name) if name == ACCOUNT_NAME else None)
        if account is not None:
            return account
    raise LocalError(
        f"Postgres refuses to run as root, and there is no unprivileged user for it. "
        f"Make one (useradd --system {ACCOUNT_NAME}), or run this as an ordinary user."
    )


def _find(name: str) -> Account | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(name, entry.pw_uid, entry.pw_gid)


def _create(name: str) -> Account | None:
    useradd = shutil.which("useradd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if useradd is None:
        return None
    shape = ["--system", "--user-group", "--no-create-home", "--home-dir", "/", "--shell", "/bin/false"]
    made = subprocess.run([useradd, *shape, name], check=False, capture_output=True)  # noqa: S603
    return _find(name) if made.returncode == 0 else None
