"""The networks behind the pipelines: list them, fetch weights that are published, build the files, verify them."""

from __future__ import annotations

import textwrap
from argparse import ArgumentParser
from collections.abc import Container
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from catalog import embedding_models
from catalog.vision import fetching, networks, registry
from catalog.vision.errors import ModelUnavailable
from catalog.vision.fetching import Fetched, Progress
from catalog.vision.published import PUBLISHED, Published


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "action",
            nargs="?",
            choices=["list", "fetch", "build", "verify"],
            default="list",
            help="list (the default); fetch the weights NAME, if they are not here; build what is missing or damaged; "
            "verify, which fails when a file is not whole",
        )
        parser.add_argument("name", nargs="?", metavar="NAME", help=f"fetch: {', '.join(PUBLISHED)}")
        parser.add_argument("--force", action="store_true", help="build or fetch: anew, even what is whole")
        parser.add_argument("--from", dest="path", metavar="PATH", type=Path, help="fetch: take this file, no download")
        parser.add_argument("--url", default="", help="fetch: from this address, which may be http://")
        parser.add_argument("--sha256", default="", metavar="HEX", help="fetch: refuse weights with another sha256")

    def handle(self, *args: Any, **options: Any) -> None:
        if (options["action"] == "fetch") != bool(options["name"]):
            raise CommandError("`models fetch NAME` fetches weights; nothing else takes a NAME.")
        if options["action"] == "fetch":
            self._fetch(**{key: options[key] for key in ("name", "path", "url", "sha256", "force")})
        elif options["action"] == "build":
            self._build(force=options["force"])
        elif options["action"] == "verify":
            self._verify()
        else:
            self._list()

    def _list(self) -> None:
        for about in registry.descriptions():
            problem = registry.model_files_problem(about.name)
            self.stdout.write(f"{about.name}  (pipeline {about.pipeline}, {about.dimension} numbers, {about.licence})")
            self.stdout.write(f"  fingerprint  {about.fingerprint}")
            self.stdout.write(f"  source       {about.source}")
            self.stdout.write(f"  evaluation   {about.evaluation.method if about.evaluation else 'none measured'}")
            self.stdout.write(f"  files        {problem or 'whole'}")
        for name in dict.fromkeys(pipeline.detector for pipeline in registry.pipelines().values()):
            problem = registry.model_files_problem(name)
            self.stdout.write(f"{name}  (detector)\n  files        {problem or 'whole'}")
        broken = registry.taught_problems()
        for name in registry.taught():
            self.stdout.write(f"{name}  (taught)\n  files        {broken.get(name, 'whole')}")
        self._list_published()
        self.stdout.write(f"Networks run on {_runs_on()}")

    def _list_published(self) -> None:
        on = {about.name for about in registry.descriptions()}
        for item in PUBLISHED.values():
            source = item.source(registry.models_dir())
            self.stdout.write(f"{item.name}  (published weights, {'on' if item.name in on else 'off'})")
            self.stdout.write(f"  address      {item.url}")
            self.stdout.write(f"  licence      {item.licence}\n{_rights(item, indent=15)}")
            self.stdout.write(f"  weights      {source.absent() or f'fetched, sha256 {source.sha256}'}")

    def _fetch(self, *, name: str, path: Path | None, url: str, sha256: str, force: bool) -> None:
        if name not in PUBLISHED:
            raise CommandError(f"There are no published weights {name!r}, only {', '.join(PUBLISHED)}.")
        item, folder = PUBLISHED[name], registry.models_dir()
        self.stdout.write(f"{item.name}: {item.licence}\n{_rights(item, indent=2)}")
        sha256 = sha256 or registry.pinned(item)
        try:
            if path:
                fetched = fetching.take(item, folder, path, sha256=sha256)
            else:
                with tqdm(unit="B", unit_scale=True, unit_divisor=1024, disable=None, leave=False) as bar:
                    fetched = fetching.fetch(item, folder, url=url, sha256=sha256, again=force, progress=_shown_on(bar))
        except fetching.NotFetched as error:
            raise CommandError(str(error)) from error
        self._say_what_came(item, fetched, pinned=bool(sha256))

    def _say_what_came(self, item: Published, fetched: Fetched, *, pinned: bool) -> None:
        known = "as pinned" if pinned else "recorded, from now on no other is taken" if fetched.first else "as recorded"
        came = "fetched" if fetched.downloaded else "was here already"
        self.stdout.write(f"{item.path(registry.models_dir())} {came}, {fetched.record.size:,} bytes")
        self.stdout.write(f"sha256 {fetched.record.sha256} ({known})")
        if item.name in {about.name for about in registry.descriptions()}:
            self.stdout.write("Now run `manage.py models build`.")
        else:
            self.stdout.write(f"{item.name} is off: name it in VISEARCH_FACE_EMBEDDERS, see docs/models.md.")

    def _build(self, *, force: bool) -> None:
        """What cannot be built is said at the end, and is not registered; everything else is built all the same."""
        folder = registry.models_dir()
        wanted = registry.networks_in_use()
        refused: dict[str, str] = {}
        for number, network in enumerate(wanted, start=1):
            try:
                done = "built" if networks.build(network, folder, force=force) else "was whole"
            except ModelUnavailable as error:
                refused[network.name], done = str(error), "refused"
            except OSError as error:
                raise CommandError(
                    f"{network.path(folder)} cannot be written ({error.strerror}): make room, or give this user "
                    f"access to {folder}."
                ) from error
            self.stdout.write(f"[{number}/{len(wanted)}] {network.name}: {done}")
        for row in embedding_models.register_models(without=_users_of(refused)):
            self.stdout.write(f"New embedding model: {row}")
        if refused:
            raise CommandError("\n".join(refused.values()))

    def _verify(self) -> None:
        problems = registry.model_problems() | registry.taught_problems()
        named = [*(network.name for network in registry.networks_in_use()), *registry.taught(), *problems]
        for name in dict.fromkeys(named):
            self.stdout.write(f"{name}: {problems.get(name, 'whole')}")
        if problems:
            raise CommandError("\n".join([f"Of these models {len(problems)} cannot be used.", *problems.values()]))


def _users_of(network_names: Container[str]) -> set[str]:
    """The embedders that need one of these networks."""
    names = [about.name for about in registry.descriptions()]
    return {name for name in names if any(each.name in network_names for each in registry.model_networks(name))}


def _runs_on() -> str:
    """Found by starting one here: what was asked for may not start."""
    asked = f"VISEARCH_ONNX_PROVIDERS: {', '.join(registry.providers_asked_for())}"
    try:
        return f"{', '.join(registry.providers_that_work())}  ({asked})"
    except ModelUnavailable as error:
        return f"nothing  ({asked}): {error}"


def _rights(item: Published, *, indent: int) -> str:
    return textwrap.fill(item.rights, 120, initial_indent=" " * indent, subsequent_indent=" " * indent)


def _shown_on(bar: tqdm[Any]) -> Progress:
    def show(here: int, total: int | None) -> None:
        bar.total = total
        bar.update(here - bar.n)

    return show
