"""Build the index of one pipeline or of all of them, and say what came of it."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from catalog.embedding_models import serving_model, serving_models
from catalog.exceptions import NoServingModel
from catalog.models import EmbeddingModel
from catalog.vision import registry
from search.engines.errors import EngineError
from search.engines.types import Progress
from search.indexing import needs_rebuild, rebuild_index
from search.locks import RebuildRunning
from search.management.named import model_named
from search.models import IndexGeneration
from search.pace import Pace, pace_of


class Command(BaseCommand):
    help = "Build, verify and publish a new generation of the index of every serving model."

    def add_arguments(self, parser: ArgumentParser) -> None:
        which = parser.add_mutually_exclusive_group()
        which.add_argument("--pipeline", help="only this one: face, image")
        which.add_argument("--model", help="of this one, which need not serve: embedder or fingerprint")
        parser.add_argument("--if-needed", action="store_true", help="only where a rebuild is due")

    def handle(self, *args: Any, **options: Any) -> None:
        failures = []
        chosen = options["model"]
        for model in [model_named(chosen)] if chosen else self._models(options["pipeline"]):
            try:
                self._rebuild(model, options["if_needed"])
            except (EngineError, RebuildRunning, OSError) as error:
                failures.append(f"{model.pipeline}: {error}")
        if failures:
            raise CommandError("\n".join(failures))

    def _models(self, pipeline: str | None) -> list[EmbeddingModel]:
        if pipeline and pipeline not in registry.pipelines():
            names = ", ".join(sorted(registry.pipelines()))
            raise CommandError(f"There is no pipeline {pipeline!r}, only these: {names}.")
        try:
            models = [serving_model(pipeline)] if pipeline else serving_models()
        except NoServingModel as error:
            raise CommandError(str(error)) from error
        if not models:
            raise CommandError("No embedding model serves yet. Run `manage.py models build`.")
        return models

    def _rebuild(self, model: EmbeddingModel, if_needed: bool) -> None:
        if if_needed:
            reason = needs_rebuild(model)
            self.stdout.write(f"{model.pipeline}: {reason or 'up to date'}")
            if reason is None:
                return
        with tqdm(unit=" vectors", disable=None, leave=False) as bar:  # None: not where stderr is no terminal
            row = rebuild_index(model, progress=_shown_on(bar, pace_of(model)))
        self.stdout.write(_summary(model, row))


def _shown_on(bar: tqdm[Any], pace: Pace) -> Progress:
    def progress(step: str, done: int, total: int) -> None:
        pace(step, done, total)
        bar.set_description(step, refresh=False)
        bar.set_postfix_str(pace.left(), refresh=False)
        bar.total, bar.n = total, done
        bar.refresh()

    return progress


def _summary(model: EmbeddingModel, row: IndexGeneration) -> str:
    ef_search = row.parameters["measured"].get("ef_search")
    tuned = "" if ef_search is None else f", efSearch {ef_search}"
    return (
        f"{model.pipeline}: generation {row.name}, {row.count} vectors, recall@10 {row.recall:.4f}{tuned}, "
        f"{row.build_seconds:.1f} s"
    )
