"""Put a folder of images into a collection and follow them until they are ready.

An import that was killed goes on where it was when it is run again.
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from catalog.intake import folders
from catalog.intake.errors import JobError
from catalog.management import intake_options as shared
from catalog.management.following import follow, put_in_files, tell_alike, told
from catalog.vision import helper


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("path", type=Path, metavar="PATH", help="the folder; folders inside it are imported too")
        shared.add_collection(parser)
        parser.add_argument("--label-from-folder", action="store_true", help="label: the folder a file lies in")
        parser.add_argument("--person-from-folder", action="store_true", help="person, where exactly one face is found")
        shared.add_rule(parser)
        shared.add_strict(parser)
        parser.add_argument("--no-wait", action="store_true", help="do not follow the images until they are ready")

    def handle(self, *args: Any, **options: Any) -> None:
        folder: Path = options["path"]
        if not folder.is_dir():
            raise CommandError(f"{folder} is not a folder. Give the folder that holds the images.")
        rule = shared.rule_of(options)  # before a collection is made
        helper.prepare_to_inspect()  # while the folder is looked through
        plan = folders.FolderImport(
            folder=folder,
            collection=shared.collection_of(options, self.stdout),
            label_from_folder=options["label_from_folder"],
            person_from_folder=options["person_from_folder"],
            normalise=rule,
        )
        try:
            job, is_new = folders.begin(plan)
        except folders.EmptyFolder as nothing:  # of a folder that files are dropped into that is no mistake
            self.stdout.write(str(nothing))
            return
        except JobError as error:
            raise CommandError(str(error)) from error
        shared.tell_begun(job, self.stdout, is_new=is_new)
        for other in folders.begun_elsewhere(job):
            self.stdout.write(
                f"Another folder of this path was begun on {other.begun_on} (job {other.pk}) and is not finished. Its "
                "files are not here: go on with it there, or cancel it."
            )
        verdicts = put_in_files(job)
        self.stdout.write(f"{told(verdicts)} (job {job.pk})")
        if options["no_wait"]:
            tell_alike(job, self.stdout)
        else:
            follow(job, self.stdout, self.stderr)
        shared.check_ended_well([job], options)
