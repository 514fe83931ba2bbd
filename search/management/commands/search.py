"""Search with an image file, over everything that is stored; print a table or draw a grid."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError

from catalog.exceptions import CatalogError, VisionError
from catalog.models import Collection
from catalog.named import collection_named
from catalog.vision import helper, registry
from search.exceptions import SearchError
from search.explaining import told
from search.querying import MAX_K, Answer, SearchOptions, search_by_image


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE")
        parser.add_argument("--pipeline", help="face, image, digit ...; without it faces are tried first")
        parser.add_argument("--collection", action="append", metavar="NAME", help="only there; may be repeated")
        parser.add_argument("-k", type=int, default=10, help=f"how many images, 1 to {MAX_K} (10)")
        parser.add_argument("--face", type=int, help="which of the query's regions to search with, from 0")
        parser.add_argument("--beyond-near", action="store_true", help="also what is too far to be a result")
        parser.add_argument("--explain", action="store_true", help="also say how the answer was found")
        parser.add_argument("--save-grid", type=Path, metavar="OUT.png", help="draw the query and what was found")

    def handle(self, *args: Any, **options: Any) -> None:
        path: Path = options["file"]
        if not 1 <= options["k"] <= MAX_K:
            raise CommandError(f"-k must be from 1 to {MAX_K}, not {options['k']}.")
        try:
            with path.open("rb") as file:
                answer = search_by_image(file, path.name, self._options(options))
        except OSError as error:
            raise CommandError(f"{path} cannot be read: {error.strerror}.") from error
        except (SearchError, VisionError, CatalogError) as error:
            raise CommandError(str(error)) from error
        self._print(answer)
        if options["explain"]:
            for what, said in told(answer.explanation):
                self.stdout.write(f"{what}: {said}")
        if options["save_grid"]:
            self._draw(path, options["save_grid"], answer)

    def _options(self, options: dict[str, Any]) -> SearchOptions:
        return SearchOptions(
            viewer=User(is_superuser=True),  # whoever may run commands here may see everything
            pipeline=options["pipeline"],
            k=options["k"],
            face=options["face"],
            collections=self._collections(options["collection"]),
            beyond_near=options["beyond_near"],
        )

    def _collections(self, names: list[str] | None) -> tuple[Collection, ...] | None:
        if names is None:
            return None
        return tuple(collection_named(name) for name in dict.fromkeys(names))

    def _print(self, answer: Answer) -> None:
        index = f"generation {answer.generation}" if answer.generation else "exact, no index yet"
        found = f"{len(answer.regions)} region{'' if len(answer.regions) == 1 else 's'} in the query"
        self.stdout.write(f"{answer.pipeline} by {answer.model}, {index}; {found}")
        if not answer.results:
            self.stdout.write("Nothing found." if answer.searched is not None else "There is no face in the query.")
            return
        self.stdout.write(f"{'':>3} {'distance':>8} {'similar':>7}  {'label':<20} {'collection':<20} image")
        for number, match in enumerate(answer.results, start=1):
            similar = "" if match.similarity is None else f"{match.similarity:.2f}"
            label, collection = match.image.label[:20], match.image.collection.name[:20]
            self.stdout.write(
                f"{number:>3} {match.distance:8.4f} {similar:>7}  {label:<20} {collection:<20} "
                f"{match.image.original_name} {match.image.pk}"
            )

    def _draw(self, query: Path, target: Path, answer: Answer) -> None:
        from search.figures import save_grid  # noqa: PLC0415 - matplotlib, for who asks for a figure only

        with query.open("rb") as file:
            pixels = helper.read_image(file, query.name, registry.limits()).pixels
        try:
            save_grid(target, pixels, answer)
        except (OSError, ValueError) as error:
            raise CommandError(f"{target} cannot be written: {error}") from error
        self.stdout.write(f"drawn in {target}")
