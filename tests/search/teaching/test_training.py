"""Training for real: Keras on TensorFlow, in the process that alone loads it."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from catalog.vision.heads import Taught
from search.engines.types import Metric
from search.evaluation.labelled import Item, Labelled
from search.teaching import training
from search.teaching.comparing import Move, compare, moved
from search.teaching.errors import TeachingFailed
from search.teaching.splitting import split
from search.teaching.training import STAGES, Lesson, train
from tests.search.teaching.catalogue import vectors


@pytest.mark.models
def test_training_learns_what_tells_classes_apart_and_does_the_same_twice() -> None:
    rows = vectors(classes=8, each=12).reshape(96, 8)
    labels = [f"class {number // 12}" for number in range(96)]
    labelled = Labelled(rows, tuple(Item(str(n), str(n), label, f"{n:064x}") for n, label in enumerate(labels)))
    parts = split(labels, 0)
    taught = np.concatenate([parts.training, parts.choosing])
    lesson = Lesson(rows[taught], [labels[row] for row in taught])
    learned = train([lesson, lesson], seed=3)
    first, second = learned.heads
    assert len(first) == len(second) == len(STAGES)
    for stage, again in zip(first, second, strict=True):
        assert stage.projection.shape == (8, 4) and stage.mean.shape == (8,)
        np.testing.assert_array_equal(stage.projection, again.projection)
        comparison = compare(labelled, parts, _mover(stage), Metric.COSINE)
        assert comparison.labels.after.p10 > comparison.labels.before.p10 + 0.05
    assert np.abs(first[0].projection - first[1].projection).max() > 1e-4
    assert set(learned.libraries) == {"keras", "tensorflow"}
    assert not {"tensorflow", "keras"} & sys.modules.keys()


def _mover(taught: Taught) -> Move:
    return lambda rows: moved(rows, taught, 0.6)


def test_what_goes_wrong_in_the_process_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "CHILD", "search.teaching.nowhere")
    with pytest.raises(TeachingFailed, match=r"search\.teaching\.nowhere failed.*No module named"):
        train([Lesson(np.eye(4, dtype=np.float32), ["a", "a", "b", "b"])], seed=0)
