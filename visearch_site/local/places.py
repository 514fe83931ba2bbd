"""Where things lie: the project's own folder for local servers, and short folders for sockets."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

from visearch_site.local.account import Account
from visearch_site.local.errors import LocalError

BASE_DIR = Path(__file__).resolve().parents[2]
SYSTEM_HOME = Path("/var/lib/visearch")
# sockaddr_un.sun_path holds 108 bytes on Linux and 104 on macOS; the longest name we put into the folder has 18.
SOCKET_FOLDER_BYTES = 80


def var_dir() -> Path:
    """The folder of everything the site writes: VISEARCH_VAR, else var/ of the project (as settings.py says)."""
    return Path(os.environ.get("VISEARCH_VAR") or BASE_DIR / "var").resolve()


def make_folder(path: Path, *, mode: int = 0o755, account: Account | None = None) -> Path:
    """Makes `path` and its parents; a new one gets `mode` and the account as owner.

    Raises LocalError saying what to do.
    """
    if path.is_dir():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=mode)
        give(path, account)
    except OSError as error:
        raise LocalError(
            f"Cannot make the folder {path}: {error.strerror}. "
            f"Make it writable for this user, or name another place with VISEARCH_VAR=folder."
        ) from error
    return path


def give(path: Path, account: Account | None) -> None:
    if account is not None:
        os.chown(path, account.uid, account.gid)


def servers_home(local: Path, account: Account | None) -> Path:
    """The folder for the servers' data and, when needed, copies of their programs; made when missing.

    It is inside `local`, a folder of the project, if the servers' account can reach it there, else a folder under
    /var/lib/visearch named by a hash of the path of `local`.
    """
    make_folder(local)
    if account is None or account.can_reach(local):
        return make_folder(local / "servers", mode=0o700, account=account)
    home = SYSTEM_HOME / hashlib.sha256(os.fsencode(local)).hexdigest()[:12]
    make_folder(home, mode=0o700, account=account)
    if not account.can_reach(home):
        raise LocalError(
            f"The user {account.name}, under which Postgres runs here, can reach neither {local} nor {home}. "
            f"Name a folder that it can reach with VISEARCH_VAR=folder."
        )
    return home


def socket_folder(account: Account | None, remembered: Path | None = None) -> Path:
    """A short folder, 0700 and owned by the servers' account: `remembered` if it still is one, else a new one."""
    if remembered is not None and _is_private(remembered, account):
        return remembered
    for parent in dict.fromkeys([tempfile.gettempdir(), "/tmp", "/var/tmp"]):  # noqa: S108
        if len(os.fsencode(parent)) > SOCKET_FOLDER_BYTES or not Path(parent).is_dir():
            continue
        if account is None or account.can_reach(Path(parent)):
            folder = Path(tempfile.mkdtemp(prefix="visearch-", dir=parent))
            give(folder, account)
            return folder
    raise LocalError(
        "No folder for sockets: neither TMPDIR nor /tmp nor /var/tmp can be used. Set TMPDIR to a short path."
    )


def _is_private(folder: Path, account: Account | None) -> bool:
    try:
        status = folder.lstat()
    except OSError:
        return False
    owner = os.geteuid() if account is None else account.uid
    return stat.S_ISDIR(status.st_mode) and status.st_uid == owner and stat.S_IMODE(status.st_mode) == 0o700


def copied_once(sources: dict[str, Path], target: Path) -> Path:
    """The folder `target` with a copy of each source (a file or folder) at its relative path, readable for every user.

    Made aside and renamed, so that half a copy is never used; a `target` that exists is taken as it is.
    """
    if target.is_dir():
        return target
    aside = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=target.parent))
    for relative, source in sources.items():
        destination = aside / relative
        destination.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, destination, symlinks=True)
        else:
            shutil.copy2(source, destination)
    _open_for_reading(aside)
    aside.rename(target)
    return target


def _open_for_reading(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode | 0o444 | (0o111 if mode & 0o100 else 0))
