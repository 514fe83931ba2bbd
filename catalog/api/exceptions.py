"""What the API says no to beside what the catalogue itself does."""

from __future__ import annotations

from collections.abc import Mapping


class NotStored(Exception):
    """An upload was refused. ``code`` and the sentence are the line's; ``line`` is the line as the API shows it."""

    def __init__(self, code: str, reason: str, line: Mapping[str, object]) -> None:
        super().__init__(reason)
        self.code = code
        self.line = line
