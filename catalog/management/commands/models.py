"""The networks behind the pipelines: list them, build their files from the packages' weights, verify the files."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from catalog import embedding_models
from catalog.vision import networks, registry
from catalog.vision.errors import ModelUnavailable


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "action",
            nargs="?",
            choices=["list", "build", "verify"],
            default="list",
            help="list (the default); build what is missing or damaged; verify, which fails when a file is not whole",
        )
        parser.add_argument("--force", action="store_true", help="build: anew, even what is whole")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["action"] == "build":
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

    def _build(self, *, force: bool) -> None:
        folder = registry.models_dir()
        wanted = registry.networks_in_use()
        for number, network in enumerate(wanted, start=1):
            try:
                built = networks.build(network, folder, force=force)
            except ModelUnavailable as error:
                raise CommandError(str(error)) from error
            except OSError as error:
                raise CommandError(
                    f"{network.path(folder)} cannot be written ({error.strerror}): make room, or give this user "
                    f"access to {folder}."
                ) from error
            self.stdout.write(f"[{number}/{len(wanted)}] {network.name}: {'built' if built else 'was whole'}")
        for row in embedding_models.register_models():
            self.stdout.write(f"New embedding model: {row}")

    def _verify(self) -> None:
        problems = registry.model_problems()
        for network in registry.networks_in_use():
            self.stdout.write(f"{network.name}: {problems.get(network.name, 'whole')}")
        if problems:
            raise CommandError(f"{len(problems)} of the model files are not whole: {networks.REMEDY}.")
