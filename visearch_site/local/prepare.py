"""What must be done before the site serves: migrate, the first staff account, static files, models. Repeats nothing.

Run as a process of its own (`python -m visearch_site.local.prepare`), since it is the only part of this package that
loads Django. Short lines for the person go to stdout, what the commands say to stderr.
"""

from __future__ import annotations

import hashlib
import secrets
import sys
from pathlib import Path

import django
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.staticfiles.finders import get_finders
from django.core.management import CommandError, call_command

from visearch_site.local.terminal import say

FIRST_ACCOUNT = "admin"
REBUILD = ".venv/bin/python manage.py models build"


def main() -> None:
    django.setup()
    say("Preparing the database ...")
    call_command("migrate", interactive=False, stdout=sys.stderr)
    make_first_account()
    collect_static(settings.VAR_DIR / "local" / "static.sha256")
    say("Preparing the models (the first time they are built) ...")
    build_models()


def build_models() -> None:
    """What cannot be built keeps its pipelines waiting, not the site from starting."""
    try:
        call_command("models", "build", stdout=sys.stderr)
    except CommandError as error:
        say(f"{error}\n  What needs it waits, everything else works. Then run `{REBUILD}`.")


def make_first_account() -> None:
    """A superuser with a random password, shown this once, when there is no superuser yet."""
    users = get_user_model()._default_manager
    if users.filter(is_superuser=True).exists():
        return
    password = secrets.token_urlsafe(12)
    users.create_superuser(FIRST_ACCOUNT, email="", password=password)
    say(f"\n  Staff account, shown this once: {FIRST_ACCOUNT} / {password}\n")


def collect_static(stamp: Path) -> None:
    """collectstatic, unless the sources are those of the last time, whose fingerprint is in `stamp`."""
    fingerprint = static_fingerprint()
    collected = Path(settings.STATIC_ROOT, "staticfiles.json").is_file()
    if collected and stamp.is_file() and stamp.read_text() == fingerprint:
        return
    say("Collecting static files ...")
    stamp.unlink(missing_ok=True)
    call_command("collectstatic", interactive=False, stdout=sys.stderr)
    stamp.write_text(fingerprint)


def static_fingerprint() -> str:
    """A hash over path, size and time of every static file that the site's packages offer."""
    digest = hashlib.sha256()
    for finder in get_finders():
        for path, storage in finder.list([]):
            status = Path(storage.path(path)).stat()
            digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
