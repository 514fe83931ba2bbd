"""Small files that survive a crash: written aside, flushed to the disk and renamed."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any


def write_private(path: Path, text: str) -> None:
    """Replaces `path` by a file with this text that only its owner may read (0600)."""
    descriptor, aside = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    Path(aside).replace(path)


class State:
    """What one start leaves for the next: a JSON object in a file. An unreadable one counts as empty."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Any]:
        try:
            values = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
        return values if isinstance(values, dict) else {}

    def get(self, name: str) -> str | None:
        value = self.read().get(name)
        return value if isinstance(value, str) else None

    def put(self, name: str, value: str) -> None:
        write_private(self.path, json.dumps({**self.read(), name: value}, indent=1))

    def folder(self, name: str) -> Path | None:
        value = self.get(name)
        return None if value is None else Path(value)
