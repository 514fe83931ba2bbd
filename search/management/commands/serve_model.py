"""Let another embedding model serve a pipeline, or go back to the one before; without either, say which there are."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from catalog.embedding_models import previous_model
from catalog.models import EmbeddingModel
from search.management.serving import serve


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--pipeline", required=True, help="name of the pipeline, as in VISEARCH_PIPELINES: face, image, digit ..."
        )
        which = parser.add_mutually_exclusive_group()
        which.add_argument(
            "--model", help="name of its embedder; with several of one name the beginning of a fingerprint"
        )
        which.add_argument("--back", action="store_true", help="the one that served before")

    def handle(self, *args: Any, **options: Any) -> None:
        models = list(EmbeddingModel.objects.filter(pipeline=options["pipeline"]).order_by("id"))
        if not models:
            raise CommandError(f"No embedding model is registered for the pipeline {options['pipeline']!r}.")
        if options["back"]:
            previous = previous_model(options["pipeline"])
            if previous is None:
                raise CommandError("No other model has served this pipeline yet.")
            serve(previous, self.stdout)
        elif options["model"]:
            serve(_chosen(models, options["model"]), self.stdout)
        else:
            for model in models:
                self.stdout.write(f"{model.state:9} {model.embedder}  {model.fingerprint[:12]}{_gate(model)}")


def _gate(model: EmbeddingModel) -> str:
    return "" if model.passed_gate is None else "  passed" if model.passed_gate else "  did not pass"


def _chosen(models: list[EmbeddingModel], wanted: str) -> EmbeddingModel:
    found = [each for each in models if each.embedder == wanted or each.fingerprint.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(str(each) for each in (found or models))
    raise CommandError(f"{wanted!r} is {'more than one' if found else 'none'} of the models: {names}.")
