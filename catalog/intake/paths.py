"""Paths as text that Postgres takes, and back: a name on disk is bytes, and need not be UTF-8."""

from __future__ import annotations

import os
import re
from pathlib import Path

_ESCAPED = re.compile(rb"\\(?:\\|x([0-9a-f]{2}))")


def text_of_path(path: Path) -> str:
    r"""The path, with ``\\`` for a backslash and ``\xe9`` for a byte that is no UTF-8."""
    return os.fsencode(path).replace(b"\\", b"\\\\").decode(errors="backslashreplace")


def path_of_text(text: str) -> Path:
    """What `text_of_path` was given."""
    raw = _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()) if found[1] else b"\\", text.encode())
    return Path(os.fsdecode(raw))
