"""What a local start runs besides the servers: the programs of the site, and the steps before and after they serve."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from catalog.vision.cores import usable_cores
from visearch_site.local.errors import LocalError
from visearch_site.local.places import BASE_DIR
from visearch_site.local.supervision import APP, Program

MANAGE = (sys.executable, str(BASE_DIR / "manage.py"))
OWN_FOLDER_OPTIONS = ("--pipelines", "face,image")
MAX_PORT = 65535


@dataclass(frozen=True)
class Load:
    """Images to put in once the site serves, by a command. With `once`, a later start does not run it again."""

    title: str
    command: list[str]
    once: bool


@dataclass(frozen=True)
class Site:
    """The address, the programs that supervisord keeps running (the one that answers there first), and the commands."""

    host: str
    port: int
    programs: list[Program]
    prepare: list[str]
    loads: list[Load]
    folder: Path = BASE_DIR  # where the commands run

    @property
    def address(self) -> str:
        """Where this machine reaches the site, without a slash at the end."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def django_site(*, samples: bool) -> Site:
    """visearch itself, with HOST, PORT, PICTURES and VISEARCH_WORKER_PROCESSES of the environment.

    Raises LocalError for bad values.
    """
    host = os.environ.get("HOST") or "127.0.0.1"
    port = _number("PORT", 8000, maximum=MAX_PORT)
    folder = os.environ.get("PICTURES")
    own = [_own_images(Path(folder))] if folder else []
    # The digits take minutes, so they come last; all others are there within the first minute.
    loads = [_sample("leaders"), _sample("objects"), *own, _sample("digits")] if samples else own
    prepare = [sys.executable, "-m", "visearch_site.local.prepare"]
    return Site(host, port, [_web(host, port), _worker(), _intake(), _beat()], prepare, loads)


def _web(host: str, port: int) -> Program:
    bind = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return _python(
        *("web", "gunicorn", "visearch_site.wsgi", "--bind", bind, "--workers", "1", "--threads", "8", "-k", "gthread"),
        *("--graceful-timeout", "3", "--no-control-socket", "--access-logfile", "-"),
    )


def _worker() -> Program:
    processes = _number("VISEARCH_WORKER_PROCESSES", usable_cores(), maximum=1024)
    return _celery_worker("worker", "-Q", "vision,index", f"--concurrency={processes}")


def _intake() -> Program:
    """Fetches addresses in one small process, so that slow servers never keep images waiting."""
    return _celery_worker("intake", "-n", "intake@%h", "-Q", "intake", "--concurrency=1")


def _celery_worker(name: str, *options: str) -> Program:
    return _python(
        *(name, "celery", "-A", "visearch_site", "worker", *options),
        *("--loglevel", "INFO", "--without-gossip", "--without-mingle"),
    )


def _beat() -> Program:
    return _python("beat", "celery", "-A", "visearch_site", "beat", "--loglevel", "INFO")


def _python(name: str, *module: str) -> Program:
    return Program(name, APP, [sys.executable, "-m", *module], BASE_DIR)


def _sample(key: str) -> Load:
    return Load(f"the sample {key}", [*MANAGE, "load_samples", key], once=True)


def _own_images(folder: Path) -> Load:
    folder = folder.expanduser().resolve()
    if not folder.name:
        raise LocalError(f"PICTURES={folder} has no name that its collection could get. Name a folder below it.")
    if not folder.is_dir():
        raise LocalError(f"There is no folder {folder}, so it cannot be loaded. Name an existing folder of images.")
    command = [*MANAGE, "import_folder", str(folder), "--collection", folder.name, *OWN_FOLDER_OPTIONS]
    return Load(f"the images of {folder}", command, once=False)


def _number(name: str, default: int, *, maximum: int) -> int:
    text = os.environ.get(name) or str(default)
    if text.isdecimal() and 1 <= int(text) <= maximum:
        return int(text)
    raise LocalError(f"{name}={text!r} is not a number from 1 to {maximum}.")
