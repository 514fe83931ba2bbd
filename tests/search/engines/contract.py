"""What every index engine promises (search.engines.protocols). One small subclass per engine runs it.

The judge here is not the exact engine, which is judged too, but the plain definition of the distances in float64.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from search.engines.errors import BuildFailed, IndexDamaged, IndexNotBuilt, InvalidVector
from search.engines.protocols import IndexEngine, IndexReader, IndexWriter
from search.engines.types import IndexSpec, Metric, Scope

DIMENSION = 24
FINGERPRINT = "ab" * 32
FIRST_ID = 2**62  # ids are int64; an engine that kept them as int32 or float64 would lose them here
RARE = 99  # a collection of 1 % of the rows
REFUSED: dict[str, Callable[[NDArray[np.float32]], NDArray[Any]]] = {
    "NaN": lambda vector: np.where(np.arange(len(vector)) == 3, np.nan, vector),
    "Inf": lambda vector: np.where(np.arange(len(vector)) == 3, np.inf, vector),
    "too large for float32": lambda vector: vector.astype(np.float64) * 1e300,
    "zero": np.zeros_like,
    "near zero": lambda vector: np.full_like(vector, 1e-12),
    "too short": lambda vector: vector[:-1],
    "too long": lambda vector: np.append(vector, vector[0]),
    "complex": lambda vector: vector.astype(np.complex128),
    "text": lambda vector: vector.astype(str),
}


def clustered(count: int, dimension: int = DIMENSION, seed: int = 0) -> NDArray[np.float32]:
    """Vectors in 40 clouds, as embeddings of people or articles are; float32 (count, dimension)."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(1).normal(size=(40, dimension))
    vectors = centres[random.integers(0, 40, count)] + 0.3 * random.normal(size=(count, dimension))
    return vectors.astype(np.float32)


def true_distances(vectors: NDArray[np.float32], query: NDArray[Any], metric: Metric) -> NDArray[np.float64]:
    rows, target = vectors.astype(np.float64), query.astype(np.float64)
    if metric is Metric.L2:
        return np.asarray(np.linalg.norm(rows - target, axis=1))
    return np.asarray(1.0 - rows @ target / (np.linalg.norm(rows, axis=1) * np.linalg.norm(target)))


class Stored:
    """Rows as a test put them in, and the reader of them."""

    def __init__(self, ids: NDArray[np.int64], vectors: NDArray[np.float32], collections: NDArray[np.int64]) -> None:
        self.ids, self.vectors, self.collections = ids, vectors, collections
        self.reader: IndexReader

    @classmethod
    def of(cls, vectors: NDArray[np.float32]) -> Stored:
        places = np.arange(len(vectors), dtype=np.int64)
        collections = np.where(places % 100 == 50, RARE, places % 3)
        return cls(FIRST_ID + 7 * places, vectors, collections)

    def nearest(
        self, query: NDArray[Any], k: int, metric: Metric, allowed: NDArray[np.bool_] | None = None
    ) -> list[int]:
        """The true neighbours by definition, ties by id."""
        rows = np.arange(len(self.ids)) if allowed is None else np.flatnonzero(allowed)
        distances = true_distances(self.vectors[rows], query, metric).round(9)
        return [int(key) for key in self.ids[rows[np.lexsort((self.ids[rows], distances))]][:k]]


class EngineContract:
    """``engine`` and ``options`` are what the subclass is about; the tests never look behind the engine's protocol."""

    engine: IndexEngine
    options: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def spec(cls, root: Path, metric: Metric = Metric.L2, **changes: Any) -> IndexSpec:
        options = cls.engine.check_options(cls.options)
        fields = {
            "root": root,
            "fingerprint": FINGERPRINT,
            "dimension": DIMENSION,
            "metric": metric,
            "options": options,
        }
        return IndexSpec(**{**fields, **changes})

    @classmethod
    def write(cls, spec: IndexSpec, stored: Stored, chunk: int = 500) -> IndexWriter:
        writer = cls.engine.start(spec)
        for start in range(0, len(stored.ids), chunk):
            part = slice(start, start + chunk)
            writer.add(stored.ids[part], stored.vectors[part], stored.collections[part])
        return writer

    @classmethod
    def publish(cls, spec: IndexSpec, stored: Stored, chunk: int = 500) -> Stored:
        cls.write(spec, stored, chunk).publish()
        stored.reader = cls.engine.open(spec)
        return stored

    @pytest.fixture(scope="class", params=list(Metric), ids=str)
    @classmethod
    def metric(cls, request: pytest.FixtureRequest) -> Metric:
        return Metric(request.param)

    @pytest.fixture(scope="class")
    @classmethod
    def stored(cls, metric: Metric, tmp_path_factory: pytest.TempPathFactory) -> Stored:
        """1,200 rows, four of them equal; they came in chunks of any float and stride, from read-only arrays."""
        vectors = clustered(1_200)
        vectors[[10, 500, 1_100]] = vectors[3]
        stored = Stored.of(vectors)
        for array in (stored.ids, stored.vectors, stored.collections):
            array.setflags(write=False)
        spec = cls.spec(tmp_path_factory.mktemp("index"), metric)
        writer = cls.engine.start(spec)
        chunks: list[NDArray[Any]] = [
            vectors[:400],
            np.asfortranarray(vectors[400:800].astype(np.float64)),
            np.repeat(vectors[800:], 2, axis=1)[:, ::2],
        ]
        for start, chunk in zip(range(0, 1_200, 400), chunks, strict=True):
            part = slice(start, start + 400)
            writer.add(stored.ids[part], chunk, stored.collections[part])
        writer.publish()
        stored.reader = cls.engine.open(spec)
        return stored

    # --- order, distances, ids ---

    def test_a_stored_vector_finds_itself_first_at_distance_zero(self, stored: Stored, metric: Metric) -> None:
        for place in (0, 7, 333, 1_199):
            hits = stored.reader.search(stored.vectors[place], 5)
            assert hits.ids[0] == stored.ids[place]
            assert hits.distances[0] <= 1e-12

    @pytest.mark.parametrize("k", [10, 50])
    def test_distances_are_the_true_ones_nearest_first(self, stored: Stored, metric: Metric, k: int) -> None:
        query = clustered(1, seed=5)[0]
        hits = stored.reader.search(query, k)
        rows = np.searchsorted(stored.ids, hits.ids)
        assert hits.ids.dtype == np.int64
        assert hits.distances.dtype == np.float64
        np.testing.assert_allclose(
            hits.distances, true_distances(stored.vectors[rows], query, metric), rtol=0, atol=1e-9
        )
        assert (np.diff(hits.distances) >= 0).all()

    def test_recall_at_10_of_20_000_is_at_least_098(self, metric: Metric, tmp_path: Path) -> None:
        """Of queries that the build has not seen, against exact search."""
        stored = self.publish(self.spec(tmp_path / "index", metric), Stored.of(clustered(20_000)), chunk=5_000)
        assert stored.reader.manifest.measured["recall"] >= 0.98
        found = total = 0
        for query in clustered(100, seed=9):
            truth = stored.nearest(query, 10, metric)
            found += len(set(truth) & {int(key) for key in stored.reader.search(query, 10).ids})
            total += len(truth)
        assert found / total >= 0.98

    def test_equal_vectors_come_in_the_order_of_their_ids(self, stored: Stored) -> None:
        equal = stored.ids[[3, 10, 500, 1_100]]
        hits = stored.reader.search(stored.vectors[500], 6)
        assert hits.ids[:4].tolist() == equal.tolist()
        assert (hits.distances[:4] <= 1e-12).all()
        assert stored.reader.search(stored.vectors[500], 2).ids.tolist() == equal[:2].tolist()

    def test_all_rows_equal(self, tmp_path: Path) -> None:
        stored = self.publish(self.spec(tmp_path / "index"), Stored.of(np.tile(clustered(1), (300, 1))))
        assert stored.reader.search(stored.vectors[0], 20).ids.tolist() == stored.ids[:20].tolist()

    # --- sizes ---

    def test_k_larger_than_the_index_gives_all_of_it(self, stored: Stored, metric: Metric) -> None:
        query = clustered(1, seed=6)[0]
        hits = stored.reader.search(query, 100_000)
        assert hits.ids.tolist() == stored.nearest(query, 100_000, metric)

    @pytest.mark.parametrize("k", [1, 10, 299, 1_199, 1_200])
    def test_k_is_always_filled(self, stored: Stored, k: int) -> None:
        hits = stored.reader.search(clustered(1, seed=7)[0], k)
        assert len(hits) == len(set(hits.ids.tolist())) == k

    @pytest.mark.parametrize("k", [0, -1])
    def test_k_below_one_is_an_error(self, stored: Stored, k: int) -> None:
        with pytest.raises(ValueError, match="at least one"):
            stored.reader.search(stored.vectors[0], k)

    def test_an_empty_generation_answers_with_nothing(self, tmp_path: Path) -> None:
        stored = self.publish(self.spec(tmp_path / "index"), Stored.of(clustered(0)))
        reader = stored.reader
        assert (reader.count, reader.highest_id) == (0, 0)
        assert len(reader.search(clustered(1)[0], 5)) == 0
        assert len(reader.search(clustered(1)[0], 5, Scope(collections=np.array([1])))) == 0
        with pytest.raises(InvalidVector):
            reader.search(np.zeros(DIMENSION), 5)

    def test_a_single_row(self, tmp_path: Path) -> None:
        stored = self.publish(self.spec(tmp_path / "index"), Stored.of(clustered(1)))
        assert stored.reader.search(stored.vectors[0], 5).ids.tolist() == [FIRST_ID]
        assert (stored.reader.count, stored.reader.highest_id) == (1, FIRST_ID)

    def test_a_reader_says_what_it_holds(self, stored: Stored, metric: Metric) -> None:
        reader = stored.reader
        assert (reader.count, reader.highest_id) == (1_200, int(stored.ids[-1]))
        assert reader.manifest.generation == reader.generation
        assert (reader.manifest.engine, reader.manifest.metric) == (self.engine.name, metric)
        assert reader.manifest.measured["recall"] >= 0.98

    # --- what goes in ---

    @pytest.mark.parametrize("kind", [np.float64, np.float32])
    def test_queries_of_any_float_and_stride(self, stored: Stored, kind: type[np.floating[Any]]) -> None:
        wide = np.zeros((DIMENSION, 2), dtype=kind)
        wide[:, 0] = stored.vectors[42]
        assert not wide[:, 0].flags.c_contiguous
        assert stored.reader.search(wide[:, 0], 1).ids.tolist() == [stored.ids[42]]

    def test_rows_of_any_float_and_stride(self, stored: Stored) -> None:
        for place in (17, 417, 817):  # one of each chunk of the fixture
            hits = stored.reader.search(stored.vectors[place], 1)
            assert hits.ids.tolist() == [stored.ids[place]]
            assert hits.distances[0] <= 1e-12

    def test_the_callers_arrays_are_not_changed(self, stored: Stored) -> None:
        """Rows came from read-only arrays; here the query and the scope."""
        query, scope = clustered(1, seed=8)[0], Scope(np.array([2, 1, 0]), stored.ids[::2].copy())
        arrays = [query, scope.collections, scope.ids]
        before = [np.copy(array) for array in arrays]
        for array in arrays:
            array.setflags(write=False)
        assert len(stored.reader.search(query, 10, scope)) == 10
        for array, copy in zip([*arrays, stored.vectors[4:10]], [*before, clustered(1_200)[4:10]], strict=True):
            np.testing.assert_array_equal(array, copy)

    @pytest.mark.parametrize("kind", sorted(REFUSED))
    def test_a_query_that_no_index_can_answer_is_refused(self, stored: Stored, kind: str) -> None:
        with pytest.raises(InvalidVector):
            stored.reader.search(REFUSED[kind](stored.vectors[0]), 3)

    def test_a_matrix_is_no_query(self, stored: Stored) -> None:
        with pytest.raises(InvalidVector, match=r"\(1, 24\)"):
            stored.reader.search(stored.vectors[:1], 3)

    @pytest.mark.parametrize("kind", ["NaN", "Inf", "too large for float32", "zero", "near zero"])
    def test_a_bad_row_is_refused_by_its_id(self, kind: str, tmp_path: Path) -> None:
        stored = Stored.of(clustered(5))
        rows = stored.vectors.astype(np.float64)
        rows[2] = REFUSED[kind](stored.vectors[2])
        writer = self.engine.start(self.spec(tmp_path / "index"))
        with pytest.raises(InvalidVector, match=str(stored.ids[2])):
            writer.add(stored.ids, rows, stored.collections)  # type: ignore[arg-type]
        writer.discard()

    def test_rows_of_a_wrong_dimension_are_refused(self, tmp_path: Path) -> None:
        stored = Stored.of(clustered(5, DIMENSION + 1))
        writer = self.engine.start(self.spec(tmp_path / "index"))
        with pytest.raises(InvalidVector, match="25"):
            writer.add(stored.ids, stored.vectors, stored.collections)
        writer.discard()

    @pytest.mark.parametrize("ids", [[5, 5], [6, 5], [-1, 3], [3, 4]], ids=["twice", "falling", "below", "again"])
    def test_ids_must_grow_over_the_whole_build(self, ids: list[int], tmp_path: Path) -> None:
        rows, zeros = clustered(2), np.zeros(2, dtype=np.int64)
        writer = self.engine.start(self.spec(tmp_path / "index"))
        writer.add(np.array([3, 4]), rows, zeros)
        with pytest.raises(ValueError, match="increasing"):
            writer.add(np.array(ids), rows, zeros)
        writer.discard()

    # --- scopes ---

    def test_a_small_scope_gets_its_exact_k(self, stored: Stored, metric: Metric) -> None:
        query = clustered(1, seed=11)[0]
        hits = stored.reader.search(query, 12, Scope(collections=np.array([RARE])))
        assert hits.ids.tolist() == stored.nearest(query, 12, metric, stored.collections == RARE)
        assert len(hits) == 12

    def test_a_scope_of_collections_and_ids_needs_both(self, stored: Stored, metric: Metric) -> None:
        query, some = clustered(1, seed=12)[0], stored.ids[:600:5]
        hits = stored.reader.search(query, 1_000, Scope(np.array([0, 2]), some))
        allowed = np.isin(stored.collections, [0, 2]) & np.isin(stored.ids, some)
        assert hits.ids.tolist() == stored.nearest(query, 1_000, metric, allowed)

    def test_ids_and_collections_that_are_not_there_are_ignored(self, stored: Stored) -> None:
        ids = np.array([1, stored.ids[4], stored.ids[4] + 1, 2**63 - 1])
        query = stored.vectors[4]
        assert stored.reader.search(query, 9, Scope(ids=ids)).ids.tolist() == [stored.ids[4]]
        assert len(stored.reader.search(query, 9, Scope(collections=np.array([12345, -1])))) == 0

    @pytest.mark.parametrize("part", ["collections", "ids"])
    def test_an_empty_scope_has_no_hits(self, stored: Stored, part: str) -> None:
        scope = Scope(**{part: np.empty(0, dtype=np.int64)})
        assert len(stored.reader.search(stored.vectors[0], 5, scope)) == 0

    def test_a_scope_of_everything_is_no_scope(self, stored: Stored) -> None:
        query = clustered(1, seed=13)[0]
        everything = Scope(collections=np.unique(stored.collections))
        assert stored.reader.search(query, 9, everything).ids.tolist() == stored.reader.search(query, 9).ids.tolist()

    # --- threads ---

    def test_many_threads_with_different_k(self, stored: Stored) -> None:
        start = threading.Barrier(8)

        def ask(seed: int) -> None:
            random = np.random.default_rng(seed)
            start.wait()
            for place in random.integers(0, 1_200, 60):
                k = int(random.choice([1, 5, 40, 300]))
                hits = stored.reader.search(stored.vectors[place], k)
                assert len(hits) == k
                assert hits.distances[0] <= 1e-12

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, range(8)))

    # --- generations ---

    def test_nothing_published_is_said(self, tmp_path: Path) -> None:
        spec = self.spec(tmp_path / "index")
        for ask in (self.engine.open, self.engine.inspect):
            with pytest.raises(IndexNotBuilt):
                ask(spec)

    def test_a_draft_is_invisible_until_published(self, tmp_path: Path) -> None:
        spec = self.spec(tmp_path / "index")
        writer = self.write(spec, Stored.of(clustered(50)))
        with pytest.raises(IndexNotBuilt):
            self.engine.open(spec)
        manifest = writer.publish()
        assert manifest.generation == writer.generation == self.engine.open(spec).generation

    def test_a_reader_notices_a_newer_generation_and_outlives_the_files_of_its_own(self, tmp_path: Path) -> None:
        spec = self.spec(tmp_path / "index")
        old = self.publish(spec, Stored.of(clustered(50)))
        assert not old.reader.stale()
        new = self.publish(spec, Stored.of(clustered(80)))
        assert old.reader.stale()
        assert not new.reader.stale()
        assert new.reader.generation > old.reader.generation
        reopened = self.engine.open(spec)
        assert (old.reader.count, reopened.count) == (50, 80)
        assert reopened.search(new.vectors[70], 1).ids.tolist() == [new.ids[70]]
        self.publish(spec, Stored.of(clustered(52)))  # now the first is neither served nor the one before
        for place in (8, 44):
            assert old.reader.search(old.vectors[place], 1).ids.tolist() == [old.ids[place]]

    def test_a_discarded_build_leaves_what_served(self, tmp_path: Path) -> None:
        spec = self.spec(tmp_path / "index")
        served = self.publish(spec, Stored.of(clustered(50))).reader.generation
        writer = self.write(spec, Stored.of(clustered(80)))
        writer.discard()
        writer.discard()
        assert self.engine.open(spec).generation == served

    def test_of_two_builders_the_newer_one_publishes(self, tmp_path: Path) -> None:
        spec = self.spec(tmp_path / "index")
        older, newer = self.write(spec, Stored.of(clustered(50))), self.write(spec, Stored.of(clustered(80)))
        with pytest.raises(BuildFailed, match="overtaken"):
            older.publish()
        older.discard()
        assert newer.publish().count == 80
        assert self.engine.open(spec).count == 80

    def test_a_builder_that_wakes_up_late_is_refused(self, tmp_path: Path) -> None:
        spec = self.spec(tmp_path / "index")
        older = self.write(spec, Stored.of(clustered(50)))
        self.publish(spec, Stored.of(clustered(80)))
        with pytest.raises(BuildFailed, match="overtaken"):
            older.publish()
        older.discard()
        assert self.engine.open(spec).count == 80

    def test_removed_nothing_of_it_is_left_and_another_index_is_whole(self, tmp_path: Path) -> None:
        spec, beside = self.spec(tmp_path / "index"), replace(self.spec(tmp_path / "index"), root=tmp_path / "beside")
        for each in (spec, beside):
            self.publish(each, Stored.of(clustered(20)))
        draft = self.write(spec, Stored.of(clustered(30)))
        self.engine.remove(spec)
        for ask in (self.engine.open, self.engine.published):
            with pytest.raises(IndexNotBuilt):
                ask(spec)
        with pytest.raises(BuildFailed):
            draft.publish()
        draft.discard()
        self.engine.remove(spec)  # there is nothing any more
        assert self.engine.open(beside).count == 20
        assert self.publish(spec, Stored.of(clustered(40))).reader.count == 40

    @pytest.fixture(scope="class")
    @classmethod
    def published(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        root = tmp_path_factory.mktemp("another")
        cls.publish(cls.spec(root), Stored.of(clustered(50)))
        return root

    @pytest.mark.parametrize(
        "change",
        [{"fingerprint": "cd" * 32}, {"dimension": 25}, {"metric": Metric.COSINE}],
        ids=lambda change: next(iter(change)),
    )
    def test_another_models_generation_is_refused(self, change: dict[str, Any], published: Path) -> None:
        other = self.spec(published, **change)
        for ask in (self.engine.open, self.engine.inspect):
            with pytest.raises(IndexDamaged, match=next(iter(change)).replace("fingerprint", "embedding model")):
                ask(other)

    def test_unknown_options_are_refused(self) -> None:
        with pytest.raises(ValueError, match="efConstruction"):
            self.engine.check_options({"efConstruction": 100})
