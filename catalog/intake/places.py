"""Whether the files that a job waits for lie here: it was begun by a command, perhaps on another host.

A path is the same on many hosts, and what lies there another thing. What tells hosts apart is not the same for long: a
container has another name each time it starts, numbers of devices change when disks are mounted anew, and root folders
of disks have the same inode everywhere. A disk that several hosts share is one place, by whatever numbers. So the files
themselves are looked for, and the name of the host says only how many of them have to be found.
"""

from __future__ import annotations

import os
import socket

from catalog.intake.paths import path_of_text
from catalog.models import IntakeJob, IntakeLine

STEP = 1000


def this_host() -> str:
    """As the job's ``begun_on`` has it."""
    return socket.gethostname()[:255]


def is_same_place(job: IntakeJob) -> bool:
    """Whether the job may go on here: the files that it waits for are here.

    On a host of the name on which it was begun one is enough, since others may have been taken away meanwhile. On any
    other all of them: two folders of cameras both have an IMG_0001.jpg. Where it waits for no file, there is nothing to
    mistake.
    """
    unfinished = [IntakeLine.Verdict.WAITING, IntakeLine.Verdict.RECEIVING]
    waiting = job.lines.filter(verdict__in=unfinished).exclude(path="")
    paths = waiting.order_by("id").values_list("path", flat=True)
    if not paths.exists():
        return True
    enough = any if job.begun_on == this_host() else all
    return enough(os.path.lexists(path_of_text(path)) for path in paths.iterator(STEP))
