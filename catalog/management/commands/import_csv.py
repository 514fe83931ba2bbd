"""Put in the images that a CSV file names, with what it says of them. Nothing is stored while any row is wrong."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from catalog.intake import csv_files
from catalog.intake.csv_files import CsvPlan
from catalog.intake.csv_rows import COLUMNS
from catalog.intake.errors import JobError, ListRefused
from catalog.management import intake_options as shared
from catalog.management.following import follow, put_in_files, tell_alike, told
from catalog.models import Collection, IntakeJob


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        shared.add_list(parser, f"with a header, in any order of: {', '.join(COLUMNS)}")
        parser.add_argument(
            "--collection",
            metavar="NAME",
            help="of the rows that name none; it must exist (import_urls and import_folder make theirs)",
        )
        parser.add_argument("--root", type=Path, metavar="FOLDER", help="paths may also lead there")
        parser.add_argument("--dry-run", action="store_true", help="only say what is wrong, or what would be done")
        shared.add_rule(parser)
        shared.add_strict(parser)
        parser.add_argument("--follow", action="store_true", help="until all are fetched and processed")

    def handle(self, *args: Any, **options: Any) -> None:
        rule = shared.rule_of(options)
        plan = self._plan(options)
        shared.tell_repeated(plan.repeated, self.stderr)
        for collection, count in plan.counts.items():
            self.stdout.write(f"{collection.name}: {count} images")
        if options["dry_run"]:
            self.stdout.write("Nothing is wrong with it. Nothing was stored (--dry-run).")
            return
        begun = self._begun(plan, rule)
        for job in begun:
            self._work(job)
        for job in begun if options["follow"] else ():
            follow(job, self.stdout, self.stderr)
        shared.check_ended_well(begun, options)

    def _plan(self, options: dict[str, Any]) -> CsvPlan:
        try:
            return csv_files.read(
                shared.content_of(options["file"]),
                name=shared.name_of(options["file"]),
                collections=Collection.objects.all(),
                default=_default(options["collection"]),
                folder=Path.cwd() if options["file"] == shared.STDIN else Path(options["file"]).parent,
                root=options["root"],
            )
        except ListRefused as error:
            raise shared.refused(error) from error

    def _begun(self, plan: CsvPlan, rule: str) -> list[IntakeJob]:
        now = timezone.now()
        try:
            begun = csv_files.start(plan, normalise=rule)
        except ListRefused as error:  # a file went meanwhile
            raise shared.refused(error) from error
        except JobError as error:
            raise CommandError(str(error)) from error
        for job in begun:
            shared.tell_begun(job, self.stdout, is_new=job.created_at >= now)
        return begun

    def _work(self, job: IntakeJob) -> None:
        verdicts = put_in_files(job)
        if verdicts:
            self.stdout.write(f"{job.collection}: {told(verdicts)} (job {job.pk})")
            tell_alike(job, self.stdout)


def _default(name: str | None) -> Collection | None:
    if name is None:
        return None
    collection = Collection.objects.filter(name=name).first()
    if collection is None:
        raise CommandError(f"There is no collection {name!r}. Make it first, or name another.")
    return collection
