"""Thresholds by false match rate: what they let through, how sure they are, and whom they must not be shown to."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from search.engines.types import Metric
from search.evaluation import thresholds
from search.evaluation.labelled import Labelled
from search.evaluation.thresholds import ChosenOnQueries, choose, halves, pairs_of, sampled, threshold_at
from search.evaluation.verification import verify
from tests.search.evaluation.points import clouds, labelled


def test_as_many_as_allowed_are_within_it_and_no_more() -> None:
    distances = np.arange(1.0, 201.0)
    assert threshold_at(distances, 0.01 * 200) == 2.5
    assert threshold_at(np.arange(1.0, 101.0), 0.01 * 100) == 1.5  # which floats make a bit less than 1
    assert threshold_at(distances, 0.9) is None


def test_of_those_equally_far_all_are_within_it_or_none() -> None:
    assert threshold_at(np.array([1.0, 2.0, 2.0, 2.0, 3.0]), 2) == 1.5
    assert threshold_at(np.array([2.0, 2.0, 2.0, 3.0]), 2) is None


def test_a_chosen_threshold_holds_its_rate_on_what_it_was_chosen_on() -> None:
    points = clouds(labels=8, each=12, spread=0.9)
    choice = choose(points, Metric.L2)
    different = [
        np.linalg.norm(points.vectors[i] - points.vectors[j])
        for i in range(len(points))
        for j in range(i)
        if points.labels[i] != points.labels[j]
    ]
    assert choice.pairs == len(different)
    for each in choice.thresholds:
        assert each.distance is not None
        within = np.mean(np.array(different) <= each.distance)
        assert each.rate - 1 / len(different) <= within <= each.rate
        assert each.low is not None
        assert each.high is not None
        assert each.low <= each.distance <= each.high
        assert each.low < each.high


def test_too_few_pairs_choose_nothing_rather_than_something() -> None:
    choice = choose(clouds(labels=2, each=5, spread=0.5), Metric.L2)  # 25 pairs of two labels
    assert [each.distance is None for each in choice.thresholds] == [True, True, False]
    assert choice.at(0.01) is None
    assert choose(labelled([[1.0], [2.0]], ["a", "a"]), Metric.L2).at(0.1) is None


def test_intervals_are_drawn_over_labels_where_there_are_enough() -> None:
    assert choose(clouds(labels=20, each=3, spread=0.5), Metric.COSINE).resampled == "labels"
    assert choose(clouds(labels=19, each=3, spread=0.5), Metric.COSINE).resampled == "images"


def test_more_images_make_it_surer() -> None:
    widths = []
    for each in (6, 60):
        found = choose(clouds(labels=4, each=each, spread=0.9), Metric.L2).thresholds[-1]
        assert found.high is not None
        assert found.low is not None
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 1.5


def test_the_same_vectors_give_the_same_figures_also_where_some_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thresholds, "MOST_ROWS", 30)
    points = clouds(labels=4, each=20, spread=0.9)
    first = choose(points, Metric.L2)
    assert first == choose(points, Metric.L2)
    assert first.images == 30


def test_halves_share_no_image_and_both_have_every_label() -> None:
    points = clouds(labels=3, each=8, spread=0.5)
    twice = Labelled(np.concatenate([points.vectors] * 2), points.items * 2)  # two faces in every image
    one, other = halves(twice)
    assert not one.files & other.files
    assert len(one) + len(other) == len(twice)
    for half in (one, other):
        assert {label: half.labels.count(label) for label in half.labels} == dict.fromkeys(points.labels, 8)


def test_a_threshold_is_not_reported_on_what_it_was_chosen_on() -> None:
    points = clouds(labels=3, each=12, spread=0.5)
    choosing, reporting = halves(points)
    choice = choose(choosing, Metric.L2)
    assert verify(choice, reporting, choosing, Metric.L2).auc > 0.9
    with pytest.raises(ChosenOnQueries, match=choosing.items[0].name):
        verify(choice, choosing, choosing, Metric.L2)
    one_of_them = Labelled(points.vectors[:1], (dataclasses.replace(points.items[0], sha256=choosing.items[0].sha256),))
    with pytest.raises(ChosenOnQueries):
        verify(choice, one_of_them, choosing, Metric.L2)


def test_pairs_are_of_every_query_with_every_stored_one() -> None:
    queries = labelled([[0.0], [10.0]], ["a", "b"], "query")
    stored = labelled([[1.0], [12.0], [2.0]], ["a", "b", "c"])
    pairs = pairs_of(queries, stored, Metric.L2)
    assert pairs.same.tolist() == [1.0, 2.0]
    assert pairs.different.tolist() == [2.0, 8.0, 9.0, 12.0]


def test_a_draw_keeps_the_order() -> None:
    points = clouds(labels=2, each=50, spread=0.5)
    names = [item.name for item in sampled(points, 10).items]
    assert len(names) == 10
    assert names == sorted(names, key=lambda name: int(name.rpartition("-")[2]))


def test_few_queries_keep_their_pairs_in_a_catalogue_of_many_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    stored, queries = clouds(labels=300, each=2, spread=0.01), clouds(labels=5, each=1, spread=0.01, prefix="query")
    every = pairs_of(queries, stored, Metric.L2)
    monkeypatch.setattr(thresholds, "MOST_ROWS", 20)
    pairs = pairs_of(queries, stored, Metric.L2)
    assert len(every.same) == 5 * 2
    np.testing.assert_allclose(pairs.same, every.same, rtol=1e-6)
    assert len(pairs.different) <= 5 * 20


def test_a_threshold_on_a_handful_of_pairs_says_so_and_is_not_said_to_be_sure() -> None:
    choice = choose(clouds(labels=3, each=6, spread=0.9), Metric.L2)  # 108 pairs of two labels
    at_hundredth, at_tenth = choice.thresholds[1:]
    assert (at_hundredth.rests_on, at_tenth.rests_on) == (1, 10)
    assert at_hundredth.distance is not None
    assert at_hundredth.low is None
