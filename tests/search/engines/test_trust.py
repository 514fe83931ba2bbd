"""Whether an index is whole is asked every few minutes; its gigabytes are read once an hour, and when they changed."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from search.engines import manifest, trust
from search.engines.errors import IndexDamaged
from search.engines.exact import Exact
from search.engines.types import IndexSpec, Metric
from tests.search.engines.contract import DIMENSION, Stored, clustered

HOUR = 3600.0
FILES = 3


class Reading:
    """What was read, and the clock."""

    def __init__(self, patched: pytest.MonkeyPatch) -> None:
        self.files: list[str] = []
        self.now = 1_000.0
        sha256_of = manifest.sha256_of
        patched.setattr(manifest, "sha256_of", lambda path: self.files.append(path.name) or sha256_of(path))
        patched.setattr(trust, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def spec(tmp_path: Path) -> IndexSpec:
    spec = IndexSpec(tmp_path, "ab" * 32, DIMENSION, Metric.L2, {})
    publish(spec, 40)
    return spec


@pytest.fixture
def reading(spec: IndexSpec, monkeypatch: pytest.MonkeyPatch) -> Reading:
    return Reading(monkeypatch)


def publish(spec: IndexSpec, count: int) -> Path:
    stored = Stored.of(clustered(count))
    writer = Exact().start(spec)
    writer.add(stored.ids, stored.vectors, stored.collections)
    return spec.root / writer.publish().generation


def vectors(spec: IndexSpec) -> Path:
    return spec.root / Exact().inspect(spec).generation / "vectors.npy"


def flip(path: Path) -> None:
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))


def test_files_that_look_unchanged_are_read_once_an_hour(spec: IndexSpec, reading: Reading) -> None:
    for seconds, reads in ((0, 1), (300, 1), (3_299, 1), (1, 2), (300, 2)):
        reading.now += seconds
        Exact().inspect(spec, trusted_seconds=HOUR)
        assert len(reading.files) == reads * FILES


def test_whoever_does_not_say_so_trusts_nothing(spec: IndexSpec, reading: Reading) -> None:
    for reads in (1, 2):
        Exact().inspect(spec)
        assert len(reading.files) == reads * FILES
    Exact().open(spec)
    assert len(reading.files) == 3 * FILES


def test_what_was_written_to_is_read_again_whatever_its_time_says(spec: IndexSpec, reading: Reading) -> None:
    path = vectors(spec)
    times = path.stat()
    Exact().inspect(spec, trusted_seconds=HOUR)
    flip(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    for _ in range(2):
        with pytest.raises(IndexDamaged, match=r"vectors\.npy"):
            Exact().inspect(spec, trusted_seconds=HOUR)


def test_a_missing_file_and_another_generation_are_noticed(spec: IndexSpec, reading: Reading) -> None:
    Exact().inspect(spec, trusted_seconds=HOUR)
    folder = publish(spec, 50)
    reading.files.clear()
    assert Exact().inspect(spec, trusted_seconds=HOUR).count == 50
    assert len(reading.files) == FILES
    (folder / "ids.npy").unlink()
    with pytest.raises(IndexDamaged, match=r"ids\.npy"):
        Exact().inspect(spec, trusted_seconds=HOUR)
