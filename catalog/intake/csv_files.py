"""CSV files: an image a row, with what is known of it. Everything wrong is named before anything is stored."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from uuid import UUID, uuid5

from django.contrib.auth.models import User
from django.db import transaction

from catalog.curation.errors import NAME_TAKEN
from catalog.curation.people import names_taken
from catalog.intake import jobs
from catalog.intake.csv_rows import COLUMNS, BadRow, Reading, Row
from catalog.intake.errors import MOST_NAMED, ListRefused, Problem
from catalog.intake.here import with_images
from catalog.intake.jobs import PlannedLine
from catalog.intake.places import is_same_place, this_host
from catalog.intake.texts import text_of
from catalog.models import Collection, IntakeJob
from catalog.querysets import CollectionQuerySet

MOST_ROWS = 100_000
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}


@dataclass(frozen=True, slots=True)
class CsvPlan:
    """A file that can be taken in. ``places``: of the rows that are planned, by collection, in their order.

    ``repeated``: what stands in the file more than once for a collection, left out but for the first time.
    """

    name: str
    text: str
    reading: Reading
    places: Mapping[Collection, Sequence[_Place]]
    repeated: Sequence[Problem]
    digest: str

    @property
    def counts(self) -> dict[Collection, int]:
        """How many lines are planned, by collection."""
        return {collection: len(places) for collection, places in self.places.items()}


class _Place(NamedTuple):
    """Where a row stands: the line that it begins in, from 1, and its characters in the text."""

    number: int
    begin: int
    end: int


@dataclass(slots=True)
class _Examined:
    """What reading every row has found. ``first``: the place of a file or address in a collection; ``people``: lines
    by the name that is to be given to a face."""

    first: dict[Collection, dict[str, _Place]] = field(default_factory=lambda: defaultdict(dict))
    people: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    repeated: list[Problem] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    problem_count: int = 0

    def add(self, problem: Problem) -> None:
        self.problem_count += 1
        if len(self.problems) < MOST_NAMED:
            self.problems.append(problem)

    def keep(self, row: Row, place: _Place) -> None:
        earlier = self.first[row.collection].setdefault(row.key, place)
        if earlier != place:
            self.repeated.append(
                Problem(place.number, f"{row.planned.source} stands in line {earlier.number} already.")
            )
        if row.planned.person_name:
            self.people[row.planned.person_name].append(place.number)

    def check_people(self, user: User) -> None:
        """Of the first MOST_NAMED problems those of names come last; the others are counted."""
        for name in sorted(names_taken(self.people, user), key=lambda each: self.people[each]):
            for number in self.people[name]:
                self.add(Problem(number, f"person: {NAME_TAKEN}"))


def read(
    content: bytes | str,
    *,
    name: str,
    collections: CollectionQuerySet,
    default: Collection | None = None,
    folder: Path | None = None,
    root: Path | None = None,
    user: User | None = None,
) -> CsvPlan:
    """Check every row. Raises ListRefused with all that is wrong, by line.

    ``collections``: those that rows may name; ``default``: of rows that name none. ``folder``: where relative paths
    begin, None where rows may have no path (on the web); files outside it are refused, unless they lie in ``root``.
    ``user``: who gives it, and may name faces only as people whom they may see (`catalog.curation.people`); None is the
    operator, who may name anybody.
    """
    text = text_of(content)
    known = {collection.name: collection for collection in collections}
    reading = Reading(_header(text), known, default, folder and folder.resolve(), root and root.resolve())
    _check_header(reading)
    examined = _examine(text, reading)
    if user is not None:
        examined.check_people(user)
    if examined.problem_count:
        raise ListRefused(sorted(examined.problems, key=lambda each: each.number), examined.problem_count)
    place = str(reading.folder or "").encode(errors="surrogateescape")
    digest = hashlib.sha256(text.encode() + b"\0" + place).hexdigest()
    places = {collection: list(rows.values()) for collection, rows in examined.first.items()}
    return CsvPlan(name, text, reading, places, examined.repeated, digest)


@transaction.atomic
def start(
    plan: CsvPlan, *, normalise: str = "", user: User | None = None, job_id: UUID | None = None
) -> list[IntakeJob]:
    """A job for each collection that is named, or its unfinished job of the very same file, which goes on, and tries
    again what has failed (``tried_again`` lines; none where the very same form is sent twice).

    Rows with a path wait for `files.work` (of the command), those with an address for the workers. An address whose
    image the collection has is not fetched again. ``job_id``: as of `jobs.create`, where there is one collection; of
    more the ids are derived from it. Raises JobError, as `jobs.create`, and ListRefused where a file went since the
    rows were read.
    """
    begun: list[IntakeJob] = []
    for collection in sorted(plan.places, key=lambda each: each.pk):  # one order for all: each is locked
        mine = _job_id(plan, collection, job_id)
        job, is_new = jobs.begin_or_go_on(
            collection,
            IntakeJob.Source.CSV,
            lambda collection=collection: with_images(collection, _planned(plan, collection)),  # type: ignore[misc]
            digest=plan.digest,
            is_same=is_same_place,
            name=plan.name,
            normalise=normalise,
            begun_on=this_host() if plan.reading.folder else "",
            user=user,
            job_id=mine,
        )
        if not is_new and job.pk != mine:
            job.tried_again = jobs.take_up_again(job, user)
        begun.append(job)
    return begun


def _job_id(plan: CsvPlan, collection: Collection, job_id: UUID | None) -> UUID | None:
    return uuid5(job_id, str(collection.pk)) if job_id and len(plan.places) > 1 else job_id


def _planned(plan: CsvPlan, collection: Collection) -> Iterator[PlannedLine]:
    """Each row by itself, so that of many collections each reads its own."""
    for place in plan.places[collection]:
        [cells] = csv.reader(_lines(plan.text[place.begin : place.end]), delimiter=plan.reading.delimiter, strict=True)
        try:
            yield plan.reading.row(place.number, cells).planned
        except BadRow as error:
            raise ListRefused([Problem(place.number, reason) for reason in error.reasons]) from error


def _examine(text: str, reading: Reading) -> _Examined:
    examined = _Examined()
    rows = 0
    for place, cells in _rows(text, reading.delimiter):
        rows += 1
        if rows > MOST_ROWS:
            raise ListRefused([Problem(0, f"The file has more than {MOST_ROWS:,} rows. Divide it.")])
        try:
            row = reading.row(place.number, cells)
        except BadRow as error:
            for reason in error.reasons:
                examined.add(Problem(place.number, reason))
            continue
        examined.keep(row, place)
    if not rows:
        examined.add(Problem(0, "The file has no row below its header. Write one for each image."))
    return examined


# --- Text to cells ----------------------------------------------------------------------------------------------------


def _rows(text: str, delimiter: str) -> Iterator[tuple[_Place, list[str]]]:
    """The rows below the header, each with where it stands; empty ones are left out. Raises ListRefused."""
    lines = _lines(text)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    number, begin = 1, 0
    try:
        for cells in reader:
            end = lines.tell()
            if number > 1 and any(map(str.strip, cells)):
                yield _Place(number, begin, end), cells
            number, begin = reader.line_num + 1, end
    except csv.Error as error:
        reason = f"This row cannot be read ({error}). Close every quote that is opened; within a cell, write it twice."
        raise ListRefused([Problem(number, reason)]) from error


def _lines(text: str) -> io.StringIO:
    """As csv.reader wants them, each with its end."""
    return io.StringIO(text, newline="")


def _header(text: str) -> tuple[str, list[str]]:
    """Delimiter and names: of the delimiters the one that gives the most names which we know."""
    line = _lines(text).readline(10_000)
    found = {delimiter: _names(line, delimiter) for delimiter in DELIMITERS}
    delimiter = max(found, key=lambda each: len(set(found[each]) & set(COLUMNS)))
    return delimiter, found[delimiter]


def _names(line: str, delimiter: str) -> list[str]:
    cells = next(csv.reader([line], delimiter=delimiter), [])
    return [cell.strip().lower() for cell in cells]


def _check_header(reading: Reading) -> None:
    """Raises ListRefused for names that are unknown, missing or there twice."""
    names = reading.columns
    unknown = [name or "(no name)" for name in names if name not in COLUMNS]
    twice = sorted(name for name, count in Counter(names).items() if count > 1 and name in COLUMNS)
    problems = []
    if unknown:
        columns = "column" if len(unknown) == 1 else "columns"
        problems.append(f"Unknown {columns}: {', '.join(unknown)}. There are: {', '.join(COLUMNS)}.")
    if twice:
        problems.append(f"There more than once: {', '.join(twice)}.")
    if not {"path", "url"} & set(names):
        problems.append("There is no column path and none url: one of them has to say where the image is.")
    if "collection" not in names and reading.default is None:
        problems.append("There is no column collection, and no collection was chosen for all rows.")
    if problems:
        raise ListRefused([Problem(1, problem) for problem in problems])
