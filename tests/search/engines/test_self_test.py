"""Before a generation is published, a fresh process searches in it as everybody will; what fails is thrown away."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from search.engines.errors import BuildFailed
from search.engines.exact import Exact
from search.engines.types import IndexSpec, Metric
from tests.search.engines import lying
from tests.search.engines.contract import DIMENSION, Stored, clustered


def spec_of(root: Path, metric: Metric = Metric.L2) -> IndexSpec:
    return IndexSpec(root, "ab" * 32, DIMENSION, metric, {})


def publish(engine: Exact, spec: IndexSpec, stored: Stored) -> str:
    writer = engine.start(spec)
    writer.add(stored.ids, stored.vectors, stored.collections)
    try:
        return writer.publish().generation
    except BaseException:
        writer.discard()
        raise


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> IndexSpec:
    """An index that serves a good generation; builds that fail leave it alone."""
    spec = spec_of(tmp_path_factory.mktemp("served"))
    publish(Exact(), spec, Stored.of(clustered(20)))
    return spec


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        (lying.DoesNotFindItself, r"id \d+ does not find itself first"),
        (lying.MissesNeighbours, r"recall@10 .* below the target"),
        (lying.SquaresDistances, "distances that are not the true ones"),
        (lying.FindsFew, "got 3"),
        (lying.FindsStrangers, "never put in"),
        (lying.ForgetsTheScope, "inside a scope"),
        (lying.CountsWrong, "counts 299 vectors"),
        (lying.Dies, "killed by signal 11"),
    ],
)
def test_what_fails_its_test_is_not_published(served: IndexSpec, engine: type[Exact], words: str) -> None:
    before = sorted(path.name for path in served.root.iterdir())
    with pytest.raises(BuildFailed, match=words):
        publish(engine(), served, Stored.of(clustered(300)))
    assert sorted(path.name for path in served.root.iterdir()) == before
    assert Exact().open(served).count == 20


def test_many_equal_vectors_pass(tmp_path: Path) -> None:
    """More of them than are asked for: any of them is right."""
    vectors = np.concatenate([np.tile(clustered(1), (50, 1)), clustered(30, seed=3)])
    for metric in Metric:
        publish(Exact(), spec_of(tmp_path / str(metric), metric), Stored.of(vectors))


def test_progress_tells_of_it(tmp_path: Path) -> None:
    stored, told = Stored.of(clustered(30)), []
    writer = Exact().start(spec_of(tmp_path))
    writer.add(stored.ids, stored.vectors, stored.collections)
    writer.publish(lambda *step: told.append(step))
    assert ("checking", 0, 30) in told
    assert ("checking", 30, 30) in told
    assert told[-1] == ("publishing", 1, 1)
