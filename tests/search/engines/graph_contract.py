"""What engines with a graph promise besides (search.engines.graph_engine); a small subclass for each runs it."""

from __future__ import annotations

import gc
import importlib
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from search.engines import planning
from search.engines.errors import BuildFailed, IndexDamaged, InvalidVector
from search.engines.graph_engine import GraphEngine
from search.engines.graph_library import Graph, GraphLibrary
from search.engines.graph_verify import LOOKS
from search.engines.protocols import IndexReader
from search.engines.types import IndexSpec, Metric, Scope, Strategy
from search.engines.vectors import graph_rows
from tests.search.engines.contract import DIMENSION, EngineContract, Stored, clustered, true_distances


def first_ids(reader: IndexReader, vectors: NDArray[np.float32]) -> list[int]:
    return [int(reader.search(vector, 1).ids[0]) for vector in vectors]


class GraphContract(EngineContract):
    """``engine`` is a GraphEngine. ``weak`` are options that make a poor graph, ``hopeless`` those of a useless one.

    ``loses_some``: not every node of a poor graph is found by its own vector.
    """

    engine: GraphEngine
    weak: ClassVar[Mapping[str, Any]] = {"m": 5, "ef_construction": 40}
    hopeless: ClassVar[Mapping[str, Any]] = {"m": 2, "ef_construction": 10}
    loses_some: ClassVar[bool] = True

    @property
    def library(self) -> GraphLibrary:
        return importlib.import_module(self.engine.library)

    def built_graph(self, root: Path, count: int, width: int) -> tuple[Graph, Stored]:
        """A graph by our module for the library alone, without an engine around it."""
        stored = Stored.of(clustered(count))
        builder = self.library.GraphBuilder(DIMENSION, self.engine.check_options(self.options))
        rows = graph_rows(stored.vectors, Metric.L2)
        builder.add(rows[: count // 2])
        builder.add(rows[count // 2 :])
        builder.save(root / "graph")
        return self.library.Graph(root / "graph", count, DIMENSION, width), stored

    # --- what is not planned as a scan ---

    @pytest.mark.parametrize("k", [1, 10])
    def test_distances_of_what_the_graph_found_are_the_true_ones(self, stored: Stored, metric: Metric, k: int) -> None:
        query = clustered(1, seed=5)[0]
        hits = stored.reader.search(query, k)
        assert hits.effort is not None
        assert hits.effort.strategy is Strategy.GRAPH
        rows = np.searchsorted(stored.ids, hits.ids)
        np.testing.assert_allclose(
            hits.distances, true_distances(stored.vectors[rows], query, metric), rtol=0, atol=1e-9
        )

    # --- scopes that are too large to scan ---

    def test_a_large_scope_is_searched_in_the_graph(
        self, stored: Stored, metric: Metric, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(planning, "ROWS_PER_NODE", 0)  # so that 400 of 1,200 rows count as large
        allowed, found = stored.collections == 1, 0
        for query in clustered(30, seed=21):
            hits = stored.reader.search(query, 10, Scope(collections=np.array([1])))
            assert len(hits) == 10
            assert allowed[np.searchsorted(stored.ids, hits.ids)].all()
            found += len(set(hits.ids.tolist()) & set(stored.nearest(query, 10, metric, allowed)))
        assert found >= 0.98 * 300

    def test_a_scope_far_from_the_query_is_still_filled(
        self, stored: Stored, metric: Metric, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The graph's nearest are all outside the scope: it is widened, and at last the scope is scanned."""
        monkeypatch.setattr(planning, "ROWS_PER_NODE", 0)
        query = stored.vectors[0]
        far = np.sort(np.array(stored.nearest(query, 1_200, metric)[-40:]))
        hits = stored.reader.search(query, 25, Scope(ids=far))
        assert hits.ids.tolist() == stored.nearest(query, 25, metric, np.isin(stored.ids, far))

    # --- what a build measures ---

    def test_every_stored_vector_is_found_by_itself(self, tmp_path: Path) -> None:
        """Clouds so tight that a weak graph does not lead to all of them."""
        vectors = clustered(40, seed=30)[np.arange(2_000) % 40]
        vectors = (vectors + np.random.default_rng(31).normal(scale=1e-3, size=vectors.shape)).astype(np.float32)
        options = self.engine.check_options({**self.options, **self.weak, "target_recall": 0.5})
        stored = self.publish(self.spec(tmp_path / "index", options=options), Stored.of(vectors))
        assert (stored.reader.manifest.measured["stragglers"] > 0) == self.loses_some
        assert first_ids(stored.reader, vectors) == stored.ids.tolist()

    def test_the_search_width_is_tuned_to_the_target(self, tmp_path: Path) -> None:
        """On vectors without clusters, which are hard. What was measured on the way is kept, and one step beyond."""
        noise = np.random.default_rng(4).normal(size=(3_000, 48)).astype(np.float32)
        steps: list[str] = []
        widths = []
        for target in (0.6, 0.98):
            options = self.engine.check_options({**self.options, "target_recall": target})
            spec = self.spec(tmp_path / f"{target}", dimension=48, options=options)
            manifest = self.write(spec, Stored.of(noise)).publish(lambda step, done, total: steps.append(step))
            measured = manifest.measured
            widths.append(measured[self.library.WIDTH])
            assert measured["recall"] >= target
            curve = {point["width"]: point for point in measured["curve"]}
            assert len(curve) >= 5
            assert list(curve) == sorted(curve)
            assert max(curve) > widths[-1]
            assert curve[widths[-1]]["recall"] == pytest.approx(measured["recall"], abs=1e-4)
            assert all(0 < point["p50_ms"] <= point["p95_ms"] for point in curve.values())
        assert widths[0] < widths[1]
        assert list(dict.fromkeys(steps))[:4] == ["adding", "building", "tuning", "checking"]
        self.assert_all_find_themselves(spec, noise)

    def assert_all_find_themselves(self, spec: IndexSpec, vectors: NDArray[np.float32]) -> None:
        """Also those that a build found by a narrower look than its readers search with (BuiltGraph.stragglers)."""
        reader = self.engine.open(spec)
        assert reader.manifest.measured[self.library.WIDTH] > LOOKS[0]
        assert first_ids(reader, vectors) == Stored.of(vectors).ids.tolist()

    def test_a_graph_that_misses_its_target_is_not_published(self, tmp_path: Path) -> None:
        noise = np.random.default_rng(4).normal(size=(6_000, 96)).astype(np.float32)
        options = self.engine.check_options({**self.options, **self.hopeless, "target_recall": 0.999})
        spec = self.spec(tmp_path / "index", dimension=96, options=options)
        writer = self.write(spec, Stored.of(noise))
        with pytest.raises(BuildFailed, match="VISEARCH_ENGINES"):
            writer.publish()
        writer.discard()
        assert sorted(path.name for path in spec.root.iterdir()) == ["lock"]

    # --- the library behind the engine ---

    def test_the_graph_fills_k_whatever_its_width(self, tmp_path: Path) -> None:
        """HNSW finds no more than its width: NMSLIB's is 20 after every load."""
        graph, stored = self.built_graph(tmp_path, 600, width=16)
        for k in (1, 5, 100, 600, 900):
            found = graph.nearest(stored.vectors[7], k)
            assert len(found) == len(set(found.tolist())) == min(k, 600)
            assert found[0] == 7
            assert found.dtype == np.int64
        many = graph.nearest_of_many(stored.vectors[:30], 100)
        assert [int(near[0]) for near in many] == list(range(30))
        assert {len(near) for near in many} == {100}

    def test_threads_that_ask_for_different_k_each_get_theirs(self, tmp_path: Path) -> None:
        """NMSLIB's width is one number for all of them; a narrower one than k finds fewer than k."""
        graph, stored = self.built_graph(tmp_path, 1_200, width=16)
        start = threading.Barrier(8)

        def ask(seed: int) -> list[tuple[int, int]]:
            random = np.random.default_rng(seed)
            start.wait()
            wanted = random.choice([1, 5, 100, 400], 400).tolist()
            return [(k, len(graph.nearest(stored.vectors[random.integers(1_200)], k))) for k in wanted]

        with ThreadPoolExecutor(8) as pool:
            assert [short for answers in pool.map(ask, range(8)) for short in answers if short[0] != short[1]] == []

    @pytest.mark.parametrize(
        "row",
        [np.zeros(DIMENSION - 1, np.float32), np.zeros(DIMENSION + 1, np.float32), np.zeros(DIMENSION, np.float64)],
        ids=["short", "long", "float64"],
    )
    def test_a_row_that_the_library_would_misread_does_not_reach_it(self, row: Any, tmp_path: Path) -> None:
        graph, _ = self.built_graph(tmp_path, 50, width=16)
        with pytest.raises(InvalidVector):
            graph.nearest(row, 3)
        with pytest.raises(InvalidVector):
            graph.nearest_of_many(row[None, :], 3)
        with pytest.raises(InvalidVector):
            self.library.GraphBuilder(DIMENSION, self.engine.check_options(self.options)).add(row[None, :])

    def test_a_file_of_another_number_of_nodes_is_refused(self, tmp_path: Path) -> None:
        self.built_graph(tmp_path, 50, width=16)
        with pytest.raises(IndexDamaged, match="50"):
            self.library.Graph(tmp_path / "graph", 51, DIMENSION, 16)
        (tmp_path / "graph").write_bytes(bytes((tmp_path / "graph").stat().st_size))
        with pytest.raises(IndexDamaged):
            self.library.Graph(tmp_path / "graph", 50, DIMENSION, 16)

    # --- processes ---

    def test_a_replaced_reader_is_freed(self, tmp_path: Path) -> None:
        stored = self.publish(self.spec(tmp_path / "index"), Stored.of(clustered(50)))
        stored.reader.search(stored.vectors[0], 3)
        gone = weakref.ref(stored.reader)
        del stored.reader
        gc.collect()
        assert gone() is None

    def test_the_library_is_loaded_when_a_graph_is_opened_and_not_before(self, tmp_path: Path) -> None:
        spec = self.spec(tmp_path / "index")
        self.publish(spec, Stored.of(clustered(20)))
        engine, module = type(self.engine), self.engine.package.removesuffix("-cpu")
        program = f"""
import sys
from pathlib import Path
from {engine.__module__} import {engine.__name__}
from search.engines.types import IndexSpec, Metric
spec = IndexSpec(Path({str(spec.root)!r}), {spec.fingerprint!r}, {DIMENSION}, Metric.L2, {dict(spec.options)!r})
{engine.__name__}().inspect(spec)
assert {module!r} not in sys.modules and "django" not in sys.modules
{engine.__name__}().open(spec)
assert {module!r} in sys.modules and "django" not in sys.modules
"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def test_a_bad_option_is_refused_by_name(self) -> None:
        for options, word in [({"target_recall": 1.5}, "target_recall"), ({"depth": 3}, "unknown option depth")]:
            with pytest.raises(ValueError, match=word):
                self.engine.check_options({**self.options, **options})
