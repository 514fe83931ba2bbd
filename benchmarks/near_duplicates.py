"""Altered and exact copies of photos put in after them: which are found, how many others are taken for copies.

    python -m benchmarks.near_duplicates ../shared/data/clothing [--photos 500] [--rows 100000]

On a Postgres and in folders of its own, by the code of every upload (catalog.uploads), into a collection that holds
near duplicates. The photos of FOLDER go in first and are processed: those of them that are held are distinct photos
taken for copies. Then the very same files again, with the calls of embedders counted. Then copies of each: half the
size, JPEG of quality 60, mirrored, cropped 3 % on each side; found is one whose note names the photo that it was made
of. At last the time of a lookup among ``--rows`` images whose hashes are those of the photos with 13 of 64 bits turned
over on average, beside comparing with all of them.

Says SHORT and exits 1 where fewer than 0.99 of the copies are found (cropped: 0.90), more than 0.02 of the distinct
photos are held, or a model runs for an exact copy.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from PIL import Image as Pillow
from PIL.Image import Image as PILImage
from PIL.Image import Resampling, Transpose

from benchmarks.machine import describe
from benchmarks.own_site import own_folder, own_site

PIPELINE = "image"
CROPPED = 0.03
TURNED_OVER = 0.2  # share of the bits of a hash, for strangers: 13 of 64
LOOKUPS, BATCH = 40, 16
MOST_ALARMED = 0.02


def half(photo: PILImage) -> PILImage:
    return photo.resize((max(1, photo.width // 2), max(1, photo.height // 2)), Resampling.LANCZOS)


def mirrored(photo: PILImage) -> PILImage:
    return photo.transpose(Transpose.FLIP_LEFT_RIGHT)


def cropped(photo: PILImage) -> PILImage:
    across, down = round(photo.width * CROPPED), round(photo.height * CROPPED)
    return photo.crop((across, down, photo.width - across, photo.height - down))


# what is done to a photo, the quality of the JPEG that is made of it, and the share that must be found
COPIES: dict[str, tuple[Callable[[PILImage], PILImage], int, float]] = {
    "half the size": (half, 90, 0.99),
    "JPEG 60": (lambda photo: photo, 60, 0.99),
    "mirrored": (mirrored, 90, 0.99),
    "cropped 3 % a side": (cropped, 90, 0.90),
}


def copy_of(path: Path, alter: Callable[[PILImage], PILImage], quality: int) -> bytes:
    out = io.BytesIO()
    with Pillow.open(path) as photo:
        alter(photo.convert("RGB")).save(out, "JPEG", quality=quality)
    return out.getvalue()


class Shop:
    """A collection that holds near duplicates, and the photos that were put into it."""

    def __init__(self, photos: Sequence[Path]) -> None:
        from catalog.models import Collection

        self.photos = photos
        self.row = Collection.objects.create(name="shop", pipelines=[PIPELINE], near_duplicates="hold")
        self.images: dict[Path, UUID] = {}

    def put(self, contents: Iterator[tuple[Path, bytes]]) -> dict[Path, Any]:
        """The line of each."""
        from catalog.models import IntakeJob
        from catalog.uploads import Arrival, receive_many

        job = IntakeJob.objects.create(collection=self.row, source=IntakeJob.Source.FOLDER)
        lines: dict[Path, Any] = {}
        batch: dict[Path, bytes] = {}

        def store() -> None:
            arrivals = [Arrival(io.BytesIO(content), path.name) for path, content in batch.items()]
            lines.update(zip(batch, receive_many(job, arrivals), strict=True))
            batch.clear()

        for path, content in contents:
            batch[path] = content
            if len(batch) == BATCH:
                store()
        store()
        return lines

    def put_photos(self) -> tuple[list[str], float]:
        """Verdicts, and the share of them that is held."""
        from catalog.models import Image

        lines = self.put((path, path.read_bytes()) for path in self.photos)
        self.images |= {path: line.image_id for path, line in lines.items() if path not in self.images}
        held = Image.objects.filter(pk__in=[line.image_id for line in lines.values()], status="held").count()
        return [str(line.verdict) for line in lines.values()], held / len(lines)

    def found(self, name: str) -> float:
        """The share of the copies that are held with a note of the right photo; they are deleted again."""
        from catalog.models import Image, NearDuplicate

        alter, quality, _ = COPIES[name]
        lines = self.put((path, copy_of(path, alter, quality)) for path in self.photos)
        copies = {line.image_id: self.images[path] for path, line in lines.items() if line.verdict == "stored"}
        noted = NearDuplicate.objects.filter(image__in=copies, image__status="held").values_list("image", "other")
        right = {image for image, other in noted if copies[image] == other}
        Image.objects.filter(pk__in=copies).delete()
        return len(right) / len(lines)


@contextmanager
def counted() -> Iterator[list[int]]:
    """How many crops each call of an embedder was given, in this process."""
    from catalog.vision import registry

    calls: list[int] = []
    embedder = registry.embedder(registry.pipeline(PIPELINE).embedders[0])
    embed = embedder.embed

    def counting(crops: Sequence[PILImage]) -> Any:
        calls.append(len(crops))
        return embed(crops)

    embedder.embed = counting  # type: ignore[method-assign]
    try:
        yield calls
    finally:
        embedder.embed = embed  # type: ignore[method-assign]


def process_all() -> None:
    from catalog.processing import process_batch

    while process_batch():
        pass


def release_all() -> None:
    """As if somebody kept both of every pair, so that all photos are processed."""
    from catalog.duplicates.holding import release_settled
    from catalog.models import NearDuplicate

    NearDuplicate.objects.update(decision="keep")
    release_settled()


# --- Time -------------------------------------------------------------------------------------------------------------


def add_strangers(count: int) -> Any:
    """A collection of so many rows; they have no files."""
    from catalog.models import Collection, Image

    known = np.array(list(Image.objects.exclude(phash=None).values_list("phash", flat=True)), np.int64)
    draw = np.random.default_rng(1)
    turned = np.zeros(count, np.uint64)
    for bit in range(64):
        turned |= (draw.random(count) < TURNED_OVER).astype(np.uint64) << np.uint64(bit)
    hashes = (known[draw.integers(0, len(known), count)].view(np.uint64) ^ turned).view(np.int64)
    row = Collection.objects.create(name="strangers")
    facts = {"collection": row, "format": "JPEG", "width": 1, "height": 1, "byte_size": 1, "status": "ready"}
    Image.objects.bulk_create(
        (Image(sha256=f"{n:064x}", phash=each, phash_mirrored=each, **facts) for n, each in enumerate(hashes.tolist())),
        batch_size=2000,
    )
    return row


def lookup_ms(collection: Any, size: int) -> float:
    """Median milliseconds of a lookup of ``size`` of its images, with their mirror images."""
    from catalog.duplicates.finding import near_duplicates
    from catalog.duplicates.noting import AT_MOST
    from catalog.models import Image

    images = list(Image.objects.filter(collection=collection).order_by("pk")[: size * LOOKUPS])
    for number, image in enumerate(images):
        image.phash_mirrored = images[number - 1].phash
    taken = []
    for start in range(0, len(images), size):
        began = time.perf_counter()
        near_duplicates(collection.pk, images[start : start + size], AT_MOST)
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


def comparing_with_all_ms(collection: Any) -> float:
    from django.db import connection

    query = (
        "SELECT count(*) FROM catalog_image WHERE collection_id = %s"
        " AND (bit_count((phash # %s)::bit(64)) <= 10 OR bit_count((phash # %s)::bit(64)) <= 10)"
    )
    taken = []
    for number in range(5):
        began = time.perf_counter()
        with connection.cursor() as cursor:
            cursor.execute(query, [collection.pk, 12345678 << number, 87654321 << number])
            cursor.fetchone()
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


# --- All of it --------------------------------------------------------------------------------------------------------


def measure(photos: Sequence[Path], rows: int) -> bool:
    """Prints it; whether nothing falls short."""
    shop = Shop(photos)
    with counted() as calls:
        _, alarmed = shop.put_photos()
        good = said("distinct photos held", alarmed, alarmed <= MOST_ALARMED, f"at most {MOST_ALARMED}")
        release_all()
        process_all()
        print(f"embedder: {sum(calls)} crops of {len(photos)} photos")
        calls.clear()
        verdicts, _ = shop.put_photos()
        process_all()
        exact = verdicts.count("duplicate") / len(verdicts)
        good &= said("exact copies refused as duplicates", exact, exact == 1, "all")
        good &= said("embedder calls for exact copies", len(calls), not calls, "none")
    for name, (_, _, least) in COPIES.items():
        share = shop.found(name)
        good &= said(f"found: {name}", share, share >= least, f"at least {least}")
    strangers = add_strangers(rows)
    one, batch, scan = lookup_ms(strangers, 1), lookup_ms(strangers, BATCH), comparing_with_all_ms(strangers)
    print(f"lookup among {rows:,} images: {one:.1f} ms for one, {batch / BATCH:.1f} ms each in a batch of {BATCH};")
    print(f"  comparing with all of them: {scan:.1f} ms for one (medians of {LOOKUPS} and 5)")
    return good


def said(what: str, value: float, good: bool, asked: str) -> bool:
    print(f"{'' if good else 'SHORT '}{what}: {value:.4g} (asked: {asked})")
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--rows", type=int, default=100_000)
    arguments = parser.parse_args()
    photos = sorted(arguments.folder.rglob("*.jpg"))[: arguments.photos]
    if not photos:
        parser.error(f"There are no .jpg files in {arguments.folder}.")
    print(describe("django", "psycopg", "numpy", "pillow", "imagehash"))
    with own_folder() as folder, own_site(folder):
        from django.core.management import call_command

        call_command("models", "build")
        good = measure(photos, arguments.rows)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
