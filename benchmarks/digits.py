"""How well digits are found through the pipeline `digit`, as it runs in the site: file, crop, embedding.

    python -m benchmarks.digits
    python -m benchmarks.digits --save FOLDER     # the held-out digits as files, for benchmarks.thresholds

Every fifth digit of the sample *Digits* (index % 5 == 4, which `manage.py train_digits` never trains on) is searched
for among the others: as the sample's own file, and as photos of it that are drawn here. Then what has no digit is
searched for: how much of the collection would the page call like it?
"""

from __future__ import annotations

import argparse
import io
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import django
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Image as PILImage
from tqdm import tqdm

from benchmarks.machine import describe

PIPELINE = "digit"
DEPTHS = (1, 10, 100)
SIDE = 480  # pixels of a drawn photo
PHOTOGRAPHED = 5  # of so many held-out digits one
BATCH = 200
Vectors = NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--save", type=Path, metavar="FOLDER", help="write the held-out digits there, and measure nothing"
    )
    arguments = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "visearch_site.settings")
    django.setup()
    if arguments.save:
        save(arguments.save)
    else:
        measure()


def save(folder: Path) -> None:
    from catalog.digits.rows import held_out, of_table
    from catalog.samples.mnist import draw

    digits = of_table()
    for index in np.flatnonzero(held_out(len(digits))):
        path = folder / str(digits.labels[index]) / f"{index + 1:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(draw(digits.ink[index].tobytes()))


def measure() -> None:
    from catalog.digits.measuring import precisions
    from catalog.digits.rows import held_out, of_table
    from catalog.samples.mnist import draw
    from catalog.vision import registry

    print(describe("onnxruntime", "numpy", "opencv-python-headless"))
    about = registry.descriptions()[[each.pipeline for each in registry.descriptions()].index(PIPELINE)]
    print(f"{about.name} {about.fingerprint[:12]}")
    digits = of_table()
    apart = held_out(len(digits))
    files = (draw(ink.tobytes()) for ink in digits.ink)
    vectors = vectors_of(files, len(digits), "the sample")
    others, labels = vectors[~apart], digits.labels[~apart]

    def say(what: str, queries: Vectors, of: NDArray[np.uint8]) -> None:
        found = precisions(queries, of, others, labels, DEPTHS)
        print(f"{what:<34}" + "  ".join(f"P@{k} {value:.4f}" for k, value in zip(DEPTHS, found, strict=True)))

    print(f"{int(apart.sum())} held-out queries against {len(others)}")
    say("the sample's own files", vectors[apart], digits.labels[apart])
    chosen = np.flatnonzero(apart)[::PHOTOGRAPHED]
    print(f"photos of {len(chosen)} of the queries, which are drawn here")
    for name, photograph in PHOTOS.items():
        random = np.random.default_rng(1)
        photos = (photograph(ink, random) for ink in digits.ink[chosen])
        say(name, vectors_of(photos, len(chosen), name), digits.labels[chosen])
    print("share of the digits that are near enough to be called like it")
    limits = ("same", "near") if about.evaluation else ()
    for name, queries in {"a held-out digit": vectors[apart], **no_digits()}.items():
        distances = 1 - queries @ others.T
        within = (f"{each} {np.mean(distances <= getattr(about.evaluation, each)):.4f}" for each in limits)
        print(f"{name:<34}{'  '.join(within)}  nearest at {np.median(distances.min(axis=1)):.3f} (median)")


def vectors_of(files: Iterable[bytes], count: int, what: str) -> Vectors:
    """Through the one path of ingest and query."""
    from catalog.vision import registry
    from catalog.vision.decode import read_image
    from catalog.vision.extract import extract_many

    embedder = registry.pipeline(PIPELINE).embedders[0]
    images = ((read_image(io.BytesIO(each), None, registry.limits()), [PIPELINE]) for each in files)
    rows: list[Vectors] = []
    with tqdm(total=count, desc=what, leave=False) as bar:
        while len(rows) < count:
            batch = extract_many([next(images) for _ in range(min(BATCH, count - len(rows)))])
            rows += [each.regions[0].vectors[embedder] for each in batch]
            bar.update(len(batch))
    return np.stack(rows)


# --- Photos of a digit ------------------------------------------------------------------------------------------------

Random = np.random.Generator
Ink = NDArray[np.uint8]


def on_paper(ink: Ink, random: Random) -> bytes:
    """Dark ink on light paper, somewhere, of any size, with grain, as a JPEG."""
    return _jpeg(_painted(ink, random, _dark(random), _light(random)), random)


def on_a_board(ink: Ink, random: Random) -> bytes:
    """Light on dark."""
    return _jpeg(_painted(ink, random, _light(random), _dark(random)), random)


def in_uneven_light(ink: Ink, random: Random) -> bytes:
    """Dark on light; one side gets a third of the light of the other."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    direction = random.uniform(0, 2 * np.pi)
    light = 0.66 + 0.47 * (np.cos(direction) * x + np.sin(direction) * y)
    return _jpeg(_painted(ink, random, _dark(random), _light(random)) * light[..., None], random)


def in_colours(ink: Ink, random: Random) -> bytes:
    """Two colours that differ, whatever they are."""
    ground = random.uniform(0, 255, 3)
    other = random.uniform(0, 255, 3)
    while np.abs(other - ground).sum() < 150:
        other = random.uniform(0, 255, 3)
    return _jpeg(_painted(ink, random, other, ground), random)


def on_a_sheet(ink: Ink, random: Random) -> bytes:
    """On a sheet of paper that lies askew on a dark table."""
    paper = _painted(ink, random, _dark(random), _light(random), least=0.3)
    degrees = random.uniform(-8, 8)
    sheet = (
        Image.fromarray(paper.clip(0, 255).astype(np.uint8))
        .resize((300, 300))
        .rotate(degrees, Image.Resampling.BICUBIC, True)
    )
    where = Image.new("L", (300, 300), 255).rotate(degrees, Image.Resampling.BICUBIC, True)
    table = Image.new("RGB", (SIDE, SIDE), tuple(int(each) for each in random.uniform(60, 110, 3)))
    table.paste(sheet, (60, 50), where)
    return _jpeg(np.asarray(table, np.float64), random)


PHOTOS: dict[str, Callable[[Ink, Random], bytes]] = {
    "photos: dark on light": on_paper,
    "photos: light on dark": on_a_board,
    "photos: uneven light": in_uneven_light,
    "photos: any two colours": in_colours,
    "photos: on a sheet on a table": on_a_sheet,
}


def _painted(
    ink: Ink, random: Random, colour: NDArray[np.float64], ground: NDArray[np.float64], least: float = 0.15
) -> NDArray[np.float64]:
    """(SIDE, SIDE, 3); the digit's frame is between ``least`` and 0.9 of the photo."""
    side = int(random.uniform(least, 0.9) * SIDE)
    left, top = random.integers(0, SIDE - side, 2)
    mask = np.zeros((SIDE, SIDE, 1))
    enlarged = Image.fromarray(ink).resize((side, side), Image.Resampling.BICUBIC)
    mask[top : top + side, left : left + side, 0] = np.asarray(enlarged) / 255
    return ground * (1 - mask) + colour * mask


def _dark(random: Random) -> NDArray[np.float64]:
    return random.uniform(0, 90, 3)


def _light(random: Random) -> NDArray[np.float64]:
    return random.uniform(170, 255, 3)


def _jpeg(pixels: NDArray[np.float64], random: Random) -> bytes:
    grainy = pixels + random.normal(0, 5, pixels.shape)
    return _file(Image.fromarray(grainy.clip(0, 255).astype(np.uint8)))


def _file(image: PILImage) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=85)
    return out.getvalue()


# --- What is no digit -------------------------------------------------------------------------------------------------


def no_digits() -> dict[str, Vectors]:
    from catalog.digits.augment import shapes
    from catalog.samples import photographs, pictograms

    drawn = shapes(300, np.random.default_rng(99))  # another seed than any training's
    files = {
        "no digit: shapes as in training": [_file(Image.fromarray(255 - each).resize((112, 112))) for each in drawn],
        "no digit: the sample Objects": [sample.content() for sample in pictograms.read()][::5],
        "no digit: the sample World leaders": [sample.content() for sample in photographs.read()],
    }
    return {name: vectors_of(contents, len(contents), name) for name, contents in files.items()}


if __name__ == "__main__":
    main()
