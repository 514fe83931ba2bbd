"""Embedding models beside each other: fill a new one while the old one serves, compare them, switch, go back.

    manage.py model list                                     which there are, what they have, what is being done
    manage.py model register                                 a row for each embedder of the settings that was built
    manage.py model fill dinov2 --follow                     workers compute what it lacks, after uploads
    manage.py model compare dinov2 --collection shop         beside the one that serves, on the same labelled images
    manage.py model serve dinov2                             the switch, as soon as nothing is lacking
    manage.py model back --pipeline image                    to the one that served before
    manage.py model retire dinov2                            nothing more is computed for it; it keeps what it has
    manage.py model drop dinov2 --yes                        its embeddings, index, evaluations and head are deleted

A MODEL is the name of its embedder or, where several have one name, the beginning of its fingerprint. docs/models.md.
"""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from catalog.embedding_models import previous_model, register_models, serving_model
from catalog.exceptions import CatalogError, VisionError
from catalog.models import EmbeddingModel
from catalog.named import collection_named
from catalog.vision import registry
from search.evaluation.folders import read_folder
from search.evaluation.labelled import QueriesInCatalogue, Reading
from search.evaluation.metrics import NotMeasurable
from search.management.following import follow_filling
from search.management.named import model_named, models_of
from search.management.serving import ask_workers, go_back, serve, shown_on
from search.switching import background, comparing, removal
from search.switching.ready import Ready, ready

CANNOT = (CatalogError, VisionError, NotMeasurable, QueriesInCatalogue, ImproperlyConfigured)
MODEL = "name of its embedder; with several of one name the beginning of a fingerprint"


class Command(BaseCommand):
    help = __doc__

    def create_parser(self, *args: Any, **options: Any) -> Any:
        return super().create_parser(*args, formatter_class=RawDescriptionHelpFormatter, **options)

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

        def add(name: str, *, of_model: bool = True) -> ArgumentParser:
            action: ArgumentParser = actions.add_parser(name, help=f"see above; `model {name} --help`")
            if of_model:
                action.add_argument("model", metavar="MODEL", help=MODEL)
            action.add_argument("--pipeline", help="face, image ...", required=name == "back")
            return action

        add("list", of_model=False)
        add("register", of_model=False)
        filling = add("fill")
        filling.add_argument("--pause", action="store_true", help="stop computing; `model fill` goes on")
        filling.add_argument("--follow", action="store_true", help="show how far it is until it is done")
        comparison = add("compare")
        comparison.add_argument("--with", dest="other", metavar="MODEL", help="instead of the one that serves")
        where = comparison.add_mutually_exclusive_group(required=True)
        where.add_argument("--collection", metavar="NAME", help="each image among the others, by stored embeddings")
        where.add_argument("--folder", type=Path, metavar="PATH", help="PATH/LABEL/file, embedded by both now")
        comparison.add_argument("--queries", type=Path, metavar="PATH", help="held-out queries of a folder")
        add("serve")
        add("back", of_model=False).add_argument(
            "--now", action="store_true", help="compute nothing first: what it lacks is found when workers have done so"
        )
        add("retire")
        dropping = add("drop")
        dropping.add_argument("--yes", action="store_true", help="without it nothing is deleted: it says what would be")
        dropping.add_argument(
            "--force", action="store_true", help="also the way back, or one that heads were taught on"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        action: Callable[[dict[str, Any]], None] = getattr(self, f"_{options['action']}")
        try:
            action(options)
        except CANNOT as error:
            raise CommandError(str(error)) from error

    def _list(self, options: dict[str, Any]) -> None:
        for model in models_of(options["pipeline"]):
            state = ready(model)
            self.stdout.write(
                f"{model.state:9} {model.embedder}  {model.fingerprint[:12]}  ({model.pipeline}){_gate(model)}"
            )
            self.stdout.writelines(f"          {line}\n" for line in _lines(state))

    def _register(self, options: dict[str, Any]) -> None:
        made = [row for row in register_models() if options["pipeline"] in (None, row.pipeline)]
        for row in made:
            self.stdout.write(f"New embedding model: {row} ({row.pipeline}, {row.state})")
        for about in registry.descriptions():
            problem = registry.model_files_problem(about.name)
            if problem and options["pipeline"] in (None, about.pipeline):
                self.stderr.write(f"{about.name} cannot compute yet: {problem}", style_func=str)
        if not made:
            self.stdout.write("Nothing new: every embedder of the settings is registered, or waits for its weights.")

    def _fill(self, options: dict[str, Any]) -> None:
        model = model_named(options["model"], options["pipeline"])
        if options["pause"]:
            self.stdout.write(f"{model} is {'paused' if background.pause(model) else 'not being filled'}.")
            return
        if model.state == EmbeddingModel.State.SERVING:
            raise CommandError(f"{model} serves {model.pipeline}: uploads fill it.")
        now = background.ask(model)
        self.stdout.write(f"{model} has {now.have} of {now.total} embeddings; workers compute what is lacking.")
        ask_workers(self.stdout)
        if options["follow"]:
            follow_filling(model, self.stdout)

    def _compare(self, options: dict[str, Any]) -> None:
        model = model_named(options["model"], options["pipeline"])
        other = options["other"]
        present = model_named(other, model.pipeline) if other else serving_model(model.pipeline)
        if options["folder"]:
            pair = comparing.compare(present, model, lambda each: self._read(options, each))
        elif options["queries"]:
            raise CommandError("--queries go with --folder: a collection is compared by its own images.")
        else:
            pair = comparing.compare_on_collection(present, model, collection_named(options["collection"]))
        self.stdout.write(f"{'':30}{str(present)[:28]:30}{str(model)[:28]:30}gain")
        for line in comparing.lines(pair):
            self.stdout.write(f"{line.name:30}{line.present:30}{line.other:30}{line.gain}".rstrip())
        self.stdout.write("A gain within two standard errors may be chance. Both are kept as evaluations.")

    def _read(self, options: dict[str, Any], model: EmbeddingModel) -> tuple[Reading, Reading | None]:
        for path in filter(None, (options["folder"], options["queries"])):
            if not path.is_dir():
                raise CommandError(f"{path} is no folder.")
        with tqdm(desc=str(model), unit="image", disable=None, leave=False) as bar:
            catalogue = read_folder(options["folder"], model, as_queries=False, on_file=shown_on(bar))
            if not options["queries"]:
                return catalogue, None
            return catalogue, read_folder(options["queries"], model, as_queries=True, on_file=shown_on(bar))

    def _serve(self, options: dict[str, Any]) -> None:
        serve(model_named(options["model"], options["pipeline"]), self.stdout)

    def _back(self, options: dict[str, Any]) -> None:
        models_of(options["pipeline"])
        previous = previous_model(options["pipeline"])
        if previous is None:
            raise CommandError("No other model has served this pipeline yet.")
        go_back(previous, self.stdout, at_once=options["now"])

    def _retire(self, options: dict[str, Any]) -> None:
        model = model_named(options["model"], options["pipeline"])
        removal.retire(model, None)
        self.stdout.write(f"{model} is retired. It keeps its embeddings; `model fill` or `serve` takes it up again.")

    def _drop(self, options: dict[str, Any]) -> None:
        model = model_named(options["model"], options["pipeline"])
        loss = removal.loss_of(model)
        what = f"{loss.embeddings} embeddings, {loss.generations} generations and {loss.evaluations} evaluations"
        if not options["yes"]:
            self.stdout.write(f"{model} would be dropped with {what}. {' '.join(loss.objections)}".rstrip())
            self.stdout.write(f"Nothing was deleted. Say --yes{' and --force' if loss.objections else ''} to do it.")
            return
        with tqdm(unit=" embeddings", disable=None, leave=False) as bar:
            removal.drop(model, None, force=options["force"], told=shown_on(bar))
        self.stdout.write(f"{model} is dropped, with {what}.")


def _gate(model: EmbeddingModel) -> str:
    return "" if model.passed_gate is None else "  passed" if model.passed_gate else "  did not pass"


def _lines(state: Ready) -> list[str]:
    now = state.standing
    failed = f", {now.failed} could not be computed" if now.failed else ""
    index = f"index {state.generation}" if state.generation else "no index"
    back = ", the way back" if state.is_way_back else ""
    figures = f"{now.have} of {now.total} embeddings{failed}, {index}{back}"
    return [line for line in dict.fromkeys((figures, state.in_words, state.stopped, state.trouble)) if line]
