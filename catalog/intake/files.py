"""Putting in the files of planned lines, by the command that runs where they lie.

Lines are claimed as workers claim addresses, so a command that is killed leaves nothing but leases: the next one goes
on there, and two that run at once share the work.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from typing import BinaryIO

from django.conf import settings

from catalog import claims, recovery
from catalog.checking import OURS
from catalog.database import AWAY, retry_while_away
from catalog.exceptions import ImageRefused, StorageUnavailable
from catalog.intake import lines
from catalog.intake.errors import JobError
from catalog.intake.paths import path_of_text
from catalog.intake.receiving import arrival_of, receive_lines
from catalog.models import IntakeJob, IntakeLine
from catalog.uploads import Arrival, refuse

LOOK_SECONDS = 1.0  # between two looks while nothing can be claimed
MOST_BREAKS = 5  # of the database, one after the other, until the command gives up
PAUSED = "The job is paused. It goes on here when somebody resumes it."
BEGUN_ELSEWHERE = "The last files were begun by another process, or rest until they are tried again: waiting for them."
NOT_A_FILE = "This is not a regular file. Copy the image itself into the folder."
ENDED = (
    IntakeLine.Verdict.STORED,
    IntakeLine.Verdict.DUPLICATE,
    IntakeLine.Verdict.REFUSED,
    IntakeLine.Verdict.FAILED,
)
OnLine = Callable[[IntakeLine], None]
OnWait = Callable[[str], None]


def work(job: IntakeJob, on_line: OnLine, on_wait: OnWait) -> None:
    """Put in every file of the job that waits; ``on_line`` hears of each one, ``on_wait`` why it stands still.

    A database that is away is waited for a while. Raises StorageUnavailable where files cannot be kept, and JobError
    when the job is cancelled or deleted meanwhile; what is stored stays, and another run goes on from there.
    """
    token = claims.new_token()
    breaks = 0
    try:
        while (batch := _next(job, token, on_line, on_wait)) is not None:
            try:
                _put_in(job, token, batch, on_line)
                breaks = 0
            except AWAY:
                breaks += 1
                if breaks > MOST_BREAKS:
                    raise
                retry_while_away(partial(lines.let_go, token))
    finally:
        retry_while_away(partial(lines.let_go, token))


def _next(job: IntakeJob, token: str, on_line: OnLine, on_wait: OnWait) -> list[IntakeLine] | None:
    """The next lines to put in; None when there are no more."""
    said = ""
    while True:
        files = retry_while_away(partial(lines.claim_files, job, token, settings.VISEARCH_BATCH))
        for line in files.failed:
            on_line(line)
        if files.claimed:
            return files.claimed
        why = retry_while_away(partial(_why_nothing, job))
        if not why:
            return None
        if why != said:
            on_wait(why)
            said = why
        time.sleep(LOOK_SECONDS)


def _why_nothing(job: IntakeJob) -> str:
    """Why nothing could be claimed, "" where nothing is left. Raises JobError where the job was ended."""
    now = IntakeJob.objects.filter(pk=job.pk).first()
    if now is None:
        raise JobError("The job was deleted. What it has stored is kept.")
    if now.state == IntakeJob.State.CANCELLED:
        raise JobError(
            f"The job was cancelled; what it stored is kept. `manage.py intake_job {job.pk} retry` undoes that."
        )
    left = now.lines.filter(verdict__in=[IntakeLine.Verdict.WAITING, IntakeLine.Verdict.RECEIVING]).exclude(path="")
    if not left.exists():
        return ""
    if now.state == IntakeJob.State.PAUSED:
        return PAUSED
    recovery.finish_interrupted_uploads()  # there may be no beat where this runs
    return BEGUN_ELSEWHERE


def _put_in(job: IntakeJob, token: str, batch: Sequence[IntakeLine], on_line: OnLine) -> None:
    arrivals: list[Arrival] = []
    with ExitStack() as files:
        for line in batch:
            try:
                arrivals.append(arrival_of(line, files.enter_context(_open(line)), line.source))
            except ImageRefused as refusal:
                refuse(job, line.source, refusal, line)
        stored = receive_lines(job, arrivals, rest=timedelta(0))
    for line in batch:
        if line.verdict in ENDED and line.claimed_by in (token, ""):  # others tell of what they have taken meanwhile
            on_line(line)
    if not stored:
        why = next(line for line in batch if line.verdict == IntakeLine.Verdict.WAITING and line.code in OURS)
        raise StorageUnavailable(why.reason.removeprefix("Waiting: "), why.code)


def _open(line: IntakeLine) -> BinaryIO:
    """Raises ImageRefused for what is no file (a link, a pipe), may not be read, or is gone since it was planned.

    In one look: what is opened is what is judged, and a pipe is not waited for.
    """
    try:
        handle = os.open(path_of_text(line.path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _unopened(error) from error
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(handle, "rb")
    os.close(handle)
    if stat.S_ISDIR(mode):  # here only because it could not be read when the folder was
        raise _unopened(IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)))
    raise ImageRefused("not-a-file", NOT_A_FILE)


def _unopened(error: OSError) -> ImageRefused:
    if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a socket
        return ImageRefused("not-a-file", NOT_A_FILE)
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return ImageRefused("unreadable", "This file is gone. Put it back and import again.")
    if error.errno == errno.ENAMETOOLONG:
        return ImageRefused("unreadable", "The path to this file is too long. Move it further up and import again.")
    return ImageRefused(
        "unreadable", f"This cannot be read ({error.strerror}). Change its permissions and import again."
    )
