"""Measure how well labelled images are found, of a collection or of a folder of one folder per label.

    manage.py evaluate --collection shop                            each image among the others
    manage.py evaluate --folder photos/train --queries photos/val   held-out queries

docs/quality.md says what the figures mean.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from catalog.embedding_models import runnable_models, serving_model
from catalog.exceptions import CatalogError, VisionError
from catalog.models import Collection, EmbeddingModel
from catalog.named import collection_named
from catalog.vision import registry
from search.engines.durable import write_whole
from search.evaluation.collections import check_not_in, read_collection
from search.evaluation.evaluation import Evaluation, evaluate
from search.evaluation.folders import read_folder
from search.evaluation.labelled import QueriesInCatalogue, Reading
from search.evaluation.metrics import NotMeasurable
from search.evaluation.people import with_names
from search.evaluation.preview import proposal
from search.evaluation.records import CannotAdopt, adopt, keep, limits_of, metric_of
from search.evaluation.thresholds import FEW_PAIRS, NEAR_RATE, SAME_RATE
from search.evaluation.words import summary
from search.models import EvaluationRun

CANNOT = (CatalogError, VisionError, NotMeasurable, QueriesInCatalogue, CannotAdopt, ImproperlyConfigured)

TAKEN = (SAME_RATE, NEAR_RATE)  # the rates of *same* and *near*


class Command(BaseCommand):
    help = __doc__

    def create_parser(self, *args: Any, **options: Any) -> Any:
        return super().create_parser(*args, formatter_class=RawDescriptionHelpFormatter, **options)

    def add_arguments(self, parser: ArgumentParser) -> None:
        where = parser.add_mutually_exclusive_group(required=True)
        where.add_argument("--collection", metavar="NAME", help="its stored embeddings, by its labels or its people")
        where.add_argument("--folder", type=Path, metavar="PATH", help="PATH/LABEL/file")
        parser.add_argument("--queries", type=Path, metavar="PATH", help="held-out queries, PATH/LABEL/file")
        parser.add_argument("--pipeline", help="face, image ...; without it the first that fits")
        parser.add_argument("--out", type=Path, metavar="DIR", help="write evaluation.json and the figures there")
        parser.add_argument("--json", action="store_true", help="print the figures as JSON instead of words")
        parser.add_argument("--save", action="store_true", help="make the thresholds those of the model")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self._evaluate(options)
        except CANNOT as error:
            raise CommandError(str(error)) from error

    def _evaluate(self, options: dict[str, Any]) -> None:
        name = options["collection"]
        collection = None if name is None else collection_named(name)
        pipeline = _pipeline(options["pipeline"], collection)
        embeds = bool(options["folder"] or options["queries"])  # stored embeddings need no model that runs
        model = runnable_models([pipeline])[0] if embeds else serving_model(pipeline)
        for path in filter(None, (options["folder"], options["queries"])):
            if not path.is_dir():
                raise CommandError(f"{path} is no folder.")
        catalogue = read_collection(collection, model) if collection else self._read(options["folder"], model)
        queries = self._read(options["queries"], model, as_queries=True) if options["queries"] else None
        if collection and queries:
            check_not_in(queries, collection)
        evaluation = evaluate(catalogue, queries, metric_of(model))
        run = keep(evaluation, model, collection=collection)
        self._print(run, options["json"])
        if options["out"]:
            self._write(options["out"], evaluation, run)
        if options["save"]:
            self._save(run)

    def _read(self, folder: Path, model: EmbeddingModel, *, as_queries: bool = False) -> Reading:
        with tqdm(desc=str(folder), unit="image", disable=None, leave=False) as bar:

            def on_file(done: int, total: int) -> None:
                bar.total, bar.n = total, done
                bar.refresh()

            return read_folder(folder, model, as_queries=as_queries, on_file=on_file)

    def _print(self, run: EvaluationRun, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps(with_names(run.figures), indent=2))
        else:
            self.stdout.write(f"{run.embedding_model.pipeline} by {run.embedding_model}")
            self.stdout.writelines(f"{line}\n" for line in summary(with_names(run.figures)))

    def _write(self, folder: Path, evaluation: Evaluation, run: EvaluationRun) -> None:
        from search.evaluation import drawing  # noqa: PLC0415 - matplotlib, for who asks for figures only

        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / "evaluation.json", json.dumps(with_names(run.figures), indent=2).encode())
            limits = limits_of(run.embedding_model, run.figures["metric"])
            paths = drawing.save_all(folder, evaluation, run.figures, limits)
        except OSError as error:
            raise CommandError(f"{folder} cannot be written ({error.strerror}).") from error
        self._tell(f"written: {', '.join(path.name for path in paths)} and evaluation.json in {folder}")

    def _save(self, run: EvaluationRun) -> None:
        chosen = proposal(run.figures)
        if chosen is None:
            raise CommandError("Nothing was saved: there are too few pairs to choose thresholds by.")
        model = adopt(run, chosen, user=None)
        fewest = min(each["rests_on"] for each in run.figures["verification"]["thresholds"] if each["rate"] in TAKEN)
        if fewest < FEW_PAIRS:
            self._tell(f"Beware: a distance rests on {fewest} pairs of two labels. Label more and evaluate again.")
        self._tell(f"{model}: same is {model.same_distance:g} now, near {model.near_distance:g}.")

    def _tell(self, words: str) -> None:
        """Beside what is printed, which may be read by a program."""
        self.stderr.write(words, style_func=str)


def _pipeline(name: str | None, collection: Collection | None) -> str:
    """The one asked for, else the first of the settings that the collection runs. Raises UnknownPipeline."""
    if name is not None:
        return registry.pipeline(name).name
    fitting = [each for each in registry.pipelines() if collection is None or each in collection.pipelines]
    if not fitting:
        raise CommandError(f"No pipeline runs on the collection {collection}: there are no embeddings to evaluate.")
    return fitting[0]
