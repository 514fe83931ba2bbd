"""ROC, its area and the kept curve, against counting pairs one by one."""

from __future__ import annotations

import numpy as np
import pytest

from search.engines.types import Metric
from search.engines.vectors import distance_table
from search.evaluation.metrics import NotMeasurable
from search.evaluation.thresholds import Pairs, choose, halves, pairs_of
from search.evaluation.verification import SHOWN, area, roc, verify
from tests.search.evaluation.points import clouds, labelled


def pairs(same: list[float], different: list[float]) -> Pairs:
    return Pairs(np.sort(np.array(same, float)), np.sort(np.array(different, float)))


def test_the_area_is_the_share_of_comparisons_that_are_right_and_ties_count_half() -> None:
    assert area(pairs([1, 2], [3, 4])) == 1.0
    assert area(pairs([3, 4], [1, 2])) == 0.0
    assert area(pairs([1, 2], [2, 2])) == 0.75
    random = np.random.default_rng(4)
    same, different = random.integers(0, 20, 50).tolist(), random.integers(5, 30, 70).tolist()
    expected = np.mean([(s < d) + 0.5 * (s == d) for s in same for d in different])
    assert area(pairs(same, different)) == pytest.approx(expected)


def test_the_curve_rises_from_nothing_to_everything() -> None:
    random = np.random.default_rng(5)
    points = roc(pairs(random.normal(1, 1, 300).tolist(), random.normal(3, 1, 5_000).tolist()))
    assert points[0] == (0.0, 0.0)
    assert points[-1] == (1.0, 1.0)
    assert points == sorted(points)
    assert len(points) < 500
    assert sum(0 < false <= 0.01 for false, _ in points) > 5  # where it matters


def test_rates_and_the_kept_curve_are_counts_of_pairs() -> None:
    stored, queries = clouds(6, 12, 0.9), clouds(6, 4, 0.9, prefix="query", seed=9)
    choice = choose(stored, Metric.L2)
    found = verify(choice, queries, stored, Metric.L2)
    every = pairs_of(queries, stored, Metric.L2)
    assert (found.same_pairs, found.different_pairs) == (len(every.same), len(every.different)) == (6 * 4 * 12, 1440)
    for each in found.reported:
        assert each.true_match_rate == np.mean(every.same <= each.threshold.distance)
        assert each.false_match_rate == np.mean(every.different <= each.threshold.distance)
        assert round(each.threshold.distance or 0, 6) in found.curve.distances
    for at in (0, 100, 250, -1):
        distance = found.curve.distances[at]
        assert found.curve.same[at] == np.sum(every.same <= distance)
        assert found.curve.different[at] == np.sum(every.different <= distance)
    assert found.curve.shown[-1] == len(queries) * SHOWN
    assert (found.curve.same[-1], found.curve.different[-1]) == (found.same_pairs, found.different_pairs)


def test_without_a_pair_of_one_label_nothing_can_be_said() -> None:
    stored = labelled([[1.0], [2.0]], ["a", "b"])
    with pytest.raises(NotMeasurable, match="no pair of one label"):
        verify(choose(stored, Metric.L2), labelled([[1.0]], ["c"], "query"), stored, Metric.L2)


def test_nearest_are_of_all_that_is_stored_without_the_query_itself() -> None:
    points = clouds(4, 20, 0.9)
    choosing, reporting = halves(points)
    found = verify(choose(choosing, Metric.L2), reporting, choosing, Metric.L2, among=points)
    table = distance_table(reporting.vectors, points.vectors, Metric.L2)
    expected = np.sort(table, axis=1)[:, 1 : SHOWN + 1]  # the first is the query itself
    for distance, count in zip(found.curve.distances[::40], found.curve.shown[::40], strict=True):
        assert count == np.sum(expected <= distance)
