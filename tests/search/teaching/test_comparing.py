"""The gate, and the choice of a weight by what the gate does not judge by."""

from __future__ import annotations

import re

import numpy as np
import pytest

from catalog.vision.heads import Taught
from search.engines.types import Metric
from search.evaluation.labelled import Item, Labelled
from search.teaching.comparing import WEIGHTS, Chosen, Comparison, Precision, Side, choose, compare, moved
from search.teaching.splitting import Split, split

COSINE = Metric.COSINE


def side(before: float, after: float, error: float = 0.03) -> Side:
    return Side(40, 2, Precision(0.5, before), Precision(0.5, after), error)


@pytest.mark.parametrize(
    ("labels", "unseen", "passed", "says"),
    [
        ((0.70, 0.79), (0.70, 0.70), True, "It may serve: P@10 went from 0.700 to 0.790 on 40 held-out examples"),
        ((0.70, 0.79), (0.70, 0.69), True, "from 0.700 to 0.690 on 40 examples of 2 classes that it never saw"),
        ((0.70, 0.79), (0.70, 0.689), False, "loses more than 0.01 where it was not"),
        ((0.70, 0.70), (0.70, 0.90), False, "no better where it was taught"),
        ((0.70, 0.72), (0.70, 0.70), False, r"may be chance .*, by \+0\.020 with a standard error of 0\.030"),
        ((0.70, 0.74), (0.70, 0.70), True, "on 40 held-out examples"),
        ((0.70, 0.60), (0.70, 0.50), False, "no better where it was taught .* and it loses more than 0.01"),
    ],
)
def test_the_gate(labels: tuple[float, float], unseen: tuple[float, float], passed: bool, says: str) -> None:
    comparison = Comparison(side(*labels), side(*unseen))
    assert comparison.passed is passed
    assert re.search(says, comparison.decision)
    assert comparison.as_json()["passed"] is passed


def catalogue(noise: float, classes: int = 10, each: int = 20, seed: int = 0) -> Labelled:
    """Classes lie apart in the first four numbers; twelve more are noise that says nothing."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((classes, 4))
    rows = [
        np.concatenate([centre + 0.15 * random.standard_normal(4), noise * random.standard_normal(12)])
        for centre in centres
        for _ in range(each)
    ]
    items = [Item(str(n), str(n), f"class {n // each}", f"{n:064x}") for n in range(classes * each)]
    return Labelled(np.array(rows, np.float32), tuple(items))


SIGNAL = Taught(np.eye(16, 4, dtype=np.float32), np.zeros(16, np.float32))  # what a good training would find
NOISE = Taught(np.eye(16, 12, -4, dtype=np.float32), np.zeros(16, np.float32))  # and a bad one


def test_a_good_head_gets_its_weight_and_passes() -> None:
    labelled = catalogue(noise=0.8)
    parts = split(labelled.labels, 0)
    chosen = choose(labelled, parts, (NOISE, SIGNAL), COSINE)
    assert chosen.stage == 1 and chosen.weight > WEIGHTS[0]
    weight = chosen.weight
    comparison = compare(labelled, parts, lambda vectors: moved(vectors, SIGNAL, weight), COSINE)
    assert comparison.passed
    assert comparison.labels.after.p10 > comparison.labels.before.p10 + 0.05
    assert (comparison.labels.n, comparison.unseen.n, comparison.unseen.classes) == (32, 40, 2)


def test_the_error_is_of_the_queries_gains() -> None:
    """Of four that judge one finds its like by what was taught alone: gains of 1, 0, 0, 0 have an error of 1/4."""
    places = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    items = tuple(Item(str(n), str(n), f"class {place}", f"{n:064x}") for n, place in enumerate(places))
    vectors = np.eye(5, dtype=np.float32)[places]
    wrong = vectors.copy()
    wrong[1] = vectors[2]
    parts = Split(np.array([0, 2, 4, 6]), np.array([], int), np.array([1, 3, 5, 7]), np.array([8, 9]), frozenset())
    labels = compare(Labelled(wrong, items), parts, lambda rows: vectors, COSINE).labels
    assert (labels.before.p10, labels.after.p10, labels.error) == (0.75, 1.0, 0.25)
    assert labels.gain == 0.25


def test_a_harmful_head_gets_the_least_weight_and_fails() -> None:
    labelled = catalogue(noise=0.8)
    parts = split(labelled.labels, 0)
    assert choose(labelled, parts, (NOISE,), COSINE) == Chosen(0, WEIGHTS[0])
    comparison = compare(labelled, parts, lambda vectors: moved(vectors, NOISE, 0.7), COSINE)
    assert not comparison.passed


def test_the_weight_does_not_depend_on_what_judges() -> None:
    labelled = catalogue(noise=0.8)
    parts = split(labelled.labels, 0)
    changed = labelled.vectors.copy()
    changed[np.concatenate([parts.judging, parts.unseen])] = 7.0
    other = Labelled(changed, labelled.items)
    stages = (NOISE, SIGNAL)
    assert choose(labelled, parts, stages, COSINE) == choose(other, parts, stages, COSINE)


def test_by_l2_the_vectors_are_compared_as_they_are_stored() -> None:
    """The base's lengths count where the index is by l2; a head's are all one."""
    labelled = catalogue(noise=0.3)
    long = Labelled(labelled.vectors * np.linspace(1, 50, len(labelled), dtype=np.float32)[:, None], labelled.items)
    parts = split(labelled.labels, 0)
    comparison = compare(long, parts, lambda vectors: moved(vectors, SIGNAL, 0.5), Metric.L2)
    assert comparison.labels.before.p10 < comparison.labels.after.p10


def test_a_query_that_judges_is_not_among_what_it_searches() -> None:
    """Each lies at the place of another class: of its own there are only other queries, and itself."""
    labelled = catalogue(noise=0.0)
    parts = split(labelled.labels, 0)
    vectors = -labelled.vectors
    names = labelled.labels
    vectors[parts.judging] = [_place(_next(names[row])) for row in parts.judging]
    stored = np.concatenate([parts.training, parts.choosing])
    vectors[stored] = [_place(names[row]) for row in stored]
    comparison = compare(Labelled(vectors, labelled.items), parts, lambda rows: rows, COSINE)
    assert comparison.labels.before.p1 == 0.0


def _next(name: str) -> str:
    return f"class {(int(name.split()[1]) + 1) % 10}"


def _place(name: str) -> np.ndarray:
    return np.eye(16, dtype=np.float32)[int(name.split()[1])]
