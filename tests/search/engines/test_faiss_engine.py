"""The FAISS engine keeps the contract, with float32 and with float16 in its graph."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

pytest.importorskip("faiss", reason="requirements/faiss.txt is not installed")

from search.engines import faiss_graph
from search.engines.errors import BuildFailed, IndexDamaged
from search.engines.faiss_hnsw import FaissHnsw
from tests.search.engines.contract import DIMENSION, Stored, clustered
from tests.search.engines.graph_contract import GraphContract


class TestFaissHnsw(GraphContract):
    engine = FaissHnsw()

    @pytest.mark.parametrize("damage", ["cut", "no graph", "another dimension"])
    def test_what_is_no_graph_of_these_rows_is_refused(self, damage: str, tmp_path: Path) -> None:
        self.built_graph(tmp_path, 50, width=16)
        path, dimension = tmp_path / "graph", DIMENSION
        if damage == "cut":
            path.write_bytes(path.read_bytes()[:1_000])
        elif damage == "no graph":
            flat = faiss_graph.faiss.IndexFlatL2(DIMENSION)
            flat.add(clustered(50))
            faiss_graph.faiss.write_index(flat, str(path))
        else:
            dimension += 1
        with pytest.raises(IndexDamaged, match="graph"):
            faiss_graph.Graph(path, 50, dimension, 16)


class TestFaissHnswFp16(GraphContract):
    engine = FaissHnsw()
    options: ClassVar[Mapping[str, Any]] = {"storage": "fp16"}

    def test_the_file_is_half_as_large(self, tmp_path: Path) -> None:
        sizes = []
        for storage in ("flat", "fp16"):
            builder = faiss_graph.GraphBuilder(512, self.engine.check_options({"storage": storage}))
            builder.add(clustered(300, 512))
            builder.save(tmp_path / storage)
            sizes.append((tmp_path / storage).stat().st_size)
        assert sizes[1] < 0.6 * sizes[0]

    def test_rows_that_float16_cannot_tell_apart_are_ordered_by_their_true_distance(self, tmp_path: Path) -> None:
        """300 rows that differ by less than a float16 shows, which alone in a graph would cut each other off."""
        steps = np.random.default_rng(3).permutation(300).astype(np.float32)
        vectors = np.ones((300, DIMENSION), np.float32)
        vectors[:, 0] += steps * np.float32(1e-6)
        vectors = np.concatenate([vectors, clustered(200)])
        stored = self.publish(self.spec(tmp_path / "index"), Stored.of(vectors))
        nearest = stored.reader.search(vectors[int(np.argmin(steps))], 300).ids
        assert nearest.tolist() == stored.ids[np.argsort(steps)].tolist()

    def test_numbers_beyond_float16_are_refused_with_the_way_out(self, tmp_path: Path) -> None:
        stored = Stored.of(clustered(50) * np.float32(1e6))
        writer = self.write(self.spec(tmp_path / "index"), stored)
        with pytest.raises(BuildFailed, match=r"65504.*storage to flat"):
            writer.publish()
        writer.discard()


@pytest.mark.parametrize(
    ("options", "word"),
    [({"storage": "int8"}, "storage is 'flat' or 'fp16'"), ({"m": 1}, "m is"), ({"post": 2}, "unknown option post")],
)
def test_bad_options_are_refused_by_name(options: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        FaissHnsw.check_options(options)


def test_an_engine_whose_library_is_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FaissHnsw, "package", "faiss-that-nobody-has")
    with pytest.raises(ValueError, match=r"pip install -r requirements/faiss\.txt"):
        FaissHnsw.check_options({})
