"""From a planned line whose file is at hand to catalog.uploads, and back where the file could not be kept."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import BinaryIO

from catalog import recovery
from catalog.checking import GONE, OURS
from catalog.database import AWAY, retry_while_away
from catalog.intake import lines
from catalog.models import IntakeJob, IntakeLine
from catalog.uploads import Arrival, ImageFacts, receive_many

logger = logging.getLogger(__name__)

Verdict = IntakeLine.Verdict
STORAGE_REST = timedelta(minutes=2)  # of a line that a full disk sent back


def arrival_of(line: IntakeLine, file: BinaryIO, name: str, *, source_url: str = "") -> Arrival:
    """The file of a planned line; ``source_url`` where the list names none."""
    known = {key: value for key, value in line.facts.items() if value}
    facts = {"source_url": source_url, "uploader_id": line.job.started_by_id, **known}
    return Arrival(file, name, ImageFacts(**facts), line.person_name, line=line)


def receive_lines(job: IntakeJob, arrivals: Sequence[Arrival], rest: timedelta = STORAGE_REST) -> bool:
    """Put in the files of lines that are claimed. False where this machine cannot: such lines wait again, after
    ``rest``, untried. A file that cannot be read counts a try: it is tried again, and the last time it fails.

    Database errors go up when what was begun is undone.
    """
    planned = [arrival.line for arrival in arrivals if arrival.line is not None]
    claims = {line.pk: line.claimed_by for line in planned}
    try:
        received = receive_many(job, arrivals)
    except AWAY:
        retry_while_away(partial(_undo, planned))
        raise
    can = True
    for line in received:
        if line.verdict != Verdict.FAILED or line.claimed_by != claims.get(line.pk, ""):  # somebody else has taken it
            continue
        if line.code == GONE:  # there is no row to write to, and nobody else's lines are concerned
            continue
        if line.code in OURS:
            lines.put_back(line, line.code, f"Waiting: {line.reason}", rest, untried=True)
            can = False
        else:
            lines.try_again_or_fail(line, line.code, line.reason)
    return can


def _undo(planned: Sequence[IntakeLine]) -> None:
    for line in planned:
        try:
            recovery.give_up(line)
        except OSError as error:  # the sweep does it
            logger.error("%s cannot be removed from the originals: %s", line.reserved_key, error)
