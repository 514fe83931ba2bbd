"""The folder of an index lives through builders that die at any moment and readers that open at any moment."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from search.engines import folder_writer, generations
from search.engines.errors import BuildFailed
from search.engines.exact import Exact
from search.engines.generations import Generations
from search.engines.nmslib_hnsw import NmslibHnsw
from search.engines.protocols import IndexEngine, IndexReader, IndexWriter
from search.engines.types import IndexSpec, Metric
from tests.search.engines.contract import DIMENSION, Stored, clustered

BUILDER = """
import sys
from pathlib import Path
import numpy as np
from search.engines.exact import Exact
from search.engines.nmslib_hnsw import NmslibHnsw
from search.engines.types import IndexSpec, Metric

root, kind, count, rounds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
engine = {"exact": Exact, "nmslib": NmslibHnsw}[kind]()
spec = IndexSpec(root, "ab" * 32, 24, Metric.L2, engine.check_options({}))
vectors = np.random.default_rng(0).normal(size=(count, 24)).astype(np.float32)
print("ready", flush=True)
for _ in range(rounds):
    writer = engine.start(spec)
    writer.add(np.arange(count) + 1, vectors, np.zeros(count, dtype=np.int64))
    writer.publish()
"""


def spec_of(root: Path, engine: IndexEngine) -> IndexSpec:
    return IndexSpec(root, "ab" * 32, DIMENSION, Metric.L2, engine.check_options({}))


def written(engine: IndexEngine, root: Path, count: int) -> IndexWriter:
    stored = Stored.of(clustered(count))
    writer = engine.start(spec_of(root, engine))
    writer.add(stored.ids, stored.vectors, stored.collections)
    return writer


def publish(engine: IndexEngine, root: Path, count: int) -> IndexReader:
    written(engine, root, count).publish()
    return engine.open(spec_of(root, engine))


def builder(root: Path, kind: str, count: int, rounds: int) -> psutil.Popen:
    command = [sys.executable, "-c", BUILDER, str(root), kind, str(count), str(rounds)]
    process = psutil.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout.readline() == b"ready\n"
    return process


def folders(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.is_dir())


def test_kill_9_while_the_graph_is_built(tmp_path: Path) -> None:
    engine = NmslibHnsw()
    served = publish(engine, tmp_path, 50).generation
    process = builder(tmp_path, "nmslib", 60_000, 1)
    until = time.monotonic() + 60
    while not (children := process.children()):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert "search.engines.graph_build" in children[0].cmdline()
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive, "the builder's child must end with it"
    assert engine.open(spec_of(tmp_path, engine)).generation == served
    assert any(name.startswith("building-") for name in folders(tmp_path))

    after = publish(engine, tmp_path, 60)  # sweeps the dead draft away
    assert folders(tmp_path) == sorted([served, after.generation])


def test_kill_9_at_any_moment_leaves_a_whole_generation(tmp_path: Path) -> None:
    engine, seeded = Exact(), random.Random(7)
    publish(engine, tmp_path, 50)
    for _ in range(3):
        process = builder(tmp_path, "exact", 2_000, 100_000)
        time.sleep(seeded.uniform(0.0, 1.0))
        process.kill()
        process.wait()
        reader = engine.open(spec_of(tmp_path, engine))
        assert len(reader.search(clustered(1)[0], 60)) in (50, 60)
        later = publish(engine, tmp_path, 50)
        assert later.generation > reader.generation
        assert not [name for name in folders(tmp_path) if name.startswith("building-")]


def test_readers_that_open_while_generations_come_and_go(tmp_path: Path) -> None:
    """Every open finds one whole generation, though it may be pruned while being opened."""
    engine = Exact()
    publish(engine, tmp_path, 1)
    over, failures, opened = threading.Event(), [], set()

    def keep_opening() -> None:
        try:
            while not over.is_set():
                reader = engine.open(spec_of(tmp_path, engine))
                assert len(reader.search(clustered(1)[0], 1_000)) == reader.count
                opened.add(reader.generation)
        except Exception as error:  # noqa: BLE001 - reported below, in the test's own thread
            failures.append(error)

    readers = [threading.Thread(target=keep_opening) for _ in range(3)]
    for thread in readers:
        thread.start()
    for count in range(2, 7):
        publish(engine, tmp_path, count)
    over.set()
    for thread in readers:
        thread.join()
    assert failures == []
    assert len(opened) > 1


def test_only_the_serving_generation_and_the_one_before_are_kept(tmp_path: Path) -> None:
    names = [publish(Exact(), tmp_path, count).generation for count in range(1, 4)]
    assert folders(tmp_path) == names[-2:]


def test_what_is_published_cannot_be_altered_in_place_by_mistake(tmp_path: Path) -> None:
    """By the site's own user: root may do everything. What is no longer needed is removed all the same."""
    names = [publish(NmslibHnsw(), tmp_path, count).generation for count in (10, 20)]
    files = [path for name in names for path in (tmp_path / name).iterdir()]
    assert len(files) == 14
    assert {oct(path.stat().st_mode & 0o222) for path in files} == {"0o0"}
    assert {oct(path.stat().st_mode & 0o400) for path in files} == {"0o400"}
    publish(NmslibHnsw(), tmp_path, 30)
    assert names[0] not in folders(tmp_path)


def test_a_living_draft_is_not_swept_away(tmp_path: Path) -> None:
    first, second = written(Exact(), tmp_path, 10), written(Exact(), tmp_path, 20)
    assert len(folders(tmp_path)) == 2
    second.discard()
    assert first.publish().count == 10  # the other one has given up, so nothing overtook it


def test_numbers_grow_past_a_lost_pointer(tmp_path: Path) -> None:
    before = publish(Exact(), tmp_path, 10).generation
    (tmp_path / "current").unlink()
    assert publish(Exact(), tmp_path, 20).generation > before


@pytest.mark.parametrize("step", ["write_whole", "flush"])
def test_a_publication_that_fails_half_way_changes_nothing(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk says no after the files are complete: while the draft is flushed, or when the pointer is written."""
    served = publish(Exact(), tmp_path, 10).generation
    writer = written(Exact(), tmp_path, 20)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(generations, step, full)
        with pytest.raises(BuildFailed, match="No space left"):
            writer.publish()
    writer.discard()
    assert folders(tmp_path) == [served]
    assert Exact().open(spec_of(tmp_path, Exact())).generation == served


def damage(root: Path, generation: str) -> None:
    """As a disk does that loses a bit: in a file of another inode, since the old one may be open."""
    path = root / generation / "vectors.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.unlink()
    path.write_bytes(content)


def test_a_damaged_generation_does_not_push_out_the_good_one_before_it(tmp_path: Path) -> None:
    """A build heals what serves; that build damaged too, the last good one still answers."""
    engine = Exact()
    good = publish(engine, tmp_path, 10).generation
    damage(tmp_path, publish(engine, tmp_path, 20).generation)
    assert engine.open(spec_of(tmp_path, engine)).generation == good
    healed = publish(engine, tmp_path, 30).generation
    assert engine.open(spec_of(tmp_path, engine)).generation == healed
    assert folders(tmp_path) == [good, healed]
    damage(tmp_path, healed)
    assert engine.open(spec_of(tmp_path, engine)).generation == good


def test_a_build_that_cannot_begin_leaves_no_draft_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lock would keep the folder for as long as the worker lives."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    open_files = psutil.Process().num_fds()
    with monkeypatch.context() as patched:
        patched.setattr(folder_writer, "RowWriter", full)
        for _ in range(3):
            with pytest.raises(OSError, match="No space left"):
                Exact().start(spec_of(tmp_path, Exact()))
    assert folders(tmp_path) == []
    assert psutil.Process().num_fds() == open_files


def test_a_pointer_that_could_not_be_written_leaves_nothing_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(Exact(), tmp_path, 10)
    before = sorted(path.name for path in tmp_path.iterdir())
    writer, replace = written(Exact(), tmp_path, 20), Path.replace

    def full(self: Path, target: Path) -> Path:
        if target.name == "current":
            raise OSError(28, "No space left on device")
        return replace(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        with pytest.raises(BuildFailed, match="No space left"):
            writer.publish()
    writer.discard()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*before, "before"])


def test_a_pointer_that_somebody_died_writing_is_swept_away(tmp_path: Path) -> None:
    publish(Exact(), tmp_path, 10)
    aside = tmp_path / "current.tmp-4711"
    aside.write_bytes(b"0000")
    assert Generations(tmp_path).unneeded() == [aside]
    publish(Exact(), tmp_path, 20)
    assert not aside.exists()


def test_what_may_serve_is_not_discarded_while_the_pointer_cannot_be_read(tmp_path: Path) -> None:
    writer = written(Exact(), tmp_path, 10)
    writer.publish()
    pointer = (tmp_path / "current").rename(tmp_path / "away")
    (tmp_path / "current").mkdir()
    writer.discard()
    (tmp_path / "current").rmdir()
    pointer.rename(tmp_path / "current")
    assert Exact().open(spec_of(tmp_path, Exact())).count == 10


def test_two_builders_at_once(tmp_path: Path) -> None:
    """Two processes: the one that began later publishes, the other is refused though it is ready sooner or later."""
    program = f"""
import sys
from pathlib import Path
import numpy as np
from search.engines.errors import BuildFailed
from search.engines.exact import Exact
from search.engines.types import IndexSpec, Metric
count = int(sys.argv[1])
writer = Exact().start(IndexSpec(Path({str(tmp_path)!r}), "ab" * 32, {DIMENSION}, Metric.L2, {{}}))
writer.add(np.arange(count), np.ones((count, {DIMENSION})), np.zeros(count, dtype=np.int64))
print("ready", flush=True)
sys.stdin.read(1)
try:
    print(writer.publish().generation)
except BuildFailed as error:
    writer.discard()
    print(error)
"""
    served = publish(Exact(), tmp_path, 10).generation
    builders = []
    for count in ("20", "30"):
        command = [sys.executable, "-c", program, count]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        builders.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    older, newer = builders
    refused, _ = older.communicate("g")
    assert "was overtaken by another builder (number 3)" in refused
    assert Exact().open(spec_of(tmp_path, Exact())).generation == served
    said, _ = newer.communicate("g")
    reader = Exact().open(spec_of(tmp_path, Exact()))
    assert (reader.generation, reader.count) == (said.strip(), 30)
    assert folders(tmp_path) == [served, reader.generation]


def test_readers_that_are_killed_while_a_generation_is_published(tmp_path: Path) -> None:
    """They leave nothing behind that holds up a builder or another reader."""
    program = f"""
from pathlib import Path
import numpy as np
from search.engines.exact import Exact
from search.engines.types import IndexSpec, Metric
spec = IndexSpec(Path({str(tmp_path)!r}), "ab" * 32, {DIMENSION}, Metric.L2, {{}})
print("ready", flush=True)
while True:
    Exact().open(spec).search(np.ones({DIMENSION}), 5)
"""
    seeded = random.Random(3)
    publish(Exact(), tmp_path, 10)
    for count in (20, 30, 40):
        reader = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
        assert reader.stdout is not None
        reader.stdout.readline()
        killer = threading.Timer(seeded.uniform(0.0, 0.8), reader.kill)
        killer.start()
        publish(Exact(), tmp_path, count)
        killer.join()
        reader.wait()
        reader.stdout.close()
        assert reader.returncode == -9
        assert Exact().open(spec_of(tmp_path, Exact())).count == count
    assert len(folders(tmp_path)) == 2


@pytest.mark.parametrize(("count", "beyond_rows"), [(12_000, -1), (4_000, 1_000)], ids=["rows", "graph"])
def test_a_disk_that_fills_up_during_a_build(small_disk: Path, count: int, beyond_rows: int) -> None:
    """While rows are written, or while the graph is saved by a library that may not notice.

    Where no disk can be mounted, the kernel's limit on a file's size stands for it, so far beyond the vectors' bytes.
    """
    served = publish(NmslibHnsw(), small_disk, 10).generation
    program = f"""
import resource, sys
from pathlib import Path
import numpy as np
from search.engines.errors import BuildFailed
from search.engines.nmslib_hnsw import NmslibHnsw
from search.engines.types import IndexSpec, Metric
if not {small_disk.is_mount()!r}:
    resource.setrlimit(resource.RLIMIT_FSIZE, ({count} * {DIMENSION} * 4 + {beyond_rows},) * 2)
engine = NmslibHnsw()
spec = IndexSpec(Path({str(small_disk)!r}), "ab" * 32, {DIMENSION}, Metric.L2, engine.check_options({{}}))
writer = engine.start(spec)
vectors = np.random.default_rng(0).normal(size=({count}, {DIMENSION}))
try:
    writer.add(np.arange({count}), vectors, np.zeros({count}, dtype=np.int64))
    writer.publish()
except (BuildFailed, OSError) as error:
    writer.discard()
    print("refused", error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("refused"), done.stderr
    assert folders(small_disk) == [served]
    reader = NmslibHnsw().open(spec_of(small_disk, NmslibHnsw()))
    assert len(reader.search(clustered(1)[0], 20)) == 10
    assert publish(NmslibHnsw(), small_disk, 20).count == 20  # there is room again


def test_a_disk_that_fills_up_while_rows_are_written(tmp_path: Path) -> None:
    """The kernel's own limit on a file's size stands for the full disk."""
    served = publish(Exact(), tmp_path, 10).generation
    program = f"""
import resource, sys
from pathlib import Path
import numpy as np
from search.engines.exact import Exact
from search.engines.types import IndexSpec, Metric
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
writer = Exact().start(IndexSpec(Path({str(tmp_path)!r}), "ab" * 32, {DIMENSION}, Metric.L2, {{}}))
try:
    for start in range(0, 100_000, 1_000):
        writer.add(np.arange(start, start + 1_000), np.ones((1_000, {DIMENSION})), np.zeros(1_000, dtype=np.int64))
except OSError as error:
    writer.discard()
    sys.exit("refused")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "refused"
    assert folders(tmp_path) == [served]


@pytest.mark.parametrize("seconds", [0, -3600, -(10**9)])
def test_a_clock_that_jumps_back_hides_nothing(tmp_path: Path, seconds: int) -> None:
    """The new pointer is as old as the one before, or older."""
    assert Generations(tmp_path).stamp() is None
    reader, pointer = publish(Exact(), tmp_path, 10), tmp_path / "current"
    old = pointer.stat().st_mtime_ns + seconds * 10**9
    assert not reader.stale()
    later = publish(Exact(), tmp_path, 20)
    os.utime(pointer, ns=(old, old))
    assert reader.stale()
    reader = Exact().open(spec_of(tmp_path, Exact()))
    assert reader.generation == later.generation > "00000002"
    with pointer.open("r+b") as file:  # the same place on the disk, too: only what it says is different
        file.write((tmp_path / "before").read_bytes())
    os.utime(pointer, ns=(old, old))
    assert reader.stale()


def test_vectors_survive_byte_for_byte(tmp_path: Path) -> None:
    stored = Stored.of(clustered(1_234))
    writer = Exact().start(spec_of(tmp_path, Exact()))
    for part in (slice(0, 1), slice(1, 1_000), slice(1_000, 1_000), slice(1_000, None)):
        writer.add(stored.ids[part], stored.vectors[part], stored.collections[part])
    folder = tmp_path / writer.publish().generation
    for name, array in (("vectors", stored.vectors), ("ids", stored.ids), ("collections", stored.collections)):
        np.testing.assert_array_equal(np.load(folder / f"{name}.npy"), array)
