"""Importing a folder of image files: one job, one line for each file, nothing skipped silently."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from django.db import transaction

from catalog.intake import jobs
from catalog.intake.errors import JobError
from catalog.intake.jobs import PlannedLine
from catalog.intake.paths import text_of_path
from catalog.intake.places import is_same_place, this_host
from catalog.models import Collection, IntakeJob, IntakeLine
from catalog.uploads import clean

STEP = 1000


class EmptyFolder(JobError):
    """There is no file in it, and no import of it to go on with."""


@dataclass(frozen=True, slots=True)
class FolderImport:
    """What to import and what to make of the names of folders.

    ``label_from_folder``: the name of the folder a file lies in becomes its label. ``person_from_folder``: it becomes
    the person of its face, where exactly one face is found. ``normalise``: a rule of catalog.vision.normalising.
    """

    folder: Path
    collection: Collection
    label_from_folder: bool = False
    person_from_folder: bool = False
    normalise: str = ""


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


@transaction.atomic
def begin(plan: FolderImport) -> tuple[IntakeJob, bool]:
    """A job with a line for every file of the folder, and True; or the unfinished one of the same folder, and False.

    That one goes on where it was (`files.work`), with what has come into the folder since, and named as is asked now;
    what has failed or was refused is looked at again (``tried_again`` lines).
    One of another folder that only has the same path is let alone (`places.is_same_place`). Raises EmptyFolder, and
    JobError, as `jobs.create`.
    """
    folder = plan.folder.resolve()
    job, is_new = jobs.begin_or_go_on(
        plan.collection,
        IntakeJob.Source.FOLDER,
        lambda: _planned(plan),
        digest=_digest(folder),
        is_same=is_same_place,
        name=folder.name or str(folder),  # editors are told no more of where it lies
        normalise=plan.normalise,
        begun_on=this_host(),
    )
    if is_new and not job.lines.exists():
        raise EmptyFolder(f"There is no file in {plan.folder}. Nothing was begun.")
    if not is_new:
        _bring_up_to_date(job, plan)
    return job, is_new


def begun_elsewhere(job: IntakeJob) -> list[IntakeJob]:
    """Unfinished jobs of a folder of the same path whose files are not those that lie here."""
    begun = jobs.unfinished(job.collection, IntakeJob.Source.FOLDER, job.digest, job.normalise).exclude(pk=job.pk)
    return [each for each in begun if not is_same_place(each)]


def _digest(folder: Path) -> str:
    return hashlib.sha256(os.fsencode(folder)).hexdigest()


def _planned(plan: FolderImport) -> Iterator[PlannedLine]:
    root = plan.folder.resolve()  # however it was named: the same file has the same path in every run
    for path in files_in(root):
        folder = clean(path.parent.name)[:200]
        yield PlannedLine(
            source=str(path.relative_to(root)),
            path=text_of_path(path),
            facts={"label": folder} if plan.label_from_folder else {},
            person_name=folder if plan.person_from_folder else "",
        )


def _bring_up_to_date(job: IntakeJob, plan: FolderImport) -> None:
    """By one at a time: its collection is locked."""
    planned = {line.path: line for line in _planned(plan)}
    # This locks the job, so that nobody cancels the lines that are changed; only now: the folder is read without it.
    job.tried_again = jobs.take_up_again(job)
    changed: list[IntakeLine] = []
    for line in job.lines.exclude(path="").iterator(STEP):
        now = planned.pop(line.path, None)
        if now and line.verdict == IntakeLine.Verdict.WAITING and _differs(line, now):
            line.facts, line.person_name = dict(now.facts), now.person_name
            changed.append(line)
    IntakeLine.objects.bulk_update(changed, ["facts", "person_name"], batch_size=STEP)
    jobs.add_lines(job, planned.values())


def _differs(line: IntakeLine, now: PlannedLine) -> bool:
    return (line.facts, line.person_name) != (dict(now.facts), now.person_name)
