"""What commands say while the images that they put in are stored and processed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from django.core.management.base import CommandError, OutputWrapper
from tqdm import tqdm

from catalog import folders
from catalog.database import retry_while_away
from catalog.exceptions import StorageUnavailable
from catalog.models import IntakeJob, IntakeLine

PATIENCE = 120.0  # seconds without any progress until we stop following


def store(total: int, put_in: Callable[[Callable[[IntakeLine], None]], IntakeJob]) -> tuple[IntakeJob, Counter[str]]:
    """A bar of ``total`` files and every refusal while ``put_in`` stores them; the job, and how many had which verdict.

    ``put_in`` takes what hears of each line. Raises CommandError where files cannot be kept.
    """
    verdicts: Counter[str] = Counter()
    with tqdm(total=total, desc="storing", unit="file") as bar:

        def on_line(line: IntakeLine) -> None:
            verdicts[line.verdict] += 1
            bar.update()
            if line.verdict == IntakeLine.Verdict.REFUSED:
                bar.write(f"refused {line.source}: {line.reason}")

        try:
            return put_in(on_line), verdicts
        except StorageUnavailable as error:
            raise CommandError(f"{error} Run this command again to go on from here.") from error


def follow(job: IntakeJob, stdout: OutputWrapper, stderr: OutputWrapper) -> None:
    """A bar until the job's images are ready or failed, then the counts and every failure with its reason."""
    statuses = retry_while_away(lambda: folders.progress(job))
    total, patience = sum(statuses.values()), time.monotonic() + PATIENCE
    with tqdm(total=total, desc="processing", unit="image") as bar:
        while (done := statuses["ready"] + statuses["failed"]) < total and time.monotonic() < patience:
            if done > bar.n:
                patience = time.monotonic() + PATIENCE
            bar.update(done - bar.n)
            time.sleep(0.5)
            statuses = retry_while_away(lambda: folders.progress(job))
            total = sum(statuses.values())  # smaller when somebody deletes some meanwhile
        bar.update(statuses["ready"] + statuses["failed"] - bar.n)
    _report(job, statuses, stdout, stderr)


def _report(job: IntakeJob, statuses: Counter[str], stdout: OutputWrapper, stderr: OutputWrapper) -> None:
    stdout.write(", ".join(f"{count} {status}" for status, count in sorted(statuses.items())) or "nothing new")
    for line in job.lines.filter(verdict=IntakeLine.Verdict.FAILED):
        stderr.write(f"failed {line.source}: {line.reason}")
    for reason in folders.waiting_reasons(job):
        stderr.write(reason)
    if statuses["queued"] or statuses["processing"]:
        stderr.write("Some images still wait. They are safe; a running worker (`make up`) will process them.")
