"""The shape of what a doctor's check finds, and what it is told before it looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from django.db.models import Model, QuerySet

# Mends one finding. True where it is mended, also where somebody else was faster; False where it is left to a person.
# May raise what the storage, the database or a model raises: the finding is then left, with those words. Safe to run
# twice, and beside workers, uploads and another doctor.
Mend = Callable[[], bool]
Progress = Callable[[str, int, int], None]  # a step, how many rows or files of it are done, of how many (0: unknown)

M = TypeVar("M", bound=Model)
PAGE = 1000  # rows or names that are held at once


class CannotLook(Exception):
    """Something could not be examined at all: nothing is known of it. The words say what to do."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A kind of finding: a stable ``code``, what it means, what a person does, what --fix does ("": nothing)."""

    code: str
    what: str
    remedy: str
    repair: str = ""

    def of(self, subject: str, what: str, mend: Mend | None = None, remedy: str = "") -> Finding:
        return Finding(self, subject, what, remedy or self.remedy, mend)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. ``subject``: the key, file or folder that it is about. ``mend`` is None where only a
    person can do something about it: ``remedy``."""

    problem: Problem
    subject: str
    what: str
    remedy: str
    mend: Mend | None = None

    @property
    def code(self) -> str:
        return self.problem.code

    @property
    def fixable(self) -> bool:
        return self.mend is not None


def unwatched(step: str, done: int, total: int) -> None:
    """The Progress of a look that nobody is watching."""


@dataclass(frozen=True, slots=True)
class Looking:
    """How to look. ``deep``: read every original, vector and index file. ``deletes_strays``: whoever asked wants
    originals that no image has to be deleted, not only to hear of them."""

    deep: bool = False
    deletes_strays: bool = False
    progress: Progress = unwatched


@dataclass(frozen=True, slots=True)
class Check:
    """One look at everything of a kind. ``find`` holds a page of rows or names at a time, and changes nothing.

    It may raise CannotLook, OSError, a database's error or whatever a storage raises: then what it was to examine is
    unknown, and the other checks go on.
    """

    about: str
    problems: tuple[Problem, ...]
    find: Callable[[Looking], Iterator[Finding]]


def pages(rows: QuerySet[M], step: str, looking: Looking) -> Iterator[Sequence[M]]:
    """The rows by primary key, PAGE at a time, each a query of its own; rows may come and go meanwhile."""
    total, done = rows.count(), 0
    page = list(rows.order_by("pk")[:PAGE])
    while page:
        yield page
        done += len(page)
        looking.progress(step, done, max(done, total))
        page = list(rows.filter(pk__gt=page[-1].pk).order_by("pk")[:PAGE])
