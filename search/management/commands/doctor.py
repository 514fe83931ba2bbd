"""Look whether the database, the files, the embeddings, the networks and the indexes still belong together.

Exit status: 0 all is well, or mended; 1 something was found and is left; 2 something could not be looked at.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from catalog.doctor.examining import examine
from catalog.doctor.findings import Looking, Progress
from search.doctor.checks import CHECKS
from search.doctor.report import Report

SHOWN = 10  # findings of a kind that are written out without -v 2


class Command(BaseCommand):
    help = __doc__
    requires_system_checks: list[str] = []  # the doctor says itself what settings keep it from looking at

    def create_parser(self, prog_name: str, subcommand: str, **options: Any) -> Any:
        return super().create_parser(prog_name, subcommand, formatter_class=RawDescriptionHelpFormatter, **options)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--fix", action="store_true", help="mend what can be mended safely, also while the site runs"
        )
        parser.add_argument(
            "--deep", action="store_true", help="read and hash every original and index file, look at every vector"
        )
        parser.add_argument(
            "--delete-strays",
            action="store_true",
            help="with --fix: delete originals whose image is not in the database",
        )
        parser.add_argument("--json", action="store_true", help="one JSON object instead of text")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["delete_strays"] and not options["fix"]:
            raise CommandError("--delete-strays deletes files for good: say --fix, too.", returncode=2)
        shown = None if options["verbosity"] > 1 else SHOWN
        report = Report(fix=options["fix"], shown=shown, keeps=options["json"])
        with tqdm(disable=None, leave=False) as bar:  # None: not where stderr is no terminal
            looking = Looking(options["deep"], options["delete_strays"], _shown_on(bar))
            for outcome in examine(CHECKS, looking, fix=options["fix"]):
                line = report.add(outcome)
                if line and not options["json"]:
                    bar.clear()
                    self.stdout.write(line)
        self.stdout.write(json.dumps(report.as_json(), indent=2) if options["json"] else report.table())
        if report.status:
            raise CommandError(report.summary(), returncode=report.status)


def _shown_on(bar: tqdm[Any]) -> Progress:
    def progress(step: str, done: int, total: int) -> None:
        bar.set_description(step, refresh=False)
        bar.total, bar.n = total, done
        bar.refresh()

    return progress
