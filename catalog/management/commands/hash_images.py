"""Compute the perceptual hashes of images that were put in before there were any, so that near duplicates are found."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from catalog.duplicates.filling import fill
from catalog.models import Image
from catalog.named import collection_named

SAID_EVERY = 1000


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--collection", metavar="NAME", help="only there; without it everywhere")

    def handle(self, *args: Any, **options: Any) -> None:
        images = Image.objects.all()
        if options["collection"]:
            images = images.filter(collection=collection_named(options["collection"]))
        done = left = 0
        for image, problem in fill(images):
            done, left = done + (not problem), left + bool(problem)
            if problem:
                self.stderr.write(f"{image.pk} ({image}): {problem}")
            if (done + left) % SAID_EVERY == 0:
                self.stdout.write(f"{done + left} looked at")
        self.stdout.write(f"{done} images have a hash now, {left} have none.")
