"""What commands say while the images that they put in are stored and processed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from functools import partial

from django.core.management.base import CommandError, OutputWrapper
from django.urls import reverse
from django.utils import timezone
from tqdm import tqdm

from catalog.database import retry_while_away
from catalog.duplicates.of_lines import count_alike
from catalog.exceptions import StorageUnavailable
from catalog.intake import files
from catalog.intake.errors import JobError
from catalog.job_overview import files_wait
from catalog.models import IntakeJob, IntakeLine
from catalog.overview import JobProgress, image_statuses, progress_of, waiting_reasons

PATIENCE = 120.0  # seconds without any progress until we stop following
LOOK_SECONDS = 1.0
SHARE = 10  # a look at a long job reads all its lines: at most a tenth of the time, since workers need the database
MOST_NAMED = 100  # lines of a kind that are named at the end
INTERRUPTED = 130  # as shells say that somebody pressed Ctrl-C
Verdict = IntakeLine.Verdict


# --- Putting in -------------------------------------------------------------------------------------------------------


def store(total: int, put_in: Callable[[Callable[[IntakeLine], None]], IntakeJob]) -> IntakeJob:
    """A bar of ``total`` files and every refusal while ``put_in`` stores them; the job.

    ``put_in`` takes what hears of each line. Raises CommandError where files cannot be kept.
    """
    with _Storing(total) as storing:
        return put_in(storing.on_line)


def put_in_files(job: IntakeJob) -> Counter[str]:
    """The same bar for the files of planned lines that wait: how many had which verdict.

    Raises CommandError where files cannot be kept or the job was ended, and SystemExit after Ctrl-C.
    """
    waiting = job.lines.filter(verdict__in=[Verdict.WAITING, Verdict.RECEIVING]).exclude(path="").count()
    with _Storing(waiting) as storing:
        try:
            files.work(job, storing.on_line, storing.bar.write)
        except JobError as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            storing.bar.write("Interrupted. What is stored is safe; run this command again to go on from here.")
            raise SystemExit(INTERRUPTED) from None
    return storing.verdicts


class _Storing:
    """A bar that hears of lines. Leaving it turns StorageUnavailable into CommandError."""

    def __init__(self, total: int) -> None:
        self.verdicts: Counter[str] = Counter()
        self.bar = tqdm(total=total, desc="storing", unit="file")

    def __enter__(self) -> _Storing:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.bar.close()
        if isinstance(error, StorageUnavailable):
            raise CommandError(f"{error} Run this command again to go on from here.") from error

    def on_line(self, line: IntakeLine) -> None:
        self.verdicts[line.verdict] += 1
        self.bar.update()
        if line.verdict in (Verdict.REFUSED, Verdict.FAILED):
            self.bar.write(f"{line.verdict} {line.source}: {line.reason}")


def told(verdicts: Counter[str]) -> str:
    """How many files had which verdict, in words."""
    always = (Verdict.STORED, Verdict.DUPLICATE, Verdict.REFUSED)
    named = [*always, *([Verdict.FAILED] if verdicts[Verdict.FAILED] else [])]
    return ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in named)


# --- Following --------------------------------------------------------------------------------------------------------


def follow(job: IntakeJob, stdout: OutputWrapper, stderr: OutputWrapper) -> None:
    """A bar until all of the job has come to its end, then the counts and every failure with its reason.

    Raises SystemExit after Ctrl-C, which leaves the job running, and CommandError when somebody deletes the job.
    """
    try:
        _watch(job)
    except KeyboardInterrupt:
        stderr.write(
            f"\nThe job goes on without this command. To follow it again: manage.py intake_job {job.pk} --follow"
        )
        raise SystemExit(INTERRUPTED) from None
    if _as_it_is(job) is None:
        raise CommandError(f"Job {job.pk} was deleted while it was followed. The images that it put in are kept.")
    _report(job, stdout, stderr)


_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}"  # the pace is the job's, also before the bar


def _watch(job: IntakeJob) -> None:
    patience, was_paused = time.monotonic() + PATIENCE, False
    with tqdm(desc="processing", total=1, bar_format=_BAR) as bar:
        while (mine := _as_it_is(job)) is not None:
            began = time.monotonic()
            now = retry_while_away(partial(progress_of, mine))
            took = time.monotonic() - began
            is_paused = mine.state == IntakeJob.State.PAUSED
            if now.finished > bar.n or is_paused or _is_leased(job):
                patience = time.monotonic() + PATIENCE
            if is_paused and not was_paused:
                bar.write(PAUSED)
            was_paused = is_paused
            bar.total, bar.n = now.total, now.finished  # less when somebody deletes some meanwhile
            bar.set_postfix_str(_pace(now))
            if not now.waiting or time.monotonic() > patience:
                return
            time.sleep(max(LOOK_SECONDS, SHARE * took))


def _as_it_is(job: IntakeJob) -> IntakeJob | None:
    """None when it was deleted."""
    return retry_while_away(IntakeJob.objects.filter(pk=job.pk).first)


def _pace(now: JobProgress) -> str:
    pace = [] if now.rate is None else [f"{now.rate:.3g} image/s"]
    return ", ".join(pace + ([] if now.seconds_left is None else [f"{tqdm.format_interval(now.seconds_left)} left"]))


def _is_leased(job: IntakeJob) -> bool:
    """Lines rest, as servers ask for, or are being fetched."""
    leased = job.lines.filter(verdict=Verdict.WAITING, lease_until__gt=timezone.now())
    return retry_while_away(leased.exists)


def _report(job: IntakeJob, stdout: OutputWrapper, stderr: OutputWrapper) -> None:
    now, images = progress_of(job), image_statuses(job)
    ended = {
        verdict: now.verdicts[verdict] for verdict in (Verdict.REFUSED, Verdict.CANCELLED) if verdict in now.verdicts
    }
    counts = [f"{count} {what}" for what, count in [*sorted(images.items()), *ended.items()]]
    stdout.write(", ".join(counts) or "nothing new")
    tell_alike(job, stdout)
    _name(job, Verdict.FAILED, stderr)
    _name(job, Verdict.REFUSED, stderr)
    for reason in waiting_reasons(job):
        stderr.write(reason)
    if now.waiting:
        paused = IntakeJob.objects.filter(pk=job.pk, state=IntakeJob.State.PAUSED)
        stderr.write(PAUSED if paused.exists() else files_wait(job) or WAITING)


def tell_alike(job: IntakeJob, stdout: OutputWrapper) -> None:
    """How many of its images look like others and wait for a choice."""
    if count := count_alike(job, None):
        page = f"{reverse('admin:catalog_nearduplicate_changelist')}?job={job.pk}"
        one = count == 1
        stdout.write(f"{count} {'looks like another' if one else 'look like others'}: choose in the admin, {page}")


PAUSED = "The job is paused. `manage.py intake_job` resumes it, or its page in the admin."
WAITING = "Some images still wait. They are safe; a running worker (`make up`) will process them."


def _name(job: IntakeJob, verdict: str, stderr: OutputWrapper) -> None:
    """The lines of this verdict with their reasons; refused files were named when they were put in."""
    lines = job.lines.filter(verdict=verdict)
    lines = lines.filter(path="") if verdict == Verdict.REFUSED else lines
    for line in lines[:MOST_NAMED]:
        stderr.write(f"{verdict} {line.source}: {line.reason}")
    if (count := lines.count()) > MOST_NAMED:
        stderr.write(f"and {count - MOST_NAMED} more; the job's page in the admin has all of them.")
