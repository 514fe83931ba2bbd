"""Damaging what is published, as its read-only files are not by mistake."""

from __future__ import annotations

from pathlib import Path


def alter(path: Path, content: bytes) -> None:
    """Other bytes in the very same file."""
    path.chmod(0o644)
    path.write_bytes(content)


def flip_last_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    alter(path, content)
