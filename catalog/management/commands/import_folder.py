"""Put a folder of images into a collection and follow them until they are ready."""

from __future__ import annotations

from argparse import ArgumentParser
from functools import partial
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from catalog import folders
from catalog.management.following import follow, store
from catalog.models import Collection, IntakeJob
from catalog.vision import registry


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("path", type=Path, metavar="PATH", help="the folder; folders inside it are imported too")
        parser.add_argument("--collection", required=True, metavar="NAME", help="made when there is none of that name")
        new = parser.add_argument_group("for a new collection (one that exists keeps its own settings)")
        new.add_argument(
            "--pipelines", default="image", help="what runs on its images: face, image, digit; several as face,image"
        )
        new.add_argument("--public", action="store_true", help="anybody may see and search it")
        new.add_argument("--face-search", choices=["staff", "everyone"], default="staff", help="who may search faces")
        parser.add_argument("--label-from-folder", action="store_true", help="label: the folder a file lies in")
        parser.add_argument("--person-from-folder", action="store_true", help="person, where exactly one face is found")
        parser.add_argument("--no-wait", action="store_true", help="do not follow the images until they are ready")

    def handle(self, *args: Any, **options: Any) -> None:
        folder: Path = options["path"]
        if not folder.is_dir():
            raise CommandError(f"{folder} is not a folder. Give the folder that holds the images.")
        plan = folders.FolderImport(
            folder=folder,
            collection=self._collection(options),
            label_from_folder=options["label_from_folder"],
            person_from_folder=options["person_from_folder"],
        )
        job = self._store(plan)
        if not options["no_wait"]:
            follow(job, self.stdout, self.stderr)

    def _collection(self, options: dict[str, Any]) -> Collection:
        names = [name.strip() for name in options["pipelines"].split(",") if name.strip()]
        known = list(registry.pipelines())
        unknown = sorted(set(names) - set(known))
        if unknown:
            raise CommandError(f"No such pipeline: {', '.join(unknown)}. There are: {', '.join(known)}.")
        longest = Collection._meta.get_field("name").max_length or 0
        if not 0 < len(options["collection"].strip()) <= longest:
            raise CommandError(f"A collection's name has 1 to {longest} characters, and not spaces alone.")
        collection, made = Collection.objects.get_or_create(
            name=options["collection"],
            defaults={
                "pipelines": names,
                "is_public": options["public"],
                "face_search": options["face_search"],
            },
        )
        what = "New collection" if made else "Collection"
        pipelines = ", ".join(collection.pipelines) or "no pipelines"
        self.stdout.write(f"{what} {collection.name!r}: {'public' if collection.is_public else 'private'}, {pipelines}")
        return collection

    def _store(self, plan: folders.FolderImport) -> IntakeJob:
        job, verdicts = store(len(folders.files_in(plan.folder)), partial(folders.import_folder, plan))
        counts = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in ("stored", "duplicate", "refused"))
        self.stdout.write(f"{counts} (job {job.pk})")
        return job
