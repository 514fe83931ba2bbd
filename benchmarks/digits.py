"""How well digits are found through the pipeline `digit`, as it runs in the site: file, crop, embedding.

    python -m benchmarks.digits
    python -m benchmarks.digits --save FOLDER     # half of the held-out digits as files, for benchmarks.thresholds

Every fifth digit of the sample *Digits* (index % 5 == 4, which the committed net was never trained on) is searched for
among the others: as the sample's own file, and as photos of it that are drawn here. Then what has no digit is searched
for: how much of the collection would the page call like it? *Same* and *near* are chosen on one half of the held-out
digits (--save) and reported on the other. A net that was trained on other files is refused: it may have seen them all.

The form of photos (catalog.vision.mnist_form) was made with photos drawn of rows that are trained on, by other seeds.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import django
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from PIL.Image import Image as PILImage
from tqdm import tqdm

from benchmarks.machine import describe

PIPELINE = "digit"
DEPTHS = (1, 10, 100)
SIDE = 480  # pixels of a drawn photo
PHOTOGRAPHED = 10  # of so many held-out digits one
SEED = 2026  # of the photos; no other use was made of it
CHOOSING = slice(None, None, 2)  # of the held-out digits: those that *same* and *near* are chosen on
REPORTING = slice(1, None, 2)
BATCH = 200
CONFIDENT = 1.96  # standard errors in a 95 % interval
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
    from catalog.digits.rows import of_table
    from catalog.samples.mnist import draw

    digits = of_table()
    for index in np.flatnonzero(digits.apart)[CHOOSING]:
        path = folder / str(digits.labels[index]) / f"{index + 1:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(draw(digits.ink[index].tobytes()))


def measure() -> None:
    from catalog.digits.measuring import precisions
    from catalog.digits.rows import of_table
    from catalog.digits.training import committed_record
    from catalog.samples.mnist import draw
    from catalog.vision import registry

    digits = of_table()
    if committed_record()["files"] != digits.files:
        sys.exit("The committed net was trained on other files than this table, and may have seen its held-out rows.")
    print(describe("onnxruntime", "numpy", "opencv-python-headless"))
    about = registry.descriptions()[[each.pipeline for each in registry.descriptions()].index(PIPELINE)]
    print(f"{about.name} {about.fingerprint[:12]}")
    apart = digits.apart
    files = (draw(ink.tobytes()) for ink in digits.ink)
    vectors = vectors_of(files, len(digits), "the sample")
    others, labels = vectors[~apart], digits.labels[~apart]

    def say(what: str, queries: Vectors, of: NDArray[np.uint8]) -> None:
        found = precisions(queries, of, others, labels, DEPTHS)
        low, high = interval(found[0], len(of))
        figures = "  ".join(f"P@{k} {value:.4f}" for k, value in zip(DEPTHS, found, strict=True))
        print(f"{what:<36}{figures}  (P@1 of {len(of)}, 95 %: {low:.3f} to {high:.3f})")

    print(f"{int(apart.sum())} held-out queries against {len(others)}")
    say("the sample's own files", vectors[apart], digits.labels[apart])
    chosen = np.flatnonzero(apart)[::PHOTOGRAPHED]
    print(f"photos of {len(chosen)} of the queries, which are drawn here")
    for name, photograph in PHOTOS.items():
        random = np.random.default_rng(SEED)
        photos = (photograph(ink, random) for ink in digits.ink[chosen])
        say(name, vectors_of(photos, len(chosen), name), digits.labels[chosen])
    print("share of the digits that are near enough to be called like it")
    limits = ("same", "near") if about.evaluation else ()
    for name, queries in {"a held-out digit": vectors[apart][REPORTING], **no_digits()}.items():
        distances = 1 - queries @ others.T
        within = (f"{each} {np.mean(distances <= getattr(about.evaluation, each)):.4f}" for each in limits)
        print(f"{name:<36}{'  '.join(within)}  nearest at {np.median(distances.min(axis=1)):.3f} (median)")


def interval(share: float, count: int) -> tuple[float, float]:
    """95 % of a share of ``count`` (Wilson, Journal of the American Statistical Association 22, 1927)."""
    z = CONFIDENT**2 / count
    middle = (share + z / 2) / (1 + z)
    reach = CONFIDENT / (1 + z) * (share * (1 - share) / count + z / (4 * count)) ** 0.5
    return middle - reach, middle + reach


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

PAPER, RULE = np.array([235.0, 232.0, 225.0]), np.array([150.0, 170.0, 205.0])
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


def on_ruled_paper(ink: Ink, random: Random) -> bytes:
    """Dark on white; blue lines, level or up to two degrees aslant."""
    return _jpeg(_ruled(_painted(ink, random, _dark(random), PAPER, least=0.25), random, squared=False), random)


def on_squared_paper(ink: Ink, random: Random) -> bytes:
    return _jpeg(_ruled(_painted(ink, random, _dark(random), PAPER, least=0.4), random, squared=True), random)


def at_the_edge_of_a_shadow(ink: Ink, random: Random) -> bytes:
    """A part of the photo, with an edge somewhere in its middle half, gets half of the light."""
    return _jpeg(_in_shadow(_painted(ink, random, _dark(random), _light(random), least=0.25), random), random)


def on_ruled_paper_in_a_shadow(ink: Ink, random: Random) -> bytes:
    paper = _ruled(_painted(ink, random, _dark(random), PAPER, least=0.25), random, squared=False)
    return _jpeg(_in_shadow(paper, random), random)


def bold_and_tight(ink: Ink, random: Random) -> bytes:
    """With a thick pen, from frame to frame."""
    rows, columns = np.flatnonzero((ink > 60).any(axis=1)), np.flatnonzero((ink > 60).any(axis=0))
    digit = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = SIDE / max(digit.shape)
    size = (round(digit.shape[1] * scale), round(digit.shape[0] * scale))
    thick = Image.fromarray(digit).resize(size, Image.Resampling.BICUBIC).filter(ImageFilter.MaxFilter(15))
    mask = np.asarray(thick, np.float64)[..., None] / 255
    return _jpeg(_light(random) * (1 - mask) + _dark(random) * mask, random)


PHOTOS: dict[str, Callable[[Ink, Random], bytes]] = {
    "photos: dark on light": on_paper,
    "photos: light on dark": on_a_board,
    "photos: uneven light": in_uneven_light,
    "photos: any two colours": in_colours,
    "photos: on a sheet on a table": on_a_sheet,
    "photos: ruled paper": on_ruled_paper,
    "photos: squared paper": on_squared_paper,
    "photos: edge of a shadow": at_the_edge_of_a_shadow,
    "photos: ruled, edge of a shadow": on_ruled_paper_in_a_shadow,
    "photos: thick pen, fills its image": bold_and_tight,
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


def _ruled(paper: NDArray[np.float64], random: Random, *, squared: bool) -> NDArray[np.float64]:
    """Lines of two pixels, each 30 to 80 from the next; ink stays above them."""
    y, x = np.mgrid[:SIDE, :SIDE]
    angle, apart = np.radians(random.uniform(-2, 2)), random.uniform(30, 80)
    lines = (y * np.cos(angle) + x * np.sin(angle) + random.uniform(0, apart)) % apart < 2
    if squared:
        lines |= (x * np.cos(angle) - y * np.sin(angle) + random.uniform(0, apart)) % apart < 2
    return np.asarray(np.where(lines[..., None], np.minimum(paper, RULE), paper))


def _in_shadow(photo: NDArray[np.float64], random: Random) -> NDArray[np.float64]:
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    direction = random.uniform(0, 2 * np.pi)
    from_edge = np.cos(direction) * x + np.sin(direction) * y - random.uniform(-0.25, 0.25)
    softness = random.uniform(0.005, 0.03)  # of the side
    light = 0.5 + 0.5 / (1 + np.exp(np.clip(from_edge / softness, -50, 50)))
    return np.asarray(photo * light[..., None])


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
