"""kill -9 of a builder where it hurts most: what served serves, or what has just been published, and both whole."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.build_stages import WatchedBuild
from search.engines.nmslib_hnsw import NmslibHnsw
from search.engines.protocols import IndexReader
from search.engines.types import Strategy
from tests.search.engines.contract import DIMENSION, Stored, clustered
from tests.search.engines.test_generations import BUILDER, folders, publish, spec_of

ENGINE = NmslibHnsw()
SERVED, BUILT = 1_500, 1_600  # rows; with fewer the graph is not asked
STAGES = ["save", "before the rename", "before the pointer", "after it"]  # benchmarks.index_kills has them all


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("served")
    publish(ENGINE, root, SERVED)
    return root


@pytest.mark.parametrize("stage", STAGES)
def test_kill_9_in_each_stage(stage: str, served: Path, tmp_path: Path) -> None:
    root, watching = Path(shutil.copytree(served, tmp_path / "index")), tmp_path / "watching"
    watching.mkdir()
    before = ENGINE.open(spec_of(root, ENGINE)).generation
    command = [sys.executable, "-c", BUILDER, str(root), "nmslib", str(BUILT), "1"]
    build = WatchedBuild(command, watching, os.environ, stage)
    assert build.wait_for(stage, root)
    assert build.kill() == (stage, -9)
    reader = ENGINE.open(spec_of(root, ENGINE))
    assert reader.count == (BUILT if stage == "after it" else SERVED)
    if reader.count == SERVED:
        assert reader.generation == before
        stored = Stored.of(clustered(SERVED))
        check_each_finds_itself(reader, stored.ids, stored.vectors)
    else:
        vectors = np.random.default_rng(0).normal(size=(BUILT, DIMENSION)).astype(np.float32)  # as BUILDER's
        check_each_finds_itself(reader, np.arange(BUILT) + 1, vectors)
    later = publish(ENGINE, root, 60)
    assert later.generation > reader.generation
    assert folders(root) == sorted([reader.generation, later.generation])


def check_each_finds_itself(reader: IndexReader, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
    answers = [reader.search(vector, 1) for vector in vectors]
    assert [int(hits.ids[0]) for hits in answers] == ids.tolist()
    assert {hits.effort.strategy for hits in answers if hits.effort} == {Strategy.GRAPH}
