"""Which labels teach, choose and judge."""

from __future__ import annotations

import numpy as np
import pytest

from search.teaching.errors import TeachingRefused
from search.teaching.splitting import LEAST_CLASSES, LEAST_LABELS, MOST_LABELS, MOST_ROWS, drawn, split


def labels(*sizes: int) -> list[str]:
    return [f"class {number}" for number, size in enumerate(sizes) for _ in range(size)]


def test_every_row_is_in_one_part_and_classes_are_kept_whole() -> None:
    names = labels(40, 40, 40, 10, 8, 25, 40, 40, 40, 40)
    parts = split(names, 0)
    together = np.concatenate([parts.training, parts.choosing, parts.judging, parts.unseen])
    assert sorted(together) == list(range(len(names)))
    unseen = {names[row] for row in parts.unseen}
    taught = {names[row] for row in parts.training}
    assert len(unseen) == 2 and len(taught) == 8
    assert not unseen & taught
    assert {names[row] for row in parts.judging} == {names[row] for row in parts.choosing} == taught
    assert parts.set_aside < taught and len(parts.set_aside) == 2


def test_a_class_is_split_by_share() -> None:
    names = labels(*[40] * 5)
    parts = split(names, 0)
    one = names[parts.training[0]]
    sizes = [sum(names[row] == one for row in part) for part in (parts.training, parts.choosing, parts.judging)]
    assert sizes == [24, 8, 8]


def test_the_seed_decides() -> None:
    names = labels(*[12] * 10)
    first, again, other = (split(names, seed) for seed in (3, 3, 4))
    for part in ("training", "choosing", "judging", "unseen"):
        np.testing.assert_array_equal(getattr(first, part), getattr(again, part))
    assert not np.array_equal(first.judging, other.judging)
    assert drawn(names, 3) == drawn(names, 3)


@pytest.mark.parametrize("sizes", [(), (50,), (50,) * (LEAST_CLASSES - 1), (LEAST_LABELS - 1,) * 50])
def test_too_little_is_refused_with_what_is_needed(sizes: tuple[int, ...]) -> None:
    with pytest.raises(TeachingRefused, match=f"at least {LEAST_LABELS} labelled.*needs {LEAST_CLASSES} such classes"):
        drawn(labels(*sizes), 0)


def test_the_least_there_can_be_is_enough() -> None:
    names = labels(*[LEAST_LABELS] * LEAST_CLASSES)
    parts = split(names, 0)
    assert all(len(part) for part in (parts.training, parts.choosing, parts.judging, parts.unseen))
    assert parts.set_aside


def test_small_classes_and_more_than_enough_are_left_out() -> None:
    names = labels(*[LEAST_LABELS] * LEAST_CLASSES, LEAST_LABELS - 1, MOST_LABELS + 50)
    rows = drawn(names, 0)
    assert len(rows) == LEAST_LABELS * LEAST_CLASSES + MOST_LABELS
    assert rows == sorted(set(rows))
    assert "class 5" not in {names[row] for row in rows}


def test_no_catalogue_is_too_large() -> None:
    assert len(drawn(labels(*[150] * 200), 0)) <= MOST_ROWS
    assert len(drawn(labels(*[LEAST_LABELS] * (MOST_ROWS // LEAST_LABELS + 500)), 0)) <= MOST_ROWS
