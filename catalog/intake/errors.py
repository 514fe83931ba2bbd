"""What jobs and lists can say no to. The words say what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from catalog.exceptions import CatalogError

MOST_NAMED = 100  # problems of a list that are kept with their words; the others are counted


class JobError(CatalogError):
    """This cannot be done with the job as it is."""

    code = "job-error"


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a line of a list, or worth knowing of it; ``number`` counts from 1 (0: the list itself)."""

    number: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.number}: {self.reason}" if self.number else self.reason


class ListRefused(CatalogError):
    """A list that nothing was stored of. ``problems``: the first MOST_NAMED of ``count``, in the order of the lines."""

    code = "list-refused"

    def __init__(self, problems: Sequence[Problem], count: int | None = None) -> None:
        self.problems = list(problems[:MOST_NAMED])
        self.count = len(problems) if count is None else count
        said = [str(problem) for problem in self.problems] + ([f"and {self.more} more"] if self.more else [])
        super().__init__("\n".join(said))

    @property
    def more(self) -> int:
        """How many are counted alone."""
        return self.count - len(self.problems)
