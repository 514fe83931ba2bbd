"""Resident memory of a real worker, with the processes that decode for it, over 5,000 images: it must stay flat.

    python -m benchmarks.memory ../shared/data [--images 5000] [--every 500] [--plot memory.png]

Everything is real and its own, as in benchmarks/ingest.py: servers, a Celery worker with one process and as many lanes
as there are cores, and `manage.py import_folder` of so many distinct images (photos of DATA and sections of them), of
which each runs the pipelines face and image. Five times a second it is looked what the worker (Celery's parent and its
process) and its decoders (catalog.vision.helper) hold resident, what processes share divided among them. Prints, for
each 500 images that became ready, the medians and the most. The first 500 do not count: by then networks are loaded and
large images were seen. Says GROWS and exits 1 where a later median of all together is more than 10 % off the first that
counts. Decoders are replaced after a thousand files each, so theirs go up and down by themselves.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.held import family, held, looking
from benchmarks.ingest import stack_in
from benchmarks.intake_kills import fill
from benchmarks.machine import describe
from benchmarks.own_site import own_folder
from tests.stack import ROOT, Stack, wait_for
from visearch_site.local.servers import local_servers

ALLOWED = 0.10
LOOK_SECONDS = 0.2
PATIENCE = 180.0  # seconds without any image becoming ready
DECODER = "catalog.vision.helper.child"
TERMINAL = (
    "SELECT count(*), count(*) FILTER (WHERE status = 'failed') FROM catalog_image WHERE status IN ('ready', 'failed')"
)


@dataclass(frozen=True, slots=True)
class Sample:
    """Megabytes at one moment."""

    worker: float
    decoders: float

    @property
    def together(self) -> float:
        return self.worker + self.decoders


@dataclass(frozen=True, slots=True)
class Mark:
    """Of the images since the mark before, up to the ``images``-th: medians in megabytes, and images a second."""

    images: int
    worker: float
    decoders: float
    together: float
    most: float
    rate: float

    def __str__(self) -> str:
        return (
            f"{self.images:6,} images  worker {self.worker:7.1f} MB  decoders {self.decoders:6.1f} MB  "
            f"together {self.together:7.1f} MB (most {self.most:.1f})  {self.rate:5.1f} images/s"
        )


class Watch:
    """What a worker held, each time it was looked at."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._samples: list[Sample] = []

    def look(self) -> None:
        sizes = [(_decodes(each), held(each)) for each in family(self._pid)]
        decoders = sum(size for decodes, size in sizes if decodes)
        self._samples.append(Sample(sum(size for _, size in sizes) - decoders, decoders))

    def taken(self) -> list[Sample]:
        """The samples since this was asked last."""
        samples, self._samples = self._samples, []
        return samples


def _decodes(process: psutil.Process) -> bool:
    try:
        return DECODER in process.cmdline()
    except psutil.Error:
        return False


def marks(stack: Stack, folder: Path, count: int, every: int) -> Iterator[Mark]:
    """One for each ``every`` images of the folder that are done with, and one at the end."""
    stack.start("worker")
    wait_for("the worker", lambda: stack.log("worker").count("networks loaded") == stack.worker_processes)
    options = ["--collection", "memory", "--pipelines", "face,image", "--no-wait"]
    command = [sys.executable, "manage.py", "import_folder", str(folder), *options]
    importing = subprocess.Popen(command, cwd=ROOT, env=stack.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    watch = Watch(stack.processes["worker"].pid)
    try:
        with looking(watch.look, LOOK_SECONDS):
            yield from _marks(stack, watch, count, every)
    finally:
        importing.kill()
        importing.wait()


def _marks(stack: Stack, watch: Watch, count: int, every: int) -> Iterator[Mark]:
    done = marked = failed = 0
    began = moved = time.monotonic()
    while done < count:
        time.sleep(LOOK_SECONDS)
        now = time.monotonic()
        before, [(done, failed)] = done, stack.sql(TERMINAL)
        moved = now if done > before else moved
        if now > moved + PATIENCE:
            raise SystemExit(f"Nothing became ready for {PATIENCE:.0f} s after {done} of {count} images.")
        if done - marked >= every or done == count:
            yield _mark(watch.taken(), done, (done - marked) / (now - began))
            marked, began = done, now
    if failed:
        print(f"{failed} images failed: the worker's log says why")


def _mark(samples: Sequence[Sample], images: int, rate: float) -> Mark:
    return Mark(
        images,
        worker=statistics.median(sample.worker for sample in samples),
        decoders=statistics.median(sample.decoders for sample in samples),
        together=statistics.median(sample.together for sample in samples),
        most=max(sample.together for sample in samples),
        rate=rate,
    )


def plot(found: Sequence[Mark], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4))
    for name, label in (("together", "together"), ("worker", "worker"), ("decoders", "decoders")):
        axes.plot([mark.images for mark in found], [getattr(mark, name) for mark in found], marker="o", label=label)
    first = found[min(1, len(found) - 1)].together
    axes.axhspan(first * (1 - ALLOWED), first * (1 + ALLOWED), alpha=0.15, label="± 10 %")
    axes.set(xlabel="images", ylabel="resident memory, MB", ylim=(0, first * 1.3))
    axes.legend()
    figure.savefig(path, dpi=120)


def verdict(found: Sequence[Mark]) -> bool:
    """Prints it; whether memory stayed flat."""
    if len(found) < 3:
        print("TOO FEW images: at least three times --every")
        return False
    first, *later = [mark.together for mark in found[1:]]
    worst = max(abs(each / first - 1) for each in later)
    print(f"{'GROWS' if worst > ALLOWED else 'FLAT'}: at most {worst:.1%} off {first:.1f} MB")
    return worst <= ALLOWED


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=5_000)
    parser.add_argument("--every", type=int, default=500)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    print(describe("django", "celery", "onnxruntime", "pillow"), f"{len(os.sched_getaffinity(0))} cores to use")
    found = []
    with own_folder() as folder:
        photos = folder / "photos"
        photos.mkdir()
        fill(photos, options.data.resolve(), options.images)
        with local_servers(folder, fsync=True) as servers, stack_in(folder, servers, "memory", 1) as stack:
            for mark in marks(stack, photos, options.images, options.every):
                print(mark, flush=True)
                found.append(mark)
    if options.plot:
        plot(found, options.plot)
    sys.exit(not verdict(found))


if __name__ == "__main__":
    main()
