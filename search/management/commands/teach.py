"""Teach a small head on what staff labelled, compare it with the model it is taught on, and say whether it may serve.

    manage.py teach --pipeline image --from labels                 by the labels of images
    manage.py teach --pipeline face --from people --serve          by the people that faces are named as

docs/teaching.md says what is compared and how.
"""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from catalog.models import EmbeddingModel
from catalog.named import collection_named
from catalog.vision import registry
from catalog.vision.errors import VisionError
from search.management.serving import serve
from search.teaching.errors import TeachingFailed, TeachingRefused
from search.teaching.reading import LabelSource
from search.teaching.teaching import Wish, teach
from search.teaching.words import summary


class Command(BaseCommand):
    help = __doc__

    def create_parser(self, *args: Any, **options: Any) -> Any:
        return super().create_parser(*args, formatter_class=RawDescriptionHelpFormatter, **options)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--pipeline", required=True, help="whose model is taught: face, image")
        parser.add_argument("--from", required=True, choices=[source.value for source in LabelSource], dest="source")
        parser.add_argument("--collection", metavar="NAME", help="only what is in it")
        parser.add_argument("--name", default="", help="of the new model; without it that of its base and -taught")
        parser.add_argument("--seed", type=int, default=0, help="another one keeps other classes and labels back")
        parser.add_argument("--serve", action="store_true", help="let it serve, if it may")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            model = self._teach(options)
        except (TeachingRefused, TeachingFailed, VisionError, ImproperlyConfigured) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{model}")
        self.stdout.writelines(f"  {line}\n" for line in summary(model.teaching))
        if options["serve"]:
            serve(model, self.stdout)

    def _teach(self, options: dict[str, Any]) -> EmbeddingModel:
        if options["seed"] < 0:
            raise CommandError("--seed is a whole number from 0 on.")
        pipeline = registry.pipeline(options["pipeline"]).name
        source = LabelSource(options["source"])
        name = options["collection"]
        collection = None if name is None else collection_named(name)
        wish = Wish(pipeline, source, collection, options["name"], options["seed"])
        return teach(wish, step=lambda what: self.stderr.write(f"{what} ...", style_func=str))
