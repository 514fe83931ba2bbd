"""Models that operators bring: a TOML file (VISEARCH_MODELS_FILE) whose entries join those of settings.py.

Each table has the form of the setting of its name, so `[embedders.NAME]` is one entry of VISEARCH_EMBEDDERS. An entry
whose name is there already takes its place as a whole.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

SETTING = "VISEARCH_MODELS_FILE"
TABLES = ("detectors", "embedders", "pipelines", "indexes")

Entries = dict[str, dict[str, Any]]


def read_models_file(path: str) -> dict[str, Entries]:
    """The tables of TABLES, each with its entries, {} for those that the file lacks, and for no path at all.

    What an entry says is checked where those of settings.py are: `manage.py check`, catalog.E001 and search.E002.
    Raises ImproperlyConfigured naming the file, for one that cannot be read, is no TOML, or has other tables.
    """
    if not path:
        return {name: {} for name in TABLES}
    try:
        content = tomllib.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise ImproperlyConfigured(f"{SETTING}: {path} cannot be read ({reason}).") from error
    except tomllib.TOMLDecodeError as error:
        raise ImproperlyConfigured(f"{SETTING}: {path} is not TOML: {error}.") from error
    for name, entries in content.items():
        if name not in TABLES:
            raise ImproperlyConfigured(f"{SETTING}: {path} may have the tables {', '.join(TABLES)}, not {name!r}.")
        if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
            raise ImproperlyConfigured(f"{SETTING}: in {path} write [{name}.NAME] above what belongs to one entry.")
    return {name: content.get(name, {}) for name in TABLES}
