"""Follow a job that puts images in, pause, resume or cancel it, try again what failed, or delete it at its end.

Without a job: the newest ones.
"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from catalog.intake import deleting, jobs
from catalog.intake.errors import JobError
from catalog.job_overview import files_lie_idle, state_of_job
from catalog.management import intake_options as shared
from catalog.management.following import follow, tell_alike
from catalog.models import IntakeJob
from catalog.overview import count_lines, progress_of

ACTIONS = ("pause", "resume", "cancel", "retry", "delete")
LISTED = 20


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "job", nargs="?", type=UUID, metavar="JOB", help="its id; without one the newest are listed"
        )
        parser.add_argument("action", nargs="?", choices=ACTIONS, help="without one: how far it is")
        shared.add_strict(parser)
        parser.add_argument("--follow", action="store_true", help="until all of it has come to its end")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["job"] is None:
            self._list()
            return
        job = IntakeJob.objects.filter(pk=options["job"]).select_related("collection").first()
        if job is None:
            raise CommandError(f"There is no job {options['job']}.")
        if options["action"]:
            try:
                self._act(job, options["action"])
            except JobError as error:
                raise CommandError(str(error)) from error
        if options["action"] == "delete":
            return
        self._tell(job)
        if options["follow"]:
            follow(job, self.stdout, self.stderr)
        else:
            tell_alike(job, self.stdout)
        shared.check_ended_well([job], options)

    def _list(self) -> None:
        newest = list(IntakeJob.objects.select_related("collection").order_by("-id")[:LISTED])
        count_lines(newest)
        for job in newest:
            total, waiting = job.line_count, job.waiting_count  # type: ignore[attr-defined]
            state = state_of_job(job, total=total, waiting=waiting)
            what = f"{job.get_source_display()} {job.name!r}" if job.name else job.get_source_display()
            began = f"{job.created_at:%Y-%m-%d %H:%M} UTC"
            self.stdout.write(f"{job.pk}  {began}  {state}  {what} into {job.collection}: {waiting} of {total} to do")
        if not newest:
            self.stdout.write("There are no jobs.")

    def _act(self, job: IntakeJob, action: str) -> None:
        if action == "retry":
            self.stdout.write(f"{jobs.retry_failed(job)} lines are tried again.")
        elif action == "delete":
            deleting.delete(job)
            self.stdout.write("Deleted. The images that it put in are kept.")
        else:
            {"pause": jobs.pause, "resume": jobs.resume, "cancel": jobs.cancel}[action](job)

    def _tell(self, job: IntakeJob) -> None:
        job.refresh_from_db()
        now = progress_of(job)
        state = state_of_job(job, total=now.total, waiting=now.waiting)
        counts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(now.verdicts.items())) or "no lines"
        self.stdout.write(f"{job.get_source_display()} into {job.collection}, {state}: {counts}; {now.waiting} to do")
        if said := files_lie_idle(job):
            self.stdout.write(said)
