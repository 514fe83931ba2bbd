"""Importing a folder of image files: one job, one line for each file, nothing skipped silently."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from catalog.exceptions import ImageRefused
from catalog.models import Collection, Image, IntakeJob, IntakeLine
from catalog.uploads import Arrival, ImageFacts, clean, receive_in_batches, receive_many, refuse


@dataclass(frozen=True, slots=True)
class FolderImport:
    """What to import and what to make of the names of folders.

    ``label_from_folder``: the name of the folder a file lies in becomes its label. ``person_from_folder``: it becomes
    the person of its face, where exactly one face is found.
    """

    folder: Path
    collection: Collection
    label_from_folder: bool = False
    person_from_folder: bool = False


def files_in(folder: Path) -> list[Path]:
    """Every file below ``folder`` in the order of their names; hidden ones (.DS_Store, .git) are no part of it.

    What can only be refused is among them, so that it is not skipped silently: links, and folders that cannot be read.
    """
    closed: list[OSError] = []
    found: list[Path] = []
    for here, folders, names in os.walk(folder, onerror=closed.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = [name for name in folders if Path(here, name).is_symlink()]
        found += [Path(here, name) for name in [*names, *links] if not name.startswith(".")]
    return sorted([*found, *(Path(error.filename) for error in closed)])


def import_folder(plan: FolderImport, on_line: Callable[[IntakeLine], None]) -> IntakeJob:
    """Put every file of the folder into the collection; ``on_line`` hears of each one as it goes.

    Importing again adds nothing: files that are here are duplicates. A database that is away is waited for a while.
    Raises StorageUnavailable where files cannot be kept; what is stored stays, and another run goes on from there.
    """
    job = IntakeJob.objects.create(collection=plan.collection, source=IntakeJob.Source.FOLDER)
    receive_in_batches(files_in(plan.folder), partial(_import_files, plan, job), on_line)
    return job


def _import_files(plan: FolderImport, job: IntakeJob, paths: Sequence[Path]) -> list[IntakeLine]:
    """The lines of these files, in their order; those that cannot be opened come to no door."""
    lines: dict[Path, IntakeLine] = {}
    arrivals: dict[Path, Arrival] = {}
    with ExitStack() as files:
        for path in paths:
            name = str(path.relative_to(plan.folder))
            try:
                file = _open(path)
            except OSError as error:
                reason = f"This cannot be read ({error.strerror}). Change its permissions and import again."
                lines[path] = refuse(job, name, ImageRefused("unreadable", reason))
                continue
            if file is None:
                reason = "This is not a regular file. Copy the image itself into the folder."
                lines[path] = refuse(job, name, ImageRefused("not-a-file", reason))
                continue
            arrivals[path] = _arrival(plan, path, files.enter_context(file), name)
        lines.update(zip(arrivals, receive_many(job, arrivals.values()), strict=True))
    return [lines[path] for path in paths]


def _arrival(plan: FolderImport, path: Path, file: BinaryIO, name: str) -> Arrival:
    folder = clean(path.parent.name if path.parent != plan.folder else plan.folder.resolve().name)[:200]
    facts = ImageFacts(label=folder if plan.label_from_folder else "")
    return Arrival(file, name, facts, folder if plan.person_from_folder else "")


def _open(path: Path) -> BinaryIO | None:
    """None for what is no file: a link, a pipe. Raises OSError for what cannot be read, a folder included."""
    mode = path.lstat().st_mode
    return path.open("rb") if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else None


def progress(job: IntakeJob) -> Counter[str]:
    """How many of the images that this job stored are in each status."""
    stored = job.lines.exclude(verdict=IntakeLine.Verdict.DUPLICATE)
    return Counter(Image.objects.filter(intake_lines__in=stored).values_list("status", flat=True))


def waiting_reasons(job: IntakeJob) -> Iterator[str]:
    """What its images wait for, where a worker has said so (a model is missing, a folder cannot be written)."""
    waiting = Image.objects.filter(intake_lines__job=job, status=Image.Status.QUEUED).exclude(reason="")
    yield from waiting.values_list("reason", flat=True).distinct()
