"""Whatever was published once stays readable: a generation of every format, as its code wrote it (golden/make.py)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from search.engines.exact import Exact
from search.engines.manifest import FORMAT_VERSION
from search.engines.nmslib_hnsw import NmslibHnsw
from search.engines.protocols import IndexEngine
from search.engines.types import IndexSpec, Metric, Scope

GOLDEN = Path(__file__).parent / "golden"
ENGINES: dict[str, IndexEngine] = {"exact": Exact(), "nmslib_hnsw": NmslibHnsw()}


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.glob("format*")))
def test_a_generation_of_every_format_answers(name: str, tmp_path: Path) -> None:
    root = shutil.copytree(GOLDEN / name / "index", tmp_path / "index")
    spec = IndexSpec(root, "ab" * 32, 8, Metric.L2, {})
    engine = ENGINES[name.partition("_")[2]]
    reader = engine.open(spec)
    assert (reader.count, reader.highest_id) == (60, 2**40 + 59 * 3)
    assert engine.inspect(spec).engine == engine.name
    for answer in json.loads((GOLDEN / name / "answers.json").read_text()):
        hits = reader.search(np.array(answer["query"]), len(answer["ids"]))
        assert hits.ids.tolist() == answer["ids"]
        np.testing.assert_allclose(hits.distances, answer["distances"], rtol=0, atol=1e-12)
    inside = reader.search(np.ones(8), 60, Scope(collections=np.array([2])))
    assert sorted(inside.ids.tolist()) == [2**40 + 3 * row for row in range(2, 60, 4)]


def test_the_present_format_has_its_golden_generation() -> None:
    assert {f"format{FORMAT_VERSION}_exact", f"format{FORMAT_VERSION}_nmslib_hnsw"} <= {
        path.name for path in GOLDEN.iterdir()
    }
