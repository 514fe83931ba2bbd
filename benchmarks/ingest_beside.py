"""Images a second from upload to ready, and the memory for it: this checkout beside another one, in turns, in one run.

    git worktree add ../before COMMIT
    python -m benchmarks.ingest_beside ../shared/data --before ../before [--rounds 3]

Each side runs its own code with one worker process, everything real and its own, as in benchmarks/ingest.py; the Python
and its packages are the same. Memory is the most that the worker and its children held together (proportional set
size: what they share counts once), looked for five times a second. Says SHORT and exits 1 where this side is below 0.9
of the other one's rate.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.held import family, held, looking
from benchmarks.ingest import stack_in, upload_to_ready
from benchmarks.machine import describe
from benchmarks.own_site import own_folder
from tests.stack import ROOT, Stack
from visearch_site.local.servers import local_servers

LEAST = 0.9
LOOK_SECONDS = 0.2


@dataclass
class Side:
    """One checkout: images a second and the most MB, of each round."""

    root: Path
    rates: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        rates, megabytes = statistics.median(self.rates), statistics.median(self.megabytes)
        each = ", ".join(f"{rate:.1f}" for rate in self.rates)
        return f"{rates:6.1f} images/s ({each})   at most {megabytes:.0f} MB"


def measure(stack: Stack, data: Path) -> tuple[float, float]:
    """Images a second, and the most MB that the worker and its children held together."""
    megabytes: list[float] = []

    def look() -> None:
        if (worker := stack.processes.get("worker")) is not None:
            megabytes.append(sum(held(each) for each in family(worker.pid)))

    with looking(look, LOOK_SECONDS):
        rate = upload_to_ready(stack, data)
    return rate, max(megabytes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--before", type=Path, required=True, help="a checkout of the commit to compare with")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    sides = {"before": Side(arguments.before.resolve()), "after": Side(ROOT)}
    print(describe("django", "celery", "onnxruntime", "pillow"))
    with own_folder() as folder:
        for which in sides:  # models are made by their own code
            (folder / which).mkdir()
        with local_servers(folder, fsync=True) as servers:
            for number in range(arguments.rounds):
                turn = list(sides.items())
                for which, side in turn if number % 2 == 0 else reversed(turn):
                    with stack_in(folder / which, servers, f"{which}_{number}", 1, side.root) as stack:
                        rate, megabytes = measure(stack, arguments.data.resolve())
                        side.rates.append(rate)
                        side.megabytes.append(megabytes)
    for which, side in sides.items():
        print(f"{which:<7}{side}")
    share = statistics.median(sides["after"].rates) / statistics.median(sides["before"].rates)
    print(f"{'SHORT ' if share < LEAST else ''}after is {share:.2f} x before (at least {LEAST} is asked)")
    sys.exit(share < LEAST)


if __name__ == "__main__":
    main()
