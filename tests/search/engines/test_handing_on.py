"""Hosts without a disk in common: one builds, the others fetch, verify, and only then serve."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import FileSystemStorage
from pytest_django import Settings

from search.checks import indexes_storage
from search.engines import following
from search.engines.depot import Depot
from search.engines.errors import BuildFailed, IndexDamaged, IndexNotBuilt
from search.engines.exact import Exact
from search.engines.following import Follower
from search.engines.generations import Generations
from search.engines.manifest import Manifest
from search.engines.protocols import IndexWriter
from search.engines.registry import index_for
from search.engines.types import IndexSpec, Metric
from tests.search.engines.contract import DIMENSION, Stored, clustered
from tests.search.index_files import flip_last_bit

ENGINE = Exact()
INDEX = "face-abababababab"


class Unreliable(FileSystemStorage):
    """A storage on the way to which something happens to what is read."""

    def __init__(self, location: Path, happens: Callable[[bytes], bytes]) -> None:
        super().__init__(location=location)
        self._happens = happens

    def open(self, name: str, mode: str = "rb") -> Any:
        if "/published/" in name:
            return super().open(name, mode)
        return BytesIO(self._happens(Path(self.path(name)).read_bytes()))


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """The folder that stands for the storage far away."""
    return tmp_path / "far"


@pytest.fixture(autouse=True)
def look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(following, "LOOK_AFTER_FAILURE_SECONDS", 0.0)


def host(tmp_path: Path, name: str, storage: Any) -> IndexSpec:
    return IndexSpec(tmp_path / name / INDEX, "ab" * 32, DIMENSION, Metric.L2, {}, Depot(storage, INDEX))


def written(spec: IndexSpec, count: int) -> IndexWriter:
    stored = Stored.of(clustered(count))
    writer = ENGINE.start(spec)
    writer.add(stored.ids, stored.vectors, stored.collections)
    return writer


def publish(spec: IndexSpec, count: int) -> Manifest:
    return written(spec, count).publish()


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def fetched(spec: IndexSpec) -> str:
    """What this host serves after it has looked."""
    try:
        return ENGINE.inspect(spec).generation
    except IndexNotBuilt:
        return ""


def left_over(spec: IndexSpec) -> list[str]:
    return [path.name for path in spec.root.iterdir() if path.name.startswith(("fetching", "damaged", "building"))]


def serves(spec: IndexSpec) -> str:
    return Generations(spec.root).published_name()


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders 1 and 2: the host that builds and the storage, after its first and its second publication."""
    root = tmp_path_factory.mktemp("built")
    spec = host(root, "here", FileSystemStorage(location=root / "far"))
    for number, count in ((1, 40), (2, 50)):
        publish(spec, count)
        settle()
        for name in ("here", "far"):
            shutil.copytree(root / name, root / str(number) / name)
    return root


@pytest.fixture
def publish_second(built: Path, tmp_path: Path) -> Callable[[], str]:
    """Publishes one of 50 beside it."""
    return lambda: happened(built / "2", tmp_path)


def happened(built: Path, tmp_path: Path) -> str:
    shutil.copytree(built, tmp_path, dirs_exist_ok=True, copy_function=replacing)
    return serves(host(tmp_path, "here", None))


def replacing(source: str, target: str) -> None:
    """What is published is read-only."""
    Path(target).unlink(missing_ok=True)
    shutil.copy2(source, target)


def settle() -> None:
    """Nobody fetches in the background any more."""
    for thread in threading.enumerate():
        if thread.name == "index-fetch":
            thread.join(30)


@pytest.fixture
def here(built: Path, tmp_path: Path, shelf: Path) -> IndexSpec:
    """The host that builds; it has published a generation of 40 vectors."""
    happened(built / "1", tmp_path)
    return host(tmp_path, "here", FileSystemStorage(location=shelf))


@pytest.fixture
def there(tmp_path: Path, shelf: Path) -> IndexSpec:
    return host(tmp_path, "there", FileSystemStorage(location=shelf))


def test_another_host_answers_from_what_was_built_here(here: IndexSpec, there: IndexSpec) -> None:
    built = ENGINE.open(here)
    with pytest.raises(IndexNotBuilt):  # no search waits for the network
        ENGINE.open(there)
    wait_for(lambda: Generations(there.root).published_name() == built.generation)
    query = clustered(1, seed=5)[0]
    assert ENGINE.open(there).search(query, 7).ids.tolist() == built.search(query, 7).ids.tolist()


def test_a_reader_follows_without_a_restart(
    here: IndexSpec, there: IndexSpec, publish_second: Callable[[], str]
) -> None:
    fetched(there)
    reader = ENGINE.open(there)
    assert not reader.stale()
    second = publish_second()
    wait_for(reader.stale)
    assert ENGINE.open(there).generation == second
    assert reader.count == 40


def test_looks_are_rare(here: IndexSpec, there: IndexSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "LOOK_SECONDS", 3600.0)
    looks: list[str] = []
    fetched(there)
    listdir = FileSystemStorage.listdir
    monkeypatch.setattr(FileSystemStorage, "listdir", lambda self, path: looks.append(path) or listdir(self, path))
    reader = ENGINE.open(there)
    for _ in range(1_000):
        reader.stale()
    wait_for(lambda: not any(thread.name == "index-fetch" for thread in threading.enumerate()))
    assert len(looks) <= 1


def test_a_search_does_not_wait_for_a_slow_storage(
    here: IndexSpec, tmp_path: Path, shelf: Path, publish_second: Callable[[], str]
) -> None:
    go_on = threading.Event()

    def slowly(content: bytes) -> bytes:
        assert go_on.wait(30)
        return content

    there = host(tmp_path, "there", Unreliable(shelf, slowly))
    go_on.set()
    fetched(there)
    reader = ENGINE.open(there)
    go_on.clear()
    second = publish_second()
    for _ in range(100):
        assert not reader.stale()
        assert len(reader.search(clustered(1)[0], 40)) == 40
    go_on.set()
    wait_for(reader.stale)
    assert ENGINE.open(there).generation == second


def fail(content: bytes) -> bytes:
    raise ConnectionResetError("the storage hung up")


def flip(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    "happens",
    [fail, flip, lambda content: content[: len(content) // 2], lambda content: b""],
    ids=["fails", "flipped", "cut", "empty"],
)
def test_what_comes_damaged_changes_nothing(
    here: IndexSpec,
    there: IndexSpec,
    shelf: Path,
    happens: Callable[[bytes], bytes],
    publish_second: Callable[[], str],
) -> None:
    served = serves(here)
    assert fetched(there) == served
    second = publish_second()
    broken = replace(there, depot=Depot(Unreliable(shelf, happens), INDEX))
    assert fetched(broken) == served
    assert ENGINE.open(broken).count == 40
    settle()
    assert left_over(there) == []
    assert fetched(there) == second  # the storage is well again


class NeedsARest(Exception):
    """What a storage's own library raises."""


@pytest.mark.parametrize("method", ["listdir", "open"])
def test_a_storage_that_is_away_changes_nothing(
    here: IndexSpec,
    there: IndexSpec,
    method: str,
    monkeypatch: pytest.MonkeyPatch,
    publish_second: Callable[[], str],
) -> None:
    served = serves(here)
    fetched(there)
    publish_second()

    def away(*_: Any, **__: Any) -> Any:
        raise NeedsARest

    monkeypatch.setattr(FileSystemStorage, method, away)
    assert fetched(there) == served
    assert ENGINE.open(there).count == 40


def test_a_file_that_is_gone_and_a_pointer_cut_short(
    here: IndexSpec, there: IndexSpec, shelf: Path, publish_second: Callable[[], str]
) -> None:
    served = serves(here)
    fetched(there)
    second = publish_second()
    (shelf / INDEX / second / "ids.npy").unlink()
    assert fetched(there) == served
    third = publish(here, 60).generation
    pointer = shelf / INDEX / "published" / third
    whole = pointer.read_bytes()
    pointer.write_bytes(whole[:30])
    assert fetched(there) == served
    pointer.write_bytes(whole)
    assert fetched(there) == third


def test_a_newer_format_is_not_taken_over(
    here: IndexSpec, there: IndexSpec, shelf: Path, caplog: Any, publish_second: Callable[[], str]
) -> None:
    """A host with older code goes on with what it has, and says why."""
    served = serves(here)
    fetched(there)
    second = publish_second()
    manifest = shelf / INDEX / second / "manifest.json"
    content = json.dumps({**json.loads(manifest.read_text()), "format_version": 99}).encode()
    manifest.write_bytes(content)
    (shelf / INDEX / "published" / second).write_text(f"{second} {hashlib.sha256(content).hexdigest()}\n")
    assert fetched(there) == served
    assert "format version 99" in caplog.text


def test_a_manifest_that_names_a_file_elsewhere_is_refused(here: IndexSpec, there: IndexSpec, shelf: Path) -> None:
    name = serves(here)
    manifest = shelf / INDEX / name / "manifest.json"
    fields = json.loads(manifest.read_text())
    fields["files"]["../../evil"] = "00" * 32
    content = json.dumps(fields).encode()
    manifest.write_bytes(content)
    (shelf / INDEX / "published" / name).write_text(f"{name} {hashlib.sha256(content).hexdigest()}\n")
    assert fetched(there) == ""
    assert not (there.root.parent / "evil").exists()


def test_a_generation_of_other_settings_stays_where_it_is(here: IndexSpec, tmp_path: Path) -> None:
    assert here.depot is not None
    root = tmp_path / "there" / INDEX
    assert fetched(IndexSpec(root, "ab" * 32, DIMENSION, Metric.COSINE, {}, here.depot)) == ""


def test_kill_9_while_fetching(
    here: IndexSpec, there: IndexSpec, shelf: Path, publish_second: Callable[[], str]
) -> None:
    served = serves(here)
    fetched(there)
    second = publish_second()
    program = f"""
import time
from pathlib import Path
from django.conf import settings
settings.configure()
from django.core.files.storage import FileSystemStorage
from search.engines.depot import Depot
from search.engines.exact import Exact
from search.engines.types import IndexSpec, Metric

class Slow(FileSystemStorage):
    def open(self, name, mode="rb"):
        if name.endswith("vectors.npy"):
            print("fetching", flush=True)
            time.sleep(60)
        return super().open(name, mode)

depot = Depot(Slow(location={str(shelf)!r}), {INDEX!r})
Exact().inspect(IndexSpec(Path({str(there.root)!r}), "ab" * 32, {DIMENSION}, Metric.L2, {{}}, depot))
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"fetching\n"
    assert len(left_over(there)) == 1
    assert fetched(there) == served  # one process of a host fetches; the others go on
    process.kill()
    process.wait()
    process.stdout.close()
    assert ENGINE.open(there).generation in (served, second)
    wait_for(lambda: fetched(there) == second)
    assert left_over(there) == []


def test_a_copy_that_was_damaged_here_is_fetched_again(here: IndexSpec, there: IndexSpec) -> None:
    name = serves(here)
    fetched(there)
    vectors = there.root / name / "vectors.npy"
    flip_last_bit(vectors)
    with pytest.raises(IndexDamaged):
        ENGINE.open(there)
    wait_for(lambda: vectors.read_bytes() == (here.root / name / "vectors.npy").read_bytes())
    wait_for(lambda: left_over(there) == [])
    assert ENGINE.open(there).count == 40


class Counting(FileSystemStorage):
    """Remembers the files that were read."""

    def __init__(self, location: Path) -> None:
        super().__init__(location=location)
        self.read: list[str] = []

    def open(self, name: str, mode: str = "rb") -> Any:
        self.read.append(name.rsplit("/", maxsplit=1)[-1])
        return super().open(name, mode)

    def fetches(self) -> int:
        return self.read.count("vectors.npy")


def test_a_damaged_upload_is_fetched_ever_more_rarely(
    here: IndexSpec,
    tmp_path: Path,
    shelf: Path,
    publish_second: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    storage, now = Counting(shelf), 1_000.0
    there = host(tmp_path, "there", storage)
    served = fetched(there)
    second = publish_second()
    flip_last_bit(shelf / INDEX / second / "vectors.npy")
    monkeypatch.setattr(following, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(following, "LOOK_AFTER_FAILURE_SECONDS", 60.0)
    storage.read.clear()
    assert fetched(there) == served
    for number, pause in enumerate((60, 120, 240, 480, 960, 1920, 3600, 3600), start=1):
        now += pause - 1
        assert (fetched(there), storage.fetches()) == (served, number)
        now += 1
        assert (fetched(there), storage.fetches()) == (served, number + 1)
    flip_last_bit(shelf / INDEX / second / "vectors.npy")  # once more, which mends it
    now += 3_600
    assert fetched(there) == second


def test_where_the_newest_upload_is_damaged_a_new_host_takes_the_one_before(
    here: IndexSpec, there: IndexSpec, shelf: Path, publish_second: Callable[[], str]
) -> None:
    first, second = serves(here), publish_second()
    flip_last_bit(shelf / INDEX / second / "vectors.npy")
    assert fetched(there) == first
    assert left_over(there) == []
    flip_last_bit(shelf / INDEX / second / "vectors.npy")
    assert fetched(there) == second


def test_processes_that_saw_the_same_damage_fetch_once(here: IndexSpec, tmp_path: Path, shelf: Path) -> None:
    storage = Counting(shelf)
    there = host(tmp_path, "there", storage)
    name, stamp = fetched(there), Generations(there.root).stamp()
    processes = [Follower(there, ENGINE.name) for _ in range(3)]
    for process in processes:
        process.fetch_again(name, stamp)
    storage.read.clear()
    pointers = set()
    for process in processes:
        process.catch_up()
        pointers.add(Generations(there.root).stamp())
    assert (storage.fetches(), len(pointers)) == (1, 1)


def test_what_was_damaged_here_does_not_push_out_the_good_one_before_it(
    here: IndexSpec, there: IndexSpec, publish_second: Callable[[], str]
) -> None:
    first, second = fetched(there), publish_second()
    assert fetched(there) == second
    flip_last_bit(there.root / second / "vectors.npy")
    process = Follower(there, ENGINE.name)
    process.fetch_again(second, Generations(there.root).stamp())
    third = publish(here, 60).generation
    process.catch_up()
    assert serves(there) == third
    flip_last_bit(there.root / third / "vectors.npy")
    assert ENGINE.open(replace(there, depot=None)).generation == first


# --- builders ---


def test_numbers_go_on_from_host_to_host(here: IndexSpec, there: IndexSpec) -> None:
    second = publish(there, 50).generation  # this host has never fetched anything
    assert second > serves(here)
    assert fetched(here) == second


def test_a_builder_that_another_host_has_overtaken_is_refused(here: IndexSpec, there: IndexSpec) -> None:
    late = written(here, 40)
    served = publish(there, 50).generation
    with pytest.raises(BuildFailed, match="overtaken"):
        late.publish()
    late.discard()
    assert fetched(here) == fetched(there) == served


def test_an_upload_that_fails_publishes_nothing(
    here: IndexSpec, there: IndexSpec, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serves(here)
    before = files(shelf)
    save = FileSystemStorage.save

    def full(self: FileSystemStorage, name: str, content: IO[bytes], max_length: int | None = None) -> str:
        if name.endswith("vectors.npy"):
            raise NeedsARest("no room")
        return save(self, name, content, max_length)

    writer = written(here, 50)
    with monkeypatch.context() as patched:
        patched.setattr(FileSystemStorage, "save", full)
        with pytest.raises(BuildFailed, match=r"no room.*VISEARCH_INDEXES_STORAGE"):
            writer.publish()
    writer.discard()
    assert files(shelf) == before
    assert fetched(here) == fetched(there) == served


def test_a_builder_that_died_before_it_served_its_own_generation(
    here: IndexSpec, there: IndexSpec, publish_second: Callable[[], str]
) -> None:
    """Other hosts have heard of it already; the one that built it takes it over like they do."""
    before = (here.root / "current").read_bytes()
    second = publish_second()
    (here.root / "current").write_bytes(before)
    assert fetched(here) == fetched(there) == second
    assert left_over(here) == []


def test_the_newest_two_are_kept(here: IndexSpec, shelf: Path) -> None:
    names = [publish(here, count).generation for count in (10, 11, 12)]
    assert sorted({name.split("/")[1] for name in files(shelf)}) == [*names[1:], "published"]
    assert sorted(path.name for path in (shelf / INDEX / "published").iterdir()) == names[1:]


# --- settings ---


def test_without_a_storage_nothing_is_handed_on() -> None:
    _, spec = index_for("face", "ab" * 32, 128)
    assert spec.depot is None
    assert indexes_storage() == []


def test_the_storage_of_the_settings(settings: Settings, tmp_path: Path) -> None:
    backend = "django.core.files.storage.FileSystemStorage"
    settings.STORAGES = {**settings.STORAGES, "indexes": {"BACKEND": backend, "OPTIONS": {"location": str(tmp_path)}}}
    _, spec = index_for("face", "ab" * 32, 128)
    assert spec.depot is not None
    assert spec.depot.index == spec.root.name
    assert spec == index_for("face", "ab" * 32, 128)[1]


@pytest.mark.parametrize("entry", [{"BACKEND": "nowhere.Storage"}, {"BACKEND": "pathlib.Path", "OPTIONS": {"no": 1}}])
def test_a_storage_that_cannot_work_is_named(settings: Settings, entry: dict[str, Any]) -> None:
    settings.STORAGES = {**settings.STORAGES, "indexes": entry}
    with pytest.raises(ImproperlyConfigured, match="VISEARCH_INDEXES_STORAGE"):
        index_for("face", "ab" * 32, 128)
    assert [problem.id for problem in indexes_storage()] == ["search.E005"]
