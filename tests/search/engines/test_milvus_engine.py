"""The Milvus engine keeps the contract, against Milvus Lite or the server that VISEARCH_TEST_MILVUS_URI names."""

from __future__ import annotations

import io
import logging
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import psutil
import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

pytest.importorskip("pymilvus", reason="pymilvus is not installed (requirements/milvus.txt)")

from catalog.doctor.examining import Outcome
from catalog.models import Collection, Embedding, EmbeddingModel
from search import serving
from search.doctor import indexes, nobody
from search.engines import milvus_reader
from search.engines.errors import IndexDamaged, IndexUnreachable
from search.engines.milvus import Milvus
from search.engines.milvus_client import server_of
from search.engines.registry import configured_engine, index_for
from search.engines.types import EVERYWHERE, IndexSpec, Metric, Scope, Strategy
from search.health import index_trouble
from search.indexing import rebuild_index
from search.switching import removal
from tests.doctor import asked
from tests.search.engines.contract import DIMENSION, FINGERPRINT, EngineContract, Stored, clustered
from tests.search.engines.milvus_lite import ADDRESS, connection_to, milvus_lite, milvus_uri, names_at
from tests.search.vectors import make_model, store

__all__ = ["milvus_uri"]

TOKEN = "root:a-password-that-nobody-may-read"  # Lite takes any
TWICE = "Milvus Lite takes long for it; l2 goes the same way"
BUILDER = """
import sys
from pathlib import Path
import numpy as np
from search.engines.milvus import Milvus
from search.engines.types import IndexSpec, Metric
uri, prefix = sys.argv[1:]
connection = Milvus.check_connection({"uri": uri, "prefix": prefix, "token": sys.stdin.readline().strip()})
spec = IndexSpec(Path("index"), "ab" * 32, 24, Metric.L2, Milvus.check_options({}), None, connection)
writer = Milvus().start(spec)
print(writer.generation, flush=True)
vectors = np.random.default_rng(0).normal(size=(500, 24)).astype(np.float32)
for start in range(0, 10**9, 500):
    writer.add(start + np.arange(500), vectors, np.zeros(500, dtype=np.int64))
    print("added", flush=True)
"""


@pytest.fixture(autouse=True)
def look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(milvus_reader, "LOOK_AGAIN_SECONDS", 0.0)


class TestMilvus(EngineContract):
    engine = Milvus()
    uri: ClassVar[str]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def server(cls, milvus_uri: str) -> None:
        cls.uri = milvus_uri

    @classmethod
    def spec(cls, root: Path, metric: Metric = Metric.L2, **changes: object) -> IndexSpec:
        return super().spec(root, metric, **{"connection": connection_to(cls.uri, root), **changes})

    def test_recall_at_10_of_20_000_is_at_least_098(self, metric: Metric, tmp_path: Path) -> None:
        if metric is Metric.COSINE and not ADDRESS:
            pytest.skip(TWICE)
        super().test_recall_at_10_of_20_000_is_at_least_098(metric, tmp_path)

    def test_many_threads_with_different_k(self, stored: Stored, metric: Metric) -> None:
        if metric is Metric.COSINE and not ADDRESS:
            pytest.skip(TWICE)
        super().test_many_threads_with_different_k(stored)

    def test_a_reader_notices_a_newer_generation_and_outlives_the_files_of_its_own(self, tmp_path: Path) -> None:
        pytest.skip("a Milvus collection that was dropped answers nobody; what happens instead is tested below")

    # --- what is its own ---

    def test_the_alias_moves_and_old_generations_are_dropped(self, tmp_path: Path) -> None:
        spec = self.spec(tmp_path / "index")
        readers = [self.publish(spec, Stored.of(clustered(20 + count))).reader for count in range(3)]
        assert self.engine.published(spec) == readers[2].generation > readers[1].generation > readers[0].generation
        assert [reader.stale() for reader in readers] == [True, True, False]
        kept = [f"_index_g_{reader.generation.replace('-', '_')}" for reader in readers[1:]]
        assert names_at(spec.connection) == [*kept, "_index_manifests"]
        assert len(readers[1].search(clustered(1)[0], 5)) == 5
        with pytest.raises(IndexDamaged, match="Rebuild the index"):
            readers[0].search(clustered(1)[0], 5)

    def test_what_was_altered_behind_our_back_is_not_trusted(self, tmp_path: Path) -> None:
        spec = self.spec(tmp_path / "index")
        stored = self.publish(spec, Stored.of(clustered(20)))
        collection = f"{spec.connection.prefix}_index_g_{stored.reader.generation.replace('-', '_')}"
        server_of(spec.connection)._client.delete(collection, [int(stored.ids[3])])
        for ask in (self.engine.open, self.engine.inspect):
            with pytest.raises(IndexDamaged, match="holds 19 vectors in Milvus, not the 20"):
                ask(spec)

    def test_a_scope_too_large_to_read_is_searched_by_the_server(self, stored: Stored, metric: Metric) -> None:
        everywhere = stored.reader.search(clustered(1, seed=3)[0], 10)
        assert everywhere.effort is not None
        assert everywhere.effort.strategy == Strategy.REMOTE
        few = stored.reader.search(clustered(1, seed=3)[0], 10, Scope(collections=np.array([1])))
        assert few.effort is not None
        assert (few.effort.strategy, few.effort.scanned) == (Strategy.SCAN, few.effort.allowed)

    def test_collections_and_ids_inside_the_search(
        self, stored: Stored, metric: Metric, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As if 400 of 1,200 rows were too many to read."""
        monkeypatch.setattr(milvus_reader, "FEW", 0)
        inside = stored.collections == 1
        found = 0
        for query in clustered(20, seed=21):
            hits = stored.reader.search(query, 10, Scope(collections=np.array([1])))
            assert hits.effort is not None
            assert hits.effort.strategy == Strategy.REMOTE
            assert inside[np.searchsorted(stored.ids, hits.ids)].all()
            found += len(set(hits.ids.tolist()) & set(stored.nearest(query, 10, metric, inside)))
        assert found >= 0.98 * 200
        monkeypatch.setattr(milvus_reader, "MOST", 300)
        half = stored.ids[::2].copy()
        hits = stored.reader.search(query, 10, Scope(ids=half))
        assert hits.effort is not None
        assert hits.effort.strategy == Strategy.REMOTE
        assert hits.ids.tolist() == stored.nearest(query, 10, metric, np.isin(stored.ids, half))

    def test_more_equal_rows_than_are_asked_at_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(milvus_reader, "FEW", 0)
        vectors = clustered(400)
        vectors[40:140] = vectors[40]
        stored = self.publish(self.spec(tmp_path / "index"), Stored.of(vectors))
        assert stored.reader.search(vectors[40], 5).ids.tolist() == stored.ids[40:45].tolist()

    def test_what_is_removed_is_gone_from_the_server_and_what_is_there_can_be_listed(self, tmp_path: Path) -> None:
        spec = self.spec(tmp_path / "face-0123456789ab")
        beside = replace(spec, root=tmp_path / "face-0123456789cd")
        draft = self.engine.start(self.spec(tmp_path / "face-0123456789ef", connection=spec.connection))
        for each in (spec, spec, beside):
            self.publish(each, Stored.of(clustered(20)))
        assert self.engine.indexes(spec) == ["face_0123456789ab", "face_0123456789cd", "face_0123456789ef"]
        self.engine.remove(spec)
        draft.discard()
        assert self.engine.indexes(spec) == ["face_0123456789cd", "face_0123456789ef"]
        assert not [name for name in names_at(spec.connection) if "0123456789ab" in name]

    def test_vectors_come_back_as_they_were_stored(self, metric: Metric, tmp_path: Path) -> None:
        spec = self.spec(tmp_path / "index", metric)
        stored = self.publish(spec, Stored.of(clustered(50)))
        found = self.engine.fetch(spec, stored.reader.manifest, np.append(stored.ids[40:10:-3], 7))  # 7 is nobody's
        rows = np.searchsorted(stored.ids, found.ids)
        assert sorted(rows) == list(range(13, 41, 3))
        np.testing.assert_array_equal(found.vectors, stored.vectors[rows])

    def test_kill_9_of_a_builder_leaves_what_served(self, tmp_path: Path) -> None:
        spec = self.spec(tmp_path / "index")
        served = self.publish(spec, Stored.of(clustered(50))).reader
        command = [sys.executable, "-c", BUILDER, self.uri, spec.connection.prefix]
        builder = psutil.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        builder.stdin.write(f"{spec.connection.token}\n".encode())
        builder.stdin.flush()
        draft = builder.stdout.readline().decode().strip()
        assert builder.stdout.readline() == b"added\n"
        builder.kill()
        assert builder.wait() == -signal.SIGKILL
        assert f"_index_g_{draft.replace('-', '_')}" in names_at(spec.connection)
        assert not served.stale()
        assert self.engine.open(spec).generation == served.generation

        after = self.publish(spec, Stored.of(clustered(60))).reader  # drops the dead draft
        assert after.generation > draft
        assert not [name for name in names_at(spec.connection) if draft.replace("-", "_") in name]
        assert len(served.search(clustered(1)[0], 50)) == 50  # the one before is kept


# --- without the server ---


@pytest.mark.skipif(bool(ADDRESS), reason="kills the server, which is Milvus Lite's part")
def test_a_server_that_dies_and_comes_back(tmp_path: Path) -> None:
    engine, stored = Milvus(), Stored.of(clustered(40))
    with milvus_lite(tmp_path / "data") as lite:
        connection = connection_to(lite.uri, tmp_path)
        spec = IndexSpec(
            tmp_path / "index", FINGERPRINT, DIMENSION, Metric.L2, engine.check_options({}), None, connection
        )
        writer = engine.start(spec)
        writer.add(stored.ids, stored.vectors, stored.collections)
        writer.publish()
        reader = engine.open(spec)
        late = engine.start(spec)
        lite.kill()

        assert not reader.stale()  # it is not known
        for ask in (engine.open, engine.inspect, engine.published, engine.start):
            with pytest.raises(IndexUnreachable, match=rf"Milvus at {lite.uri} could not .*Is it running"):
                ask(spec)
        with pytest.raises(IndexUnreachable):
            reader.search(stored.vectors[7], 3)
        late.discard()  # cannot, and says so in the log alone

        lite.start()
        assert engine.open(spec).search(stored.vectors[7], 3).ids[0] == stored.ids[7]


@pytest.mark.skipif(bool(ADDRESS), reason="kills the server, which is Milvus Lite's part")
@pytest.mark.usefixtures("fakes")
@pytest.mark.django_db
def test_the_site_answers_from_the_database_while_the_server_is_away(
    tmp_path: Path, settings: Settings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No query fails: neither the one under way nor later ones; and the index is taken up again."""
    monkeypatch.setattr(serving, "LOOK_AGAIN_AFTER_DAMAGE_SECONDS", 0.0)
    with milvus_lite(tmp_path / "data") as lite:
        there = {"uri": lite.uri, "token": TOKEN}
        settings.VISEARCH_ENGINES = {
            "milvus": {"BACKEND": "search.engines.milvus.Milvus", "OPTIONS": {}, "CONNECTION": there}
        }
        shop, model = Collection.objects.create(name="shop"), make_model()
        settings.VISEARCH_INDEXES = {model.pipeline: {"ENGINE": "milvus", "METRIC": "l2"}}
        rows = [row.pk for row in store(shop, model, (1, 0), (2, 0), (0, 3))]
        row = rebuild_index(model)
        snapshot = serving.snapshot(model)
        assert (snapshot.generation, found(snapshot)) == (row.name, rows)
        assert index_trouble(model, row) == ""

        lite.kill()
        assert found(snapshot) == rows
        assert (serving.snapshot(model).generation, found(serving.snapshot(model))) == (None, rows)
        assert "answering exactly from the database" in caplog.text
        assert "does not answer" in index_trouble(model, row)

        lite.start()
        again = serving.snapshot(model)
        assert (again.generation, found(again)) == (row.name, rows)
        row.refresh_from_db()
        assert TOKEN not in f"{row.parameters} {row.reason} {caplog.text}"


@pytest.fixture
def kept_there(milvus_uri: str, tmp_path: Path, settings: Settings) -> Iterator[EmbeddingModel]:
    """The serving model of faces with its index in Milvus; names begin with a prefix of this test's own."""
    there = asdict(connection_to(milvus_uri, tmp_path))
    settings.VISEARCH_ENGINES = {"milvus": {"BACKEND": "search.engines.milvus.Milvus", "CONNECTION": there}}
    settings.VISEARCH_INDEXES = {"face": {"ENGINE": "milvus", "METRIC": "l2"}}
    shop, model = Collection.objects.create(name="shop"), make_model()
    store(shop, model, (1, 0), (2, 0), (0, 3))
    rebuild_index(model)
    yield model
    assert looked(deep=True) == []


def looked(*, deep: bool = False, fix: bool = False) -> list[Outcome]:
    return asked((*indexes.CHECKS, *nobody.CHECKS), deep=deep, fix=fix)


@pytest.mark.usefixtures("fakes")
@pytest.mark.django_db
def test_a_model_that_is_dropped_leaves_nothing_in_milvus(kept_there: EmbeddingModel) -> None:
    connection = index_for("face", kept_there.fingerprint, 2)[1].connection
    assert names_at(connection)
    EmbeddingModel.objects.update(state="retired")
    removal.drop(kept_there, None)
    assert names_at(connection) == []


@pytest.mark.usefixtures("fakes")
@pytest.mark.django_db
def test_the_doctor_finds_what_milvus_keeps_of_a_model_that_is_gone(kept_there: EmbeddingModel) -> None:
    """Not what another site keeps there, whose prefix begins with ours."""
    connection = index_for("face", kept_there.fingerprint, 2)[1].connection
    foreign = f"{connection.prefix}_two_face_0123456789ab_manifests"
    server_of(connection).ensure_table(foreign)
    assert looked() == []
    Embedding.objects.all().delete()
    EmbeddingModel.objects.all().delete()
    (found,) = looked(fix=True)
    assert (found.finding.code, found.mended) == ("index-of-nobody", True)
    assert found.finding.subject == f"face-{kept_there.fingerprint[:12]} on the server of milvus"
    assert names_at(connection) == [foreign.removeprefix(connection.prefix)]


@pytest.mark.usefixtures("fakes")
@pytest.mark.django_db
def test_a_deep_look_compares_the_vectors_that_milvus_keeps(kept_there: EmbeddingModel) -> None:
    row = Embedding.objects.order_by("id")[1]
    vector = bytes(row.vector)
    Embedding.objects.filter(pk=row.pk).update(vector=vector[4:] + vector[:4])
    assert looked() == []
    (found,) = looked(deep=True)
    assert found.finding.code == "index-differs"
    assert "of 3 embeddings 0 are not in" in found.finding.what and "1 are others" in found.finding.what
    Embedding.objects.filter(pk=row.pk).update(vector=vector)


def found(snapshot: serving.Snapshot) -> list[int]:
    return list(snapshot.search(np.array([1, 0], dtype=np.float32), 9, EVERYWHERE).ids)


# --- settings and secrets ---


@pytest.mark.parametrize(
    ("connection", "words"),
    [
        ({}, "uri is the address of a server"),
        ({"uri": "milvus.db"}, "uri is the address of a server"),
        ({"uri": "http://root:secret@milvus:19530"}, "without a password"),
        ({"uri": "http://milvus:19530", "token": "se cret"}, "token is text without spaces"),
        ({"uri": "http://milvus:19530", "token": ["secret"]}, "token is text without spaces"),
        ({"uri": "http://milvus:19530", "prefix": "my site"}, "prefix is a name"),
        ({"uri": "http://milvus:19530", "user": "root"}, "unknown option user"),
        ("secret", "must be a dict"),
    ],
)
def test_a_bad_connection_is_named_and_no_secret_repeated(settings: Settings, connection: object, words: str) -> None:
    settings.VISEARCH_ENGINES = {"mine": {"BACKEND": "search.engines.milvus.Milvus", "CONNECTION": connection}}
    with pytest.raises(ImproperlyConfigured, match=rf"VISEARCH_ENGINES\['mine'\]\['CONNECTION'\].*{words}") as refused:
        configured_engine("mine")
    if words != "without a password":
        assert "secret" not in str(refused.value)


def test_an_engine_without_a_server_takes_no_connection(settings: Settings) -> None:
    settings.VISEARCH_ENGINES = {"mine": {"BACKEND": "search.engines.exact.Exact", "CONNECTION": {"uri": "http://a"}}}
    with pytest.raises(ImproperlyConfigured, match="has no server"):
        configured_engine("mine")


@pytest.mark.parametrize(
    ("options", "word"),
    [({"index": "IVF_PQ"}, "'HNSW' or 'FLAT'"), ({"m": 1}, "m is"), ({"uri": "x"}, "unknown option uri")],
)
def test_bad_options_are_refused_by_name(options: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Milvus.check_options(options)


def test_the_token_is_nowhere(milvus_uri: str, tmp_path: Path, settings: Settings) -> None:
    """Neither in what is logged at any level, nor in the manifest, nor in what a spec looks like, nor in an error."""
    settings.VISEARCH_ENGINES = {
        "milvus": {"BACKEND": "search.engines.milvus.Milvus", "CONNECTION": {"uri": milvus_uri, "token": TOKEN}}
    }
    settings.VISEARCH_INDEXES = {"face": {"ENGINE": "milvus", "METRIC": "l2"}}
    _, spec = index_for("face", FINGERPRINT, DIMENSION)
    assert TOKEN not in f"{spec!r} {configured_engine('milvus')!r} {dict(spec.options)}"
    if ADDRESS:
        return  # which has a token of its own
    said, everything = io.StringIO(), logging.getLogger()
    handler, level = logging.StreamHandler(said), everything.level
    everything.addHandler(handler)
    everything.setLevel(logging.DEBUG)
    try:
        connection = connection_to(milvus_uri, tmp_path, token=TOKEN)
        spec = IndexSpec(tmp_path, FINGERPRINT, DIMENSION, Metric.L2, Milvus.check_options({}), None, connection)
        writer, stored = Milvus().start(spec), Stored.of(clustered(5))
        writer.add(stored.ids, stored.vectors, stored.collections)
        assert TOKEN not in writer.publish().text()
        nowhere = connection_to("http://127.0.0.1:9", tmp_path, token=TOKEN, timeout=0.5)
        with pytest.raises(IndexUnreachable) as refused:
            server_of(nowhere)
        assert TOKEN not in str(refused.value)
    finally:
        everything.removeHandler(handler)
        everything.setLevel(level)
    assert TOKEN not in said.getvalue()


def test_the_engine_does_not_load_pymilvus_before_a_server_is_asked() -> None:
    program = """
import sys
from search.engines.milvus import Milvus
Milvus.check_options({}), Milvus.check_connection({"uri": "http://milvus:19530"})
assert not {"pymilvus", "grpc", "pandas", "django"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
