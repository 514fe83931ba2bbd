"""Whatever happens to the files of a generation, opening it says so: no crash, no wrong answer."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from search.engines.errors import IndexDamaged
from search.engines.exact import Exact
from search.engines.nmslib_hnsw import NmslibHnsw
from search.engines.types import IndexSpec, Metric
from tests.search.engines.contract import DIMENSION, Stored, clustered
from tests.search.index_files import alter

ENGINE = NmslibHnsw()
FILES = ["collections.npy", "ids.npy", "index.hnsw", "manifest.json", "nodes.npy", "stragglers.npy", "vectors.npy"]


def spec_of(root: Path) -> IndexSpec:
    return IndexSpec(root, "ab" * 32, DIMENSION, Metric.L2, ENGINE.check_options({}))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    stored = Stored.of(clustered(600))
    writer = ENGINE.start(spec_of(root))
    writer.add(stored.ids, stored.vectors, stored.collections)
    writer.publish()
    return root


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def generation(root: Path) -> Path:
    return root / (root / "current").read_text().split()[0]


def truncate(path: Path) -> None:
    alter(path, path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    alter(path, b"")


def flip(path: Path, count: int) -> None:
    content, seeded = bytearray(path.read_bytes()), random.Random(f"{path.name} {count}")
    for place in seeded.sample(range(len(content)), min(count, len(content))):
        content[place] ^= seeded.randrange(1, 256)
    alter(path, bytes(content))


def flip_1_byte(path: Path) -> None:
    flip(path, 1)


def flip_10_bytes(path: Path) -> None:
    flip(path, 10)


def flip_100_bytes(path: Path) -> None:
    flip(path, 100)


def zero(path: Path) -> None:
    alter(path, bytes(path.stat().st_size))


def remove(path: Path) -> None:
    path.unlink()


def make_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


FLIPS = [flip_1_byte, flip_10_bytes, flip_100_bytes]
DAMAGES: list[Callable[[Path], None]] = [truncate, empty, *FLIPS, zero, remove, make_a_folder]


def test_the_undamaged_copy_opens(root: Path) -> None:
    assert ENGINE.open(spec_of(root)).count == 600
    assert sorted(path.name for path in generation(root).iterdir()) == FILES


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named(root: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(generation(root) / name)
    for ask in (ENGINE.open, ENGINE.inspect):
        with pytest.raises(IndexDamaged, match=name):
            ask(spec_of(root))


@pytest.mark.parametrize("damage", [d for d in DAMAGES if d is not remove], ids=lambda damage: damage.__name__)
def test_a_damaged_pointer_is_refused(root: Path, damage: Callable[[Path], None]) -> None:
    damage(root / "current")
    with pytest.raises(IndexDamaged, match=r"current|manifest\.json"):
        ENGINE.open(spec_of(root))


def test_a_missing_generation_is_refused(root: Path) -> None:
    shutil.rmtree(generation(root))
    with pytest.raises(IndexDamaged, match=r"manifest\.json"):
        ENGINE.open(spec_of(root))


def test_files_of_another_generation_are_refused(root: Path) -> None:
    """Each file whole, but not of this build: two builds of the same rows differ byte for byte, and answer alike."""
    before = generation(root)
    stored = Stored.of(clustered(600))
    writer = ENGINE.start(spec_of(root))
    writer.add(stored.ids, stored.vectors, stored.collections)
    recall = json.loads((before / "manifest.json").read_text())["measured"]["recall"]
    assert writer.publish().measured["recall"] == pytest.approx(recall, abs=0.02)
    alter(generation(root) / "index.hnsw", (before / "index.hnsw").read_bytes())
    with pytest.raises(IndexDamaged, match=r"index\.hnsw"):
        ENGINE.inspect(spec_of(root))
    (root / "before").unlink()
    with pytest.raises(IndexDamaged, match=r"index\.hnsw"):
        ENGINE.open(spec_of(root))


def test_a_generation_of_another_engine_is_refused(root: Path) -> None:
    """Exact's files are a part of NMSLIB's, so nothing but the manifest tells them apart."""
    with pytest.raises(IndexDamaged, match="engine 'nmslib_hnsw', not 'exact'"):
        Exact().open(spec_of(root))


@pytest.fixture(scope="module")
def twice(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second generation, of 30 rows, beside the one of 600."""
    root = Path(shutil.copytree(whole, tmp_path_factory.mktemp("twice") / "root"))
    stored = Stored.of(clustered(30))
    writer = ENGINE.start(spec_of(root))
    writer.add(stored.ids, stored.vectors, stored.collections)
    writer.publish()
    return root


@pytest.mark.parametrize("name", ["index.hnsw", "manifest.json", "ids.npy", "../current"])
@pytest.mark.parametrize("damage", [truncate, flip_1_byte, zero], ids=lambda damage: damage.__name__)
def test_the_generation_before_answers_for_a_damaged_one(
    twice: Path, tmp_path: Path, name: str, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    root = Path(shutil.copytree(twice, tmp_path / "copy"))
    damage(generation(root) / name)
    reader = ENGINE.open(spec_of(root))
    assert reader.count == 600
    assert "the one before, answers meanwhile" in caplog.text
    assert not reader.stale()  # it is not read and hashed again for each query
    with pytest.raises(IndexDamaged):  # so that a rebuild is due
        ENGINE.inspect(spec_of(root))
    damage(root / reader.generation / "vectors.npy")
    with pytest.raises(IndexDamaged, match="Rebuild"):
        ENGINE.open(spec_of(root))


def test_a_newer_format_is_refused(root: Path) -> None:
    path = generation(root) / "manifest.json"
    content = json.dumps({**json.loads(path.read_text()), "format_version": 2, "new_field": 1}).encode()
    alter(path, content)
    name = generation(root).name
    (root / "current").write_text(f"{name} {hashlib.sha256(content).hexdigest()}\n")
    with pytest.raises(IndexDamaged, match="format version 2"):
        ENGINE.open(spec_of(root))


def test_a_damaged_index_is_healed_by_a_build(root: Path) -> None:
    flip_1_byte(root / "current")
    stored = Stored.of(clustered(30))
    writer = ENGINE.start(spec_of(root))
    writer.add(stored.ids, stored.vectors, stored.collections)
    writer.publish()
    assert ENGINE.open(spec_of(root)).count == 30
