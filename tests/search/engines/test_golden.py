"""Whatever was published once stays readable: a generation of every format, as its code wrote it (golden/make.py)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from search.engines.manifest import FORMAT_VERSION
from search.engines.types import IndexSpec, Metric, Scope, Strategy
from tests.search.engines.golden.make import KINDS

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.glob("format*")))
def test_a_generation_of_every_format_answers(name: str, tmp_path: Path) -> None:
    root = shutil.copytree(GOLDEN / name / "index", tmp_path / "index")
    spec = IndexSpec(root, "ab" * 32, 8, Metric.L2, {})
    kind = KINDS[name.partition("_")[2]]
    reader = kind.engine.open(spec)
    assert (reader.count, reader.highest_id) == (kind.count, 2**40 + (kind.count - 1) * 3)
    assert kind.engine.inspect(spec).engine == kind.engine.name
    for answer in json.loads((GOLDEN / name / "answers.json").read_text()):
        hits = reader.search(np.array(answer["query"]), len(answer["ids"]))
        assert hits.ids.tolist() == answer["ids"]
        np.testing.assert_allclose(hits.distances, answer["distances"], rtol=0, atol=1e-12)
        assert hits.effort is not None
        assert hits.effort.strategy is (Strategy.GRAPH if name.endswith("_graph") else Strategy.SCAN)
    inside = reader.search(np.ones(8), kind.count, Scope(collections=np.array([2])))
    assert sorted(inside.ids.tolist()) == [2**40 + 3 * row for row in range(2, kind.count, 4)]


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.glob("format*_graph")))
def test_every_row_of_a_kept_graph_is_found(name: str, tmp_path: Path) -> None:
    """Also those that it does not lead to, and the second of two equal ones."""
    root = shutil.copytree(GOLDEN / name / "index", tmp_path / "index")
    reader = KINDS[name.partition("_")[2]].engine.open(IndexSpec(root, "ab" * 32, 8, Metric.L2, {}))
    vectors = np.load(next(root.glob("*/vectors.npy")))
    assert reader.manifest.measured["stragglers"] > 0
    lost = [row for row, vector in enumerate(vectors) if 2**40 + 3 * row not in reader.search(vector, 2).ids]
    assert lost == []


def test_the_present_format_has_its_golden_generations() -> None:
    assert {f"format{FORMAT_VERSION}_{kind}" for kind in KINDS} <= {path.name for path in GOLDEN.iterdir()}
