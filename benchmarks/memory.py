"""Resident memory while extract_many() works through many images: it must stay flat.

    python -m benchmarks.memory ../shared/data [--images 5000] [--lanes 1] [--plot memory.png]

One process, as a worker has: networks on one thread, ``--lanes`` batches of 16 at once. Photos of faces (pipeline face)
and clothes (pipeline image) of DATA take turns, each in an order of chance that is always the same, again and again.
Prints a line each 500 images. The first 500 do not count: by then networks are loaded and the largest images were seen.
Says GROWS and exits 1 where a later line is more than 10 % off the first that counts. Needs built models.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, cycle, islice
from pathlib import Path

import psutil

from benchmarks.machine import describe

SETS = (("faces", "face"), ("clothing", "image"))
EACH, WARM = 500, 500
BATCH = 16
ALLOWED = 0.10

Job = tuple[Path, str]  # a file and its pipeline


@dataclass(frozen=True, slots=True)
class Mark:
    """Memory after so many images."""

    images: int
    megabytes: float
    regions: int
    rate: float  # images a second since the last mark

    def __str__(self) -> str:
        return f"{self.images:6,} images  {self.megabytes:7.1f} MB  {self.rate:5.1f} images/s  {self.regions:,} regions"


def jobs(data: Path, count: int) -> Iterator[Job]:
    """``count`` files of both sets in turn."""
    turns = []
    for folder, pipeline in SETS:
        found = [(path, pipeline) for path in sorted((data / folder).rglob("*.jpg"))]
        random.Random(1).shuffle(found)
        turns += [cycle(found)] if found else []
    if not turns:
        raise SystemExit(f"There are no .jpg files in {data}/faces and {data}/clothing.")
    return islice(chain.from_iterable(zip(*turns, strict=False)), count)


def extract_batch(batch: Sequence[Job]) -> int:
    """How many regions they have."""
    from catalog.vision import registry
    from catalog.vision.decode import read_image
    from catalog.vision.extract import extract_many
    from catalog.vision.types import DecodedImage

    def decoded() -> Iterator[tuple[DecodedImage, list[str]]]:
        for path, pipeline in batch:
            with path.open("rb") as file:
                yield read_image(file, path.name, registry.limits()), [pipeline]

    return sum(len(extraction.regions) for extraction in extract_many(decoded()))


def measure(data: Path, count: int, lanes: int) -> Iterator[Mark]:
    """A mark each EACH images, and one at the end."""
    files, process = jobs(data, count), psutil.Process()
    done = regions = marked = 0
    began = time.perf_counter()
    with ThreadPoolExecutor(lanes) as pool:
        while turn := [batch for _ in range(lanes) if (batch := list(islice(files, BATCH)))]:
            regions += sum(pool.map(extract_batch, turn))
            done += sum(map(len, turn))
            if done - marked >= EACH or done == count:
                now = time.perf_counter()
                yield Mark(done, process.memory_info().rss / 1e6, regions, (done - marked) / (now - began))
                marked, began = done, now


def plot(marks: Sequence[Mark], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4))
    axes.plot([mark.images for mark in marks], [mark.megabytes for mark in marks], marker="o")
    first = next((mark.megabytes for mark in marks if mark.images >= WARM), marks[0].megabytes)
    axes.axhspan(first * (1 - ALLOWED), first * (1 + ALLOWED), alpha=0.15, label="± 10 %")
    axes.set(xlabel="images", ylabel="resident memory, MB", ylim=(0, first * 1.3))
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=5_000)
    parser.add_argument("--lanes", type=int, default=1)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()

    os.environ.setdefault("VISEARCH_THREADS", "1")
    for name in ("SECRET_KEY", "DATABASE_URL", "REDIS_URL"):
        os.environ.setdefault(name, "redis://unused" if name == "REDIS_URL" else "postgres://unused/unused")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "visearch_site.settings")
    import django

    django.setup()
    print(describe("onnxruntime", "opencv-python-headless", "pillow"))
    marks = []
    for mark in measure(options.data, options.images, options.lanes):
        print(mark, flush=True)
        marks.append(mark)
    if options.plot:
        plot(marks, options.plot)
    counted = [mark.megabytes for mark in marks if mark.images >= WARM]
    worst = max((abs(value / counted[0] - 1) for value in counted), default=0.0)
    print(
        f"{'GROWS' if worst > ALLOWED else 'FLAT'}: at most {worst:.1%} off {counted[0]:.1f} MB"
        if counted
        else "TOO FEW"
    )
    sys.exit(worst > ALLOWED or not counted)


if __name__ == "__main__":
    main()
