"""kill -9 of a builder where it hurts most: what served serves, or what has just been published, and both whole."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.build_stages import WatchedBuild
from search.engines.nmslib_hnsw import NmslibHnsw
from tests.search.engines.contract import Stored, clustered
from tests.search.engines.test_generations import BUILDER, folders, publish, spec_of

ENGINE = NmslibHnsw()
STAGES = ["save", "before the rename", "before the pointer", "after it"]  # benchmarks.index_kills has them all


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("served")
    publish(ENGINE, root, 50)
    return root


@pytest.mark.parametrize("stage", STAGES)
def test_kill_9_in_each_stage(stage: str, served: Path, tmp_path: Path) -> None:
    root, watching = Path(shutil.copytree(served, tmp_path / "index")), tmp_path / "watching"
    watching.mkdir()
    before = ENGINE.open(spec_of(root, ENGINE)).generation
    command = [sys.executable, "-c", BUILDER, str(root), "nmslib", "400", "1"]
    build = WatchedBuild(command, watching, os.environ, stage)
    assert build.wait_for(stage, root)
    assert build.kill() == (stage, -9)
    reader = ENGINE.open(spec_of(root, ENGINE))
    assert reader.count == (400 if stage == "after it" else 50)
    if reader.count == 50:
        assert reader.generation == before
        stored = Stored.of(clustered(50))
        firsts = [int(reader.search(vector, 1).ids[0]) for vector in stored.vectors]
        assert firsts == stored.ids.tolist()
    else:
        assert len(np.unique(reader.search(clustered(1)[0], 400).ids)) == 400
    later = publish(ENGINE, root, 60)
    assert later.generation > reader.generation
    assert folders(root) == sorted([reader.generation, later.generation])
