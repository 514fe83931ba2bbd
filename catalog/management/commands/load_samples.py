"""Put sample images in, each set into a public collection of its own. What was put in before is not put in again."""

from __future__ import annotations

from argparse import ArgumentParser
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from catalog.management.following import follow, store
from catalog.samples import loading
from catalog.samples.sets import SETS, SampleSet
from catalog.samples.types import SamplesMissing


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("sets", nargs="*", metavar="SET", help=f"{', '.join(SETS)}; else all")
        parser.add_argument("--at-most", type=int, metavar="N", help="only the first N of each set")
        parser.add_argument("--no-wait", action="store_true", help="do not follow the images until they are ready")

    def handle(self, *args: Any, **options: Any) -> None:
        if unknown := set(options["sets"]) - set(SETS):
            raise CommandError(f"No such samples: {', '.join(sorted(unknown))}. There are: {', '.join(SETS)}.")
        for key in options["sets"] or SETS:
            self._load(SETS[key], options["at_most"], wait=not options["no_wait"])

    def _load(self, chosen: SampleSet, at_most: int | None, *, wait: bool) -> None:
        try:
            samples = loading.missing(chosen, at_most)
        except SamplesMissing as error:
            raise CommandError(str(error)) from error
        job = store(len(samples), partial(loading.load, chosen, samples))
        self.stdout.write(f"{chosen.name}: {len(samples)} new")
        if wait:
            follow(job, self.stdout, self.stderr)
