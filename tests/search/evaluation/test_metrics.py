"""Retrieval figures against what one counts by hand, and against the plainest program for them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from search.engines.types import Metric
from search.engines.vectors import exact_distances
from search.evaluation import metrics
from search.evaluation.metrics import NotMeasurable, retrieval


def column(*values: float) -> NDArray[np.float32]:
    return np.array([[value] for value in values], np.float32)


def test_one_query_counted_by_hand() -> None:
    stored = column(1, 2, 3, 4, 5)  # from the query at 0: a b a b a
    found = retrieval(column(0), ["a"], stored, ["a", "b", "a", "b", "a"], Metric.L2)
    assert found.n == 1
    assert found.precision_at == {1: 1.0, 10: pytest.approx(2 / 3), 100: pytest.approx(2 / 3)}  # of its 3
    assert found.mean_average_precision == pytest.approx((1 / 1 + 2 / 3 + 3 / 5) / 3)


def test_a_label_with_fewer_than_k_others_can_reach_one() -> None:
    found = retrieval(column(0), ["a"], column(1, 2, 8, 9), ["a", "a", "b", "b"], Metric.L2)
    assert found.precision_at == {1: 1.0, 10: 1.0, 100: 1.0}
    assert found.mean_average_precision == 1.0


def test_of_equally_near_ones_those_of_other_labels_count_as_nearer_in_any_order() -> None:
    for labels in (["a", "b"], ["b", "a"]):
        found = retrieval(column(0), ["a"], column(1, 1), labels, Metric.L2)
        assert found.precision_at[1] == 0.0
        assert found.mean_average_precision == 0.5


def test_a_query_is_not_found_by_itself() -> None:
    stored, labels = column(0, 0.1, 5, 5.1), ["a", "b", "a", "b"]
    found = retrieval(stored, labels, stored, labels, Metric.L2, leave_one_out=True)
    assert found.precision_at[1] == 0.0
    assert retrieval(stored, labels, stored, labels, Metric.L2).precision_at[1] == 1.0


def test_what_nothing_stored_could_answer_is_in_no_figure_and_counted() -> None:
    stored, labels = column(0, 1, 9), ["a", "a", "alone"]
    found = retrieval(stored, labels, stored, labels, Metric.L2, leave_one_out=True)
    assert (found.n, found.left_out) == (2, 1)
    assert list(found.per_label) == ["a"]
    with pytest.raises(NotMeasurable, match="nothing that could be found"):
        retrieval(column(1), ["c"], stored, labels, Metric.L2)


def test_each_label_has_its_own_figures_and_each_query_weighs_the_same() -> None:
    stored, labels = column(0, 1, 2, 10, 2.5), ["a", "a", "a", "b", "b"]
    found = retrieval(stored, labels, stored, labels, Metric.L2, leave_one_out=True)
    assert (found.per_label["a"].n, found.per_label["a"].stored) == (3, 3)
    assert found.per_label["a"].precision_at[1] == pytest.approx(2 / 3)  # 2 is nearest to 2.5
    assert found.per_label["b"].precision_at[1] == pytest.approx(1 / 2)
    assert found.precision_at[1] == pytest.approx(3 / 5)


@pytest.mark.parametrize("metric", Metric)
def test_it_agrees_with_sorting_every_distance_in_blocks_of_any_size(
    metric: Metric, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(2)
    vectors = random.normal(size=(60, 5)).astype(np.float32)
    labels = [str(each) for each in random.integers(0, 4, 60)]
    at_once = retrieval(vectors, labels, vectors, labels, metric, leave_one_out=True)
    monkeypatch.setattr(metrics, "TABLE_VALUES", 7 * 60)
    found = retrieval(vectors, labels, vectors, labels, metric, leave_one_out=True)
    assert found == at_once
    precisions, averages = [], []
    for row in range(60):
        distances = exact_distances(vectors, vectors[row], metric)
        order = [each for each in np.argsort(distances) if each != row]
        hits = [labels[each] == labels[row] for each in order]
        ranks = [place for place, hit in enumerate(hits, start=1) if hit]
        precisions.append(sum(hits[: min(10, len(ranks))]) / min(10, len(ranks)))
        averages.append(np.mean([number / rank for number, rank in enumerate(ranks, start=1)]))
    assert found.precision_at[10] == pytest.approx(np.mean(precisions))
    assert found.mean_average_precision == pytest.approx(np.mean(averages))


def test_shapes_that_do_not_fit_are_refused() -> None:
    two, three = column(1, 2), column(1, 2, 3)
    with pytest.raises(ValueError, match="one label for each"):
        retrieval(two, ["a"], three, ["a"] * 3, Metric.L2)
    with pytest.raises(ValueError, match="not compared"):
        retrieval(np.ones((2, 2), np.float32), ["a"] * 2, three, ["a"] * 3, Metric.L2)
    with pytest.raises(ValueError, match="its own row"):
        retrieval(three, ["a"] * 3, two, ["a"] * 2, Metric.L2, leave_one_out=True)
