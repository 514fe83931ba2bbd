"""What an engine's options may be, and their checking: every engine refuses the same mistakes in the same words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


class Option(Protocol):
    """One option: what it is when not given, and which values it takes."""

    @property
    def default(self) -> Any: ...

    @property
    def allowed(self) -> str:
        """In words, to follow "... is"."""
        ...

    def allows(self, value: object) -> bool: ...


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from ``low`` to ``high``."""

    default: int
    low: int
    high: int

    @property
    def allowed(self) -> str:
        return f"a whole number from {self.low} to {self.high}"

    def allows(self, value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Number:
    """A floating point number from ``low`` to ``high``."""

    default: float
    low: float
    high: float

    @property
    def allowed(self) -> str:
        return f"a number from {self.low} to {self.high}"

    def allows(self, value: object) -> bool:
        return isinstance(value, float) and self.low <= value <= self.high


TARGET_RECALL = Number(0.98, 0.5, 0.999)  # recall@10 against exact search, which a build tunes the search width to


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words; the first is the default."""

    words: tuple[str, ...]

    @property
    def default(self) -> str:
        return self.words[0]

    @property
    def allowed(self) -> str:
        return " or ".join(repr(word) for word in self.words)

    def allows(self, value: object) -> bool:
        return value in self.words


def checked_options(known: Mapping[str, Option], given: Mapping[str, Any]) -> dict[str, Any]:
    """``given`` with defaults filled in. Raises ValueError for an unknown option or a value that is not allowed."""
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ValueError(f"unknown option {', '.join(unknown)}; there are {', '.join(known)}")
    filled = {name: given.get(name, option.default) for name, option in known.items()}
    for name, option in known.items():
        if not option.allows(filled[name]):
            raise ValueError(f"{name} is {option.allowed}, not {filled[name]!r}")
    return filled
