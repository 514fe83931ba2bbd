"""Images a second of the article's stack, of ours with the same network, and of ours with the default one, in one run.

    python -m benchmarks.vision [DATA] [--rounds 5]

The same files on every side (the committed photos and DATA/faces, without DATA ../shared/data where it is there),
decoded from the file by each in each job, also in "detection alone"; the longest side capped at 640 px, faces from
20 px on, MTCNN at the package's thresholds (the site asks for a little more), all on the processor. Each side is a
process of its own that has loaded and seen every file once; in each round every side does each job once, one after the
other, and another one begins each round. The article's: mtcnn on TensorFlow and keras-vggface's resnet50, on weights
that keras-vggface saved itself (random: they cost what others do); mtcnn runs on tf-keras, too, where it takes three
quarters of the time that it takes on Keras 3 (24 photos, three times, in turns). Medians, with the least and the most.
Says SHORT and exits 1 where a ratio to the article's stack falls short of what is asked.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.machine import describe
from benchmarks.parity import photo_files
from catalog.vision import cards, networks, published
from catalog.vision.cards import PinOptions
from catalog.vision.originals.client import ON_CPU
from catalog.vision.originals.packages import MTCNN_ON_TENSORFLOW, VGGFACE_ON_TENSORFLOW
from catalog.vision.originals.vggface import original

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = published.PUBLISHED["vggface2-resnet50"]
SIDES = {
    "article": "the article's stack",
    "resnet50": "ours, the same resnet50",
    "default": "ours, the default dlib-resnet",
    "default-40": "the same, faces from 40 px on",
}
# Side, job, and how many times the article's images a second are asked.
ASKED = (("default", "vectors", 3.5), ("resnet50", "vectors", 2.0), ("default", "faces", 4.5))
JOBS = {"vectors": "to vectors", "faces": "detection alone"}


@dataclass(frozen=True)
class Run:
    seconds: float
    faces: int
    memory: float  # MB


Runs = Mapping[tuple[str, str], Sequence[Run]]  # of a side at a job


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    missing = VGGFACE_ON_TENSORFLOW.problem("keras-vggface") or MTCNN_ON_TENSORFLOW.problem("mtcnn-tensorflow")
    if missing:
        sys.exit(missing)
    files = [path.resolve() for path in photo_files(arguments.data)]
    print(describe("mtcnn", "keras-vggface", "tensorflow", "tf-keras", "onnxruntime", "opencv-python-headless"))
    print(f"{len(files)} photos, {arguments.rounds} rounds, load before: {os.getloadavg()[0]:.2f}")
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        sha256 = _prepare(Path(name))
        sides = {side: stack.enter_context(_side(side, Path(name), sha256, files)) for side in SIDES}
        runs = _measure(sides, arguments.rounds)
    _print_table(runs, len(files))
    sys.exit(0 if _print_ratios(runs) else 1)


def _prepare(folder: Path) -> str:
    """Builds every network into ``folder``; the sha256 of the resnet50's weights."""
    file = WEIGHTS.path(folder)
    file.parent.mkdir(parents=True)
    with closing(original("resnet50", answer_seconds=600)) as keras:
        arguments = {"network": "resnet50", "classifier": False, "path": str(file), "seed": 4}
        keras.ask("save", **{key: np.array(value) for key, value in arguments.items()})
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    vgg = cards.VGGFACE2_RESNET50.make(PinOptions(sha256), folder)
    for network in (*cards.MTCNN.networks, *cards.DLIB_RESNET.networks, *vgg.networks):
        networks.build(network, folder)
    return sha256


class _Side:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, job: str) -> Run:
        assert self._process.stdin
        self._process.stdin.write(f"{job}\n")
        self._process.stdin.flush()
        return Run(**json.loads(self.line()))

    def line(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            sys.exit("a side ended; its words are above")
        return line


@contextmanager
def _side(name: str, folder: Path, sha256: str, files: Sequence[Path]) -> Iterator[_Side]:
    command = [sys.executable, "-m", "benchmarks.vision_sides", name, sha256, str(WEIGHTS.path(folder))]
    environment = {
        **os.environ,
        "SECRET_KEY": "benchmark",
        "DATABASE_URL": "postgres://nobody/nowhere",
        "REDIS_URL": "redis://nowhere",
        "VISEARCH_MODELS": str(folder),
        "VISEARCH_ONNX_PROVIDERS": "CPU",
        **ON_CPU,
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    process = subprocess.Popen(
        [*command, *map(str, files)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    try:
        side = _Side(process)
        side.line()
        yield side
    finally:
        process.kill()
        process.wait()


def _measure(sides: Mapping[str, _Side], rounds: int) -> Runs:
    runs: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for number in range(rounds + 1):
        for job in JOBS:
            for name in turn(list(sides), number):
                run = sides[name].run(job)
                print(f"round {number}  {name:<11} {job:<8} {run.seconds:6.2f} s, {run.faces} faces", flush=True)
                if number:  # the first is for warming up
                    runs[name, job].append(run)
    return runs


def turn(names: Sequence[str], number: int) -> list[str]:
    """The order of round ``number``: each begins in its turn, so that none always comes after the same one."""
    first = number % len(names)
    return [*names[first:], *names[:first]]


def _seconds(runs: Runs, side: str, job: str) -> float:
    return statistics.median(run.seconds for run in runs[side, job])


def _ratios(runs: Runs, side: str, job: str) -> list[float]:
    """How many times the article's images a second, in each round."""
    return [theirs.seconds / mine.seconds for theirs, mine in zip(runs["article", job], runs[side, job], strict=True)]


def spanned(values: Sequence[float]) -> str:
    """Median, and in brackets the least and the most."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def _print_table(runs: Runs, images: int) -> None:
    heads = (("to vectors", 22), ("ratio", 20), ("detection", 22), ("ratio", 20), ("memory", 10), ("faces", 8))
    print(f"\n{'images a second':<34}" + "".join(f"{head:>{width}}" for head, width in heads))
    for side, what in SIDES.items():
        row = f"{what:<34}"
        for job in JOBS:
            row += f"{spanned([images / run.seconds for run in runs[side, job]]):>22}"
            row += f"{spanned(_ratios(runs, side, job)):>20}"
        last = runs[side, "vectors"][-1]
        print(f"{row}{max(run.memory for run in runs[side, 'faces']):>7.0f} MB{last.faces:>8}")
    print()


def _print_ratios(runs: Runs) -> bool:
    good = True
    for side, job, asked in ASKED:
        ratio = _seconds(runs, "article", job) / _seconds(runs, side, job)
        good &= ratio >= asked
        rounds = spanned(_ratios(runs, side, job))
        print(
            f"{'ok   ' if ratio >= asked else 'SHORT'} {SIDES[side]}, {JOBS[job]}: {ratio:.2f} x by medians "
            f"(asked {asked} x), by rounds {rounds}"
        )
    return good


if __name__ == "__main__":
    main()
