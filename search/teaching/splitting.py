"""Which labelled vectors teach, which choose, and which judge. Seeded: the same labels give the same split."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.teaching.errors import TeachingRefused

LEAST_LABELS = 8  # of a class: two judge, one chooses, the others teach
LEAST_CLASSES = 5  # two are never seen, one more is kept from the training that chooses the weight
LEAST_UNSEEN = 2
UNSEEN_SHARE = 0.2  # of the classes
JUDGING_SHARE = CHOOSING_SHARE = 0.2  # of the labels of a class
MOST_LABELS = 200  # of a class; more add seconds and little else
MOST_ROWS = 10_000

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Split:
    """Row numbers, each in one part alone.

    ``unseen``: of classes that nothing learns. Of the other classes ``training``, ``choosing`` and ``judging``.
    ``set_aside``: classes of these that the training that chooses the weight does not learn either.
    """

    training: Rows
    choosing: Rows
    judging: Rows
    unseen: Rows
    set_aside: frozenset[str]


def large_enough(counts: Counter[str]) -> list[str]:
    """The classes that can be taught with. Raises TeachingRefused, with what is missing, where they are too few."""
    classes = sorted(label for label, count in counts.items() if count >= LEAST_LABELS)
    if len(classes) < LEAST_CLASSES:
        raise TeachingRefused(
            f"{len(classes)} of {len(counts)} classes have at least {LEAST_LABELS} labelled examples; teaching needs "
            f"{LEAST_CLASSES} such classes, because some are kept back to judge what was learned. Label more."
        )
    return classes


def drawn(labels: Sequence[str], seed: int) -> list[int]:
    """Rows to work with, in their order: of the classes that are large enough MOST_LABELS each, MOST_ROWS together.

    Of more classes than that holds, some are drawn. Raises TeachingRefused.
    """
    random = np.random.default_rng(seed)
    classes = large_enough(Counter(labels))
    if len(classes) * LEAST_LABELS > MOST_ROWS:
        classes = sorted(random.choice(classes, MOST_ROWS // LEAST_LABELS, replace=False).tolist())
    most = max(LEAST_LABELS, min(MOST_LABELS, MOST_ROWS // len(classes)))
    rows = _by_class(labels)
    chosen = [random.permutation(rows[label])[:most] for label in classes]
    return sorted(int(row) for part in chosen for row in part)


def split(labels: Sequence[str], seed: int) -> Split:
    """Every row of these ``labels`` in its part. Raises TeachingRefused where a class or their number is too small."""
    random = np.random.default_rng(seed)
    shuffled = random.permutation(large_enough(Counter(labels))).tolist()
    count = max(LEAST_UNSEEN, round(UNSEEN_SHARE * len(shuffled)))
    unseen, taught = shuffled[:count], shuffled[count:]
    rows = _by_class(labels)
    parts: dict[str, list[Rows]] = defaultdict(list)
    for label in taught:
        order = random.permutation(rows[label])
        judging = max(2, round(JUDGING_SHARE * len(order)))
        choosing = max(1, round(CHOOSING_SHARE * len(order)))
        parts["judging"].append(order[:judging])
        parts["choosing"].append(order[judging : judging + choosing])
        parts["training"].append(order[judging + choosing :])
    return Split(
        training=_joined(parts["training"]),
        choosing=_joined(parts["choosing"]),
        judging=_joined(parts["judging"]),
        unseen=_joined([rows[label] for label in unseen]),
        set_aside=frozenset(taught[: max(1, round(UNSEEN_SHARE * len(taught)))]),
    )


def _by_class(labels: Sequence[str]) -> dict[str, Rows]:
    found: dict[str, list[int]] = defaultdict(list)
    for row, label in enumerate(labels):
        found[label].append(row)
    return {label: np.array(rows, dtype=np.int64) for label, rows in found.items()}


def _joined(parts: Sequence[Rows]) -> Rows:
    return np.sort(np.concatenate(parts))
