"""An index under SIGKILL and damage: does search go on, and does it answer right?

::

    python -m benchmarks.index_kills [--seed 1] [--vectors 8000] [--kills 3] [--damages 60]

1. A site's database with servers of its own, with clustered vectors of one model, some stored and deleted each round.
2. `manage.py rebuild_index` is killed, at least ``--kills`` times in each stage of a build (benchmarks.build_stages),
   at seeded moments.
3. Published generations are damaged: files cut short, with 1, 10 or 100 bytes flipped, zeroed, removed, taken from
   another model's or another engine's generation, a manifest of a newer format, a damaged pointer; with and without the
   generation before.
4. The same is done in place to each file of a generation that a process has open, which nobody but root can do by
   mistake. Of vectors.npy, which stays mapped, nothing is promised to that process (docs/operating.md, Indexes): what
   became of it is printed and not judged. The other process, and all other files, are judged as ever.

After each, two processes are asked: one that has been searching all along, and one that opens the index anew. A wrong
answer is one that is not what exact arithmetic over the database's rows says: other ids, other distances, or fewer. The
engine is the default one at target recall 0.999, so that what is lost to approximation does not look like damage.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from benchmarks.build_stages import STAGES, WatchedBuild
from benchmarks.machine import describe
from benchmarks.own_site import own_folder
from visearch_site.local.servers import local_servers

ROOT = Path(__file__).resolve().parent.parent
DIMENSION, QUERIES, NEIGHBOURS, SPARE = 32, 20, 10, 40
DELAYS = {"stream": 0.3, "add": 0.05, "build": 0.6, "self-test": 0.5}  # seconds; the most that is waited in a stage
TRIES = 12  # a stage may be over before the moment that was drawn
OPENED_SECONDS = 60.0  # after damage a process that has a good index open looks for a better one every 30 s

SETTINGS = """
from visearch_site.settings import *
VISEARCH_ENGINES["default"]["OPTIONS"] |= {"m": 32, "target_recall": 0.999}
"""

READER = """
import json, sys
import django
django.setup()
import numpy as np
from catalog.models import Embedding, EmbeddingModel
from search import serving
from search.engines.types import EVERYWHERE

for line in sys.stdin:
    request = json.loads(line)
    if request["anew"]:
        serving.forget()
    model = EmbeddingModel.objects.get(embedder="kills")
    answers = []
    for query in request["queries"]:
        snapshot = serving.snapshot(model)
        hits = snapshot.search(np.array(query, dtype=np.float32), request["k"], EVERYWHERE)
        alive = set(Embedding.objects.filter(id__in=hits.ids.tolist()).values_list("id", flat=True))
        kept = [(int(i), float(d)) for i, d in zip(hits.ids, hits.distances) if int(i) in alive]
        answers.append(kept[: request["neighbours"]])
    print(json.dumps({"generation": snapshot.generation, "answers": answers}), flush=True)
"""


@dataclass
class Counts:
    asked: int = 0
    wrong: int = 0
    empty: int = 0
    dead: int = 0
    by: Counter[str] = field(default_factory=Counter)

    def add(self, other: Counts) -> None:
        self.asked, self.wrong = self.asked + other.asked, self.wrong + other.wrong
        self.empty, self.dead, self.by = self.empty + other.empty, self.dead + other.dead, self.by + other.by

    def __str__(self) -> str:
        serving = ", ".join(f"{name} {count}" for name, count in sorted(self.by.items()))
        return f"{self.asked} answers: {self.wrong} wrong, {self.empty} empty, {self.dead} dead; from {serving}"


class Reader:
    """A process that searches; ``anew``: it forgets all it holds before each round, as one that has just started."""

    def __init__(self, anew: bool) -> None:
        self._anew = anew
        self.ended_by = ""  # the signal that ended the last one that died
        self._start()

    def _start(self) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [sys.executable, "-c", READER], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, cwd=ROOT, text=True
        )

    def ask(self, queries: NDArray[np.float32]) -> dict[str, Any] | None:
        """None: it died, and another one was started."""
        request = {"anew": self._anew, "queries": queries.tolist(), "k": NEIGHBOURS + SPARE, "neighbours": NEIGHBOURS}
        try:
            cast(IO[str], self.process.stdin).write(json.dumps(request) + "\n")
            cast(IO[str], self.process.stdin).flush()
            return cast("dict[str, Any]", json.loads(cast(IO[str], self.process.stdout).readline()))
        except (BrokenPipeError, json.JSONDecodeError):
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=5)
            self.process.kill()
            code = self.process.wait()
            self.ended_by = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            self._start()
            return None

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        self.stop()
        self._start()


class Site:
    """The rows, the index, and the two readers. Django is set up when this is made."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.chance, self._random = random.Random(seed), np.random.default_rng(seed)
        self._centres = self._random.normal(size=(40, DIMENSION))
        self.indexes = folder / "var" / "indexes"
        self.model, self._collection = _make_model()
        self.readers = [Reader(anew=False), Reader(anew=True)]

    def vectors(self, count: int) -> NDArray[np.float32]:
        near = self._centres[self._random.integers(0, len(self._centres), count)]
        return (near + 0.5 * self._random.normal(size=(count, DIMENSION))).astype(np.float32)

    def store(self, count: int) -> None:
        from catalog.models import Embedding, Image, Region

        images = Image.objects.bulk_create(
            [
                Image(
                    collection=self._collection,
                    sha256=os.urandom(32).hex(),
                    format="JPEG",
                    width=8,
                    height=8,
                    byte_size=1,
                )
                for _ in range(count)
            ]
        )
        regions = Region.objects.bulk_create(
            [Region(image=image, pipeline="image", x=0, y=0, width=8, height=8) for image in images]
        )
        Embedding.objects.bulk_create(
            [
                Embedding(region=region, model=self.model, dimension=DIMENSION, vector=vector.tobytes())
                for region, vector in zip(regions, self.vectors(count), strict=True)
            ]
        )

    def change(self) -> None:
        """As in a site that goes on: new rows and deleted ones since the last generation."""
        from catalog.models import Embedding

        self.store(10)
        ids = list(Embedding.objects.values_list("id", flat=True))
        Embedding.objects.filter(id__in=self.chance.sample(ids, 5)).delete()

    def check(self) -> Counts:
        """Of both processes."""
        counts = Counts()
        for each in self.check_each():
            counts.add(each)
        return counts

    def check_each(self) -> list[Counts]:
        """Ask both processes, and compare with the plain definition of nearest over the rows of the database."""
        from catalog.selectors import iter_vectors

        chunks = list(iter_vectors(self.model))
        ids = np.concatenate([chunk[0] for chunk in chunks])
        rows = np.concatenate([chunk[1] for chunk in chunks]).astype(np.float64)
        stored = rows[self._random.integers(0, len(rows), QUERIES // 2)].astype(np.float32)
        queries = np.concatenate([stored, self.vectors(QUERIES - len(stored))])
        truths = [_nearest(ids, rows, query) for query in queries]
        return [_compared(reader.ask(queries), truths, self) for reader in self.readers]

    def index(self) -> Path:
        return next(path for path in self.indexes.iterdir() if path.is_dir())

    def published(self) -> str:
        """What the pointer says, which may be damaged."""
        words = (self.index() / "current").read_bytes().decode(errors="replace").split()
        return words[0] if words else ""

    def rebuild(self) -> None:
        subprocess.run([sys.executable, "manage.py", "rebuild_index"], cwd=ROOT, check=True, capture_output=True)


def _make_model() -> tuple[Any, Any]:
    import django

    django.setup()
    from django.core.management import call_command

    from catalog.models import Collection, EmbeddingModel

    call_command("migrate", verbosity=0)
    EmbeddingModel.objects.all().delete()
    model = EmbeddingModel.objects.create(
        pipeline="image", embedder="kills", fingerprint="ab" * 32, dimension=DIMENSION, state="serving"
    )
    return model, Collection.objects.create(name="kills")


def _nearest(ids: NDArray[np.int64], rows: NDArray[np.float64], query: NDArray[np.float32]) -> list[tuple[int, float]]:
    """By cosine distance, ties by id."""
    target = query.astype(np.float64)
    distances = 1.0 - rows @ target / (np.linalg.norm(rows, axis=1) * np.linalg.norm(target))
    order = np.lexsort((ids, distances.round(12)))[:NEIGHBOURS]
    return [(int(ids[place]), float(distances[place])) for place in order]


def _compared(said: dict[str, Any] | None, truths: list[list[tuple[int, float]]], site: Site) -> Counts:
    if said is None:
        return Counts(dead=1)
    generation = said["generation"]
    source = (
        "the database" if generation is None else "the published" if generation == site.published() else "an earlier"
    )
    counts = Counts(asked=len(truths), by=Counter({source: 1}))
    for answer, truth in zip(said["answers"], truths, strict=True):
        same = [i for i, _ in answer] == [i for i, _ in truth]
        near = np.allclose([d for _, d in answer], [d for _, d in truth], atol=1e-9) if same else False
        counts.wrong += not near
        counts.empty += not answer
    return counts


# --- Kills ------------------------------------------------------------------------------------------------------------


def kills(site: Site, stages: Sequence[str], least: int) -> tuple[Counts, Counter[str]]:
    total, hits = Counts(), Counter[str]()
    for stage in stages:
        tries = 0
        while hits[stage] < least and tries < TRIES:
            tries += 1
            hit, code = kill_at(site, stage)
            counts = site.check()
            total.add(counts)
            hits[hit] += 1
            print(
                f"aimed at {stage!r}: hit {hit!r}, return code {code}, {site.published()} published; {counts}",
                flush=True,
            )
            site.change()
    return total, hits


def kill_at(site: Site, stage: str) -> tuple[str, int]:
    with tempfile.TemporaryDirectory(prefix="stages-") as name:
        command = [sys.executable, "manage.py", "rebuild_index"]
        build = WatchedBuild(command, Path(name), os.environ, stage)
        if build.wait_for(stage, site.indexes) and stage in DELAYS:
            time.sleep(site.chance.uniform(0.0, DELAYS[stage]))
        return build.kill()


# --- Damage -----------------------------------------------------------------------------------------------------------


def _overwrite(path: Path, content: bytes) -> None:
    """With as many bytes, in the very same file and never shorter meanwhile; what is published is read-only."""
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.write(content)


def _cut(path: Path, chance: random.Random) -> None:
    path.chmod(0o644)
    os.truncate(path, chance.randrange(path.stat().st_size))


def _flip(count: int) -> Callable[[Path, random.Random], None]:
    def flip(path: Path, chance: random.Random) -> None:
        content = bytearray(path.read_bytes())
        for place in chance.sample(range(len(content)), min(count, len(content))):
            content[place] ^= chance.randrange(1, 256)
        _overwrite(path, bytes(content))

    return flip


def _zero(path: Path, chance: random.Random) -> None:
    _overwrite(path, bytes(path.stat().st_size))


def _remove(path: Path, chance: random.Random) -> None:
    path.unlink()


def _newer(path: Path, chance: random.Random) -> None:
    """The whole of it as a later version of visearch would have published it."""
    _rewrite(path.parent, format_version=99)


def _of_another(**fields: str) -> Callable[[Path, random.Random], None]:
    return lambda path, chance: _rewrite(path.parent, **fields)


def _rewrite(generation: Path, **fields: Any) -> None:
    manifest = generation / "manifest.json"
    content = json.dumps({**json.loads(manifest.read_text()), **fields}).encode()
    manifest.unlink()
    manifest.write_bytes(content)
    line = f"{generation.name} {hashlib.sha256(content).hexdigest()}\n"
    (generation.parent / "current").write_text(line)


def _pointer(path: Path, chance: random.Random) -> None:
    _flip(1)(path.parent.parent / "current", chance)


DAMAGES: dict[str, Callable[[Path, random.Random], None]] = {
    "cut short": _cut,
    "1 byte flipped": _flip(1),
    "10 bytes flipped": _flip(10),
    "100 bytes flipped": _flip(100),
    "zeroed": _zero,
    "missing": _remove,
    "newer manifest": _newer,
    "of another model": _of_another(fingerprint="cd" * 32),
    "of another engine": _of_another(engine="exact"),
    "damaged pointer": _pointer,
}


def damages(site: Site, count: int) -> Counts:
    """Each in a fresh copy; with the generation before in every other one."""
    site.rebuild()
    site.change()
    site.rebuild()
    site.change()
    total, whole = Counts(), site.folder / "whole"
    shutil.copytree(site.index(), whole)
    by_kind: dict[str, Counts] = {}
    for (kind, damage), file, has_before in _damages(whole, count, site.chance):
        index = _restored(site, whole)
        damage(index / site.published() / file, site.chance)
        if not has_before:
            (index / "before").unlink()
        counts = site.check()
        by_kind.setdefault(kind, Counts()).add(counts)
        total.add(counts)
    for kind, counts in by_kind.items():
        print(f"{kind}: {counts}", flush=True)
    return total


def _restored(site: Site, whole: Path) -> Path:
    index = site.index()
    shutil.rmtree(index)
    shutil.copytree(whole, index)
    return index


def _opened(site: Site) -> Counts:
    """Ask until both processes answer from what is published, which one that has a good index opens in its own time."""
    total, until = Counts(), time.monotonic() + OPENED_SECONDS
    while time.monotonic() < until:
        counts = site.check()
        total.add(counts)
        if counts.by["the published"] == len(site.readers):
            return total
        time.sleep(1)
    raise RuntimeError(f"the published generation is not opened: {total}")


IN_PLACE = ("cut short", "100 bytes flipped", "zeroed")
MAPPED = "vectors.npy"


def damages_in_place(site: Site) -> Counts:
    """Of files that the first process has open; the second opens them anew afterwards."""
    total, whole = Counts(), site.folder / "whole"
    for file in sorted(path.name for path in (whole / site.published()).iterdir()):
        for kind in IN_PLACE:
            index = _restored(site, whole)
            total.add(_opened(site))
            DAMAGES[kind](index / site.published() / file, site.chance)
            holder, other = site.check_each()
            total.add(other)
            if file == MAPPED:
                end = f" by {site.readers[0].ended_by}" if holder.dead else ""
                print(f"{file} {kind} while it is mapped (nothing is promised): {holder}{end}", flush=True)
                site.readers[0].restart()  # what it has mapped stays damaged, until it has opened another
            else:
                total.add(holder)
    _restored(site, whole)
    return total


def _damages(
    whole: Path, count: int, chance: random.Random
) -> Iterator[tuple[tuple[str, Callable[[Path, random.Random], None]], str, bool]]:
    generation = whole / (whole / "current").read_text().split()[0]
    files = sorted(path.name for path in generation.iterdir())
    kinds = list(DAMAGES.items())
    for number in range(count):
        yield kinds[number % len(kinds)], chance.choice(files), number // len(kinds) % 2 == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--vectors", type=int, default=8_000)
    parser.add_argument("--kills", type=int, default=3, help="the least in each stage")
    parser.add_argument("--stages", nargs="*", choices=STAGES, default=STAGES)
    parser.add_argument("--damages", type=int, default=60)
    arguments = parser.parse_args()
    print(describe("nmslib", "numpy", "django"), f"{arguments.vectors} vectors, seed {arguments.seed}", flush=True)
    with own_folder() as folder, local_servers(folder / "servers") as servers:
        (folder / "kills_settings.py").write_text(SETTINGS)
        sys.path.insert(0, str(folder))
        os.environ.update(
            DJANGO_SETTINGS_MODULE="kills_settings",
            PYTHONPATH=os.pathsep.join([str(folder), str(ROOT)]),
            SECRET_KEY="only for this run",
            DATABASE_URL=servers.database_url,
            REDIS_URL=servers.redis_url,
            VISEARCH_VAR=str(folder / "var"),
            LOG_LEVEL="CRITICAL",
        )
        good = run(Site(folder, arguments.seed), arguments)
    print("all held" if good else "NOT all held")
    sys.exit(0 if good else 1)


def run(site: Site, arguments: argparse.Namespace) -> bool:
    site.store(arguments.vectors)
    site.rebuild()
    try:
        killed, hits = kills(site, arguments.stages, arguments.kills)
        damaged = damages(site, arguments.damages)
        in_place = damages_in_place(site)
        site.rebuild()
        last = site.check()
    finally:
        for reader in site.readers:
            reader.stop()
    left = [path.name for path in site.index().iterdir() if path.name.startswith("building-")]
    print(f"kills by stage: {', '.join(f'{stage} {hits[stage]}' for stage in STAGES)}")
    print(f"after kills: {killed}")
    print(f"after {arguments.damages} damages: {damaged}")
    print(f"after damage in place, but to who has {MAPPED} mapped: {in_place}")
    print(f"after the last build: {last}; drafts left: {left}")
    totals = Counts()
    for each in (killed, damaged, in_place, last):
        totals.add(each)
    missed = [stage for stage in arguments.stages if hits[stage] < arguments.kills]
    if missed:
        print(f"not hit often enough: {', '.join(missed)}")
    return not (totals.wrong or totals.empty or totals.dead or left or missed)


if __name__ == "__main__":
    main()
