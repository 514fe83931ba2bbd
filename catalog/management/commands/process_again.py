"""Process images once more: those that failed, or all of a collection."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from catalog.models import Image
from catalog.named import collection_named
from catalog.uploads import process_again


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--collection", metavar="NAME", help="only there; without it everywhere")
        parser.add_argument("--all", action="store_true", help="also those that are ready, as after a new detector")

    def handle(self, *args: Any, **options: Any) -> None:
        images = Image.objects.all() if options["all"] else Image.objects.filter(status=Image.Status.FAILED)
        if options["collection"]:
            images = images.filter(collection=collection_named(options["collection"]))
        count = process_again(list(images.values_list("pk", flat=True)))
        self.stdout.write(f"{count} images are queued and will be processed again.")
