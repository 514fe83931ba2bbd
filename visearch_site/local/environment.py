"""VAR/local/env: the settings that a local start makes up, for itself and for commands in other terminals."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

from visearch_site.local.files import write_private

HEADER = "# Written by `make up` and read by visearch_site/settings.py. The real environment wins over it.\n"
DEFAULT_HOSTS = ("localhost", "127.0.0.1", "[::1]")


def read_env(path: Path) -> dict[str, str]:
    """The values of an env file as `write_env` writes them; none when there is no file."""
    if not path.is_file():
        return {}
    lines = (line.partition("=") for line in path.read_text().splitlines() if not line.startswith("#"))
    return {name: value for name, separator, value in lines if separator}


def write_env(path: Path, real: Mapping[str, str], *, host: str, own: Mapping[str, str]) -> dict[str, str]:
    """Writes the env file (0600) and returns the whole environment for the site's processes.

    `own` are the addresses of our own servers. SECRET_KEY is kept from the file before. A variable that is set and not
    empty in the `real` environment is not written, but for SECRET_KEY, which stays for a start without it.
    """
    real = {name: value for name, value in real.items() if value}
    secret_key = read_env(path).get("SECRET_KEY") or secrets.token_urlsafe(50)
    hosts = dict.fromkeys([*DEFAULT_HOSTS, host])
    made_up = {"VISEARCH_HTTPS": "0", "ALLOWED_HOSTS": ",".join(hosts), **own}
    values = {"SECRET_KEY": secret_key, **{name: value for name, value in made_up.items() if name not in real}}
    write_private(path, HEADER + "".join(f"{name}={value}\n" for name, value in values.items()))
    return {"DJANGO_SETTINGS_MODULE": "visearch_site.settings", **values, **real}
