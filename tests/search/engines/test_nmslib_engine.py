"""The NMSLIB engine keeps the contract, in scopes too large to scan as well, and lets go of what it replaced."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import psutil
import pytest

from search.engines import nmslib_hnsw
from search.engines.errors import BuildFailed
from search.engines.nmslib_hnsw import NmslibHnsw
from search.engines.types import IndexSpec, Metric, Scope
from tests.search.engines.contract import DIMENSION, EngineContract, Stored, clustered


class TestNmslibHnsw(EngineContract):
    engine = NmslibHnsw()

    def test_a_large_scope_is_searched_in_the_graph(
        self, stored: Stored, metric: Metric, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(nmslib_hnsw, "SCAN_ROWS", 0)  # so that 400 of 1,200 rows count as large
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
        monkeypatch.setattr(nmslib_hnsw, "SCAN_ROWS", 0)
        query = stored.vectors[0]
        far = np.sort(np.array(stored.nearest(query, 1_200, metric)[-40:]))
        hits = stored.reader.search(query, 25, Scope(ids=far))
        assert hits.ids.tolist() == stored.nearest(query, 25, metric, np.isin(stored.ids, far))

    def test_every_stored_vector_is_found_by_itself(self, metric: Metric, tmp_path: Path) -> None:
        """Clouds so tight that a weak graph (m 5) does not lead to all of them."""
        vectors = clustered(40, seed=30)[np.arange(2_000) % 40]
        vectors = (vectors + np.random.default_rng(31).normal(scale=1e-3, size=vectors.shape)).astype(np.float32)
        options = {**self.engine.check_options({"m": 5, "ef_construction": 40}), "target_recall": 0.5}
        stored = self.publish(self.spec(tmp_path / "index", metric, options=options), Stored.of(vectors))
        assert stored.reader.manifest.measured["stragglers"] > 0
        firsts = [int(stored.reader.search(vector, 1).ids[0]) for vector in vectors]
        assert firsts == stored.ids.tolist()

    def test_a_graph_that_misses_its_target_is_not_published(self, tmp_path: Path) -> None:
        noise = np.random.default_rng(4).normal(size=(6_000, 96)).astype(np.float32)
        options = {**self.engine.check_options({"m": 2, "ef_construction": 10}), "target_recall": 0.999}
        spec = self.spec(tmp_path / "index", dimension=96, options=options)
        writer = self.write(spec, Stored.of(noise))
        with pytest.raises(BuildFailed, match="VISEARCH_ENGINES"):
            writer.publish()
        writer.discard()
        assert sorted(path.name for path in spec.root.iterdir()) == ["lock"]

    def test_a_replaced_reader_is_freed(self, tmp_path: Path) -> None:
        stored = self.publish(self.spec(tmp_path / "index"), Stored.of(clustered(50)))
        stored.reader.search(stored.vectors[0], 3)
        gone = weakref.ref(stored.reader)
        del stored.reader
        gc.collect()
        assert gone() is None

    def test_the_builder_process_is_killed(self, tmp_path: Path) -> None:
        """As the kernel does when memory runs out: a clear reason, and the generation before goes on serving."""
        spec = self.spec(tmp_path / "index")
        served = self.publish(spec, Stored.of(clustered(50))).reader.generation
        writer = self.write(spec, Stored.of(clustered(40_000)), chunk=10_000)
        killer = threading.Thread(target=_kill_first_child)
        killer.start()
        with pytest.raises(BuildFailed, match="killed by signal 9"):
            writer.publish()
        killer.join()
        writer.discard()
        assert self.engine.open(spec).generation == served


def _kill_first_child() -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for child in psutil.Process().children():
            if "search.engines.nmslib_build" in child.cmdline():
                child.kill()
                return
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"m": 1}, "m is"),
        ({"m": "16"}, "m is"),
        ({"m": True}, "m is"),
        ({"ef_construction": 5}, "ef_construction"),
        ({"post": 3}, "post"),
        ({"target_recall": 1.5}, "target_recall"),
        ({"M": 16}, "unknown option M"),
    ],
)
def test_bad_options_are_refused_by_name(options: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        NmslibHnsw.check_options(options)


def test_the_engine_does_not_load_nmslib_before_a_graph_is_opened(tmp_path: Path) -> None:
    spec = IndexSpec(tmp_path / "index", "ab" * 32, DIMENSION, Metric.L2, NmslibHnsw.check_options({}))
    writer = NmslibHnsw().start(spec)
    stored = Stored.of(clustered(20))
    writer.add(stored.ids, stored.vectors, stored.collections)
    writer.publish()
    program = f"""
import sys
from pathlib import Path
from search.engines.nmslib_hnsw import NmslibHnsw
from search.engines.types import IndexSpec, Metric
spec = IndexSpec(Path({str(spec.root)!r}), {spec.fingerprint!r}, {DIMENSION}, Metric.L2, {dict(spec.options)!r})
NmslibHnsw().inspect(spec)
assert "nmslib" not in sys.modules and "django" not in sys.modules
NmslibHnsw().open(spec)
assert "nmslib" in sys.modules and "django" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
