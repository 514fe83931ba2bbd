"""Pure arithmetic of an answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from search.engines.types import Hits
from search.ranking import best_per_key, similarity, within

distances = st.floats(min_value=0, max_value=1e6)


@pytest.mark.parametrize(
    ("distance", "expected"),
    [(0, 1.0), (0.3, 0.75), (0.6, 0.5), (0.7, 0.375), (0.8, 0.25), (1.0, 0.0), (5.0, 0.0)],
)
def test_similarity_is_one_half_at_same_and_nothing_at_near(distance: float, expected: float) -> None:
    assert similarity(distance, same=0.6, near=1.0) == pytest.approx(expected)


@pytest.mark.parametrize(("distance", "expected"), [(0, 1.0), (0.25, 0.375), (0.5, 0.25), (1.0, 0.0)])
def test_a_model_that_takes_only_the_same_for_the_same(distance: float, expected: float) -> None:
    assert similarity(distance, same=0.0, near=1.0) == pytest.approx(expected)


@pytest.mark.parametrize(("same", "near"), [(None, None), (0.6, None), (None, 1.0)])
def test_without_a_measurement_there_is_no_similarity(same: float | None, near: float | None) -> None:
    assert similarity(0.3, same, near) is None


@given(distances, distances, distances, distances)
def test_similarity_falls_with_the_distance_from_one_to_zero(a: float, b: float, same: float, near: float) -> None:
    assume(same < near)
    nearer, farther = (similarity(distance, same, near) for distance in sorted((a, b)))
    assert nearer is not None
    assert farther is not None
    assert 0 <= farther <= nearer <= 1


def test_the_best_region_stands_for_its_image() -> None:
    hits = [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4), (5, 0.5)]
    items = {1: "a1", 2: "a2", 4: "b4", 5: "c5"}  # 3 may not be shown
    images = {1: "a", 2: "a", 4: "b", 5: "c"}
    assert best_per_key(hits, items, images, 2) == [("a1", 0.1), ("b4", 0.4)]
    assert best_per_key(hits, items, images, 9) == [("a1", 0.1), ("b4", 0.4), ("c5", 0.5)]
    assert best_per_key([], items, images, 9) == []


@given(st.lists(distances, max_size=30), distances)
def test_what_is_within_a_limit_is_all_that_is(values: list[float], limit: float) -> None:
    hits = Hits(np.arange(len(values)), np.sort(np.array(values, dtype=np.float64)))
    inside = within(hits, limit)
    assert inside.distances.tolist() == [value for value in sorted(values) if value <= limit]
    assert inside.ids.tolist() == list(range(len(inside)))
    assert within(hits, None) is hits
