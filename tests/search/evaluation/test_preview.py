"""What other thresholds lose and gain, before they are saved."""

from __future__ import annotations

from typing import Any

import pytest

from search.evaluation.preview import Limits, NotThresholds, preview, proposal

# Within 0, 1, 2, 3, 4: pairs of one label, of two, the first of every query.
FIGURES: dict[str, Any] = {
    "verification": {
        "curve": {
            "distances": [0.0, 1.0, 2.0, 3.0, 4.0],
            "same": [0, 60, 90, 100, 100],
            "different": [0, 0, 10, 500, 1000],
            "shown": [5, 40, 60, 70, 80],
        },
        "thresholds": [
            {"rate": 0.001, "distance": None},
            {"rate": 0.01, "distance": 2.0},
            {"rate": 0.1, "distance": 2.5},
        ],
    }
}


def test_a_smaller_same_loses_pairs_of_one_label_and_lets_fewer_others_in() -> None:
    seen = preview(FIGURES, Limits(2, 3), Limits(1, 3))
    same, near = seen.effects
    assert (same.kept, same.kept_change, same.let_in, same.let_in_change) == (60, -30, 0, -10)
    assert (near.kept, near.kept_change, near.let_in, near.let_in_change) == (100, 0, 500, 0)
    assert (seen.changed, seen.nearest) == (20, 80)  # between 1 and 2
    assert (seen.shown_now, seen.shown_then) == (70, 70)  # within near
    assert seen.changed_percent == 25


def test_results_that_change_twice_are_counted_once() -> None:
    assert preview(FIGURES, Limits(1, 2), Limits(2, 3)).changed == 20 + 10
    assert preview(FIGURES, Limits(1, 2), Limits(1, 2)).changed == 0
    assert preview(FIGURES, Limits(0.5, 1), Limits(9, 10)).changed == 80 - 22  # all but those within 0.5


def test_between_two_kept_distances_counts_are_interpolated() -> None:
    assert preview(FIGURES, None, Limits(1.5, 9)).effects[0].kept == 75


def test_a_model_without_thresholds_has_nothing_to_compare_with() -> None:
    seen = preview(FIGURES, None, Limits(1, 2))
    assert seen.changed is None
    assert seen.effects[0].kept_change is None


def test_the_proposal_is_what_was_chosen_at_one_and_ten_in_a_hundred() -> None:
    assert proposal(FIGURES) == Limits(2.0, 2.5)
    few = {"verification": {"thresholds": [{"rate": 0.01, "distance": None}, {"rate": 0.1, "distance": 2.5}]}}
    assert proposal(few) is None


@pytest.mark.parametrize(
    ("same", "near", "words"),
    [(1, 1, "more than same"), (2, 1, "more than same"), (-1, 1, "not negative"), (float("nan"), 1, "must be numbers")],
)
def test_what_cannot_be_thresholds(same: float, near: float, words: str) -> None:
    with pytest.raises(NotThresholds, match=words):
        Limits(same, near)
