"""Have workers fetch a list of addresses, one a line, into a collection. Given again, only what failed is fetched."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from catalog.intake import url_lists
from catalog.intake.errors import JobError, ListRefused
from catalog.management import intake_options as shared
from catalog.management.following import follow


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        shared.add_list(parser, "addresses, one a line; lines that begin with # are left out")
        shared.add_collection(parser)
        shared.add_rule(parser)
        shared.add_strict(parser)
        parser.add_argument("--follow", action="store_true", help="until all are fetched and processed")

    def handle(self, *args: Any, **options: Any) -> None:
        now, rule = timezone.now(), shared.rule_of(options)
        try:
            addresses = url_lists.read(shared.content_of(options["file"]))
            collection = shared.collection_of(options, self.stdout)
            job = url_lists.start(collection, addresses, name=shared.name_of(options["file"]), normalise=rule)
        except ListRefused as error:
            raise shared.refused(error) from error
        except JobError as error:
            raise CommandError(str(error)) from error
        shared.tell_repeated(addresses.repeated, self.stderr)
        shared.tell_begun(job, self.stdout, is_new=job.created_at >= now)
        if options["follow"]:
            follow(job, self.stdout, self.stderr)
        else:
            shared.tell_refused(addresses.addresses, self.stderr)
        shared.check_ended_well([job], options)
