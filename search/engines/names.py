"""How generations are called, and the line that says which one is published."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAME = re.compile(r"(\d{8,})-[0-9a-f]{8}")
POINTER_LINE = re.compile(rf"({_NAME.pattern}) ([0-9a-f]{{64}})\n")


@dataclass(frozen=True, slots=True)
class Published:
    """What a pointer says: a generation and the sha256 of its manifest."""

    name: str
    manifest_sha256: str

    def line(self) -> bytes:
        return f"{self.name} {self.manifest_sha256}\n".encode()


def is_generation(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def number_of(name: str) -> int:
    """Numbers decide which of two generations is newer; no clock does."""
    return int(name.partition("-")[0])
