"""The whole of it: held-out queries and leaving one out, what is refused, and what it becomes as JSON."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest

from search.engines.types import Metric
from search.evaluation import evaluation as module
from search.evaluation.evaluation import evaluate
from search.evaluation.labelled import Labelled, LabelsAre, QueriesInCatalogue
from search.evaluation.labelled import drawn as rows_drawn
from search.evaluation.metrics import NotMeasurable, outcomes
from search.evaluation.report import as_json
from search.evaluation.words import summary
from tests.search.evaluation.points import clouds, labelled, reading


def test_held_out_queries_are_found_among_the_catalogue() -> None:
    catalogue = reading(clouds(5, 12, 0.1))
    found = evaluate(catalogue, reading(clouds(5, 4, 0.1, "query", seed=8), missed=["query-x", "query-y"]), Metric.L2)
    assert found.retrieval.precision_at[1] == 1.0
    assert found.retrieval.n == 20
    assert found.right_of_all == pytest.approx(20 / 22)  # what was missed counts as wrong
    assert found.verification.auc > 0.99
    assert found.choice.files == catalogue.labelled.files
    assert found.mistakes == ()
    assert [len(example.nearest) for example in found.examples] == [60] * 4


def test_leaving_one_out_chooses_on_one_half_and_reports_on_the_other() -> None:
    points = clouds(5, 12, 0.3)
    found = evaluate(reading(points), None, Metric.L2)
    assert found.retrieval.n == 60
    assert found.choice.images == 30
    assert found.verification.same_pairs == 5 * 6 * 6
    for example in found.examples:
        assert example.query not in [each.item for each in example.nearest]


def test_an_image_is_left_out_with_all_its_faces() -> None:
    """Two detections of one face are named alike, and would find each other."""
    points = clouds(3, 6, 1.5)
    items = tuple(
        dataclasses.replace(item, sha256=points.items[row - row % 2].sha256) for row, item in enumerate(points.items)
    )
    vectors = points.vectors.copy()
    vectors[1::2] = vectors[::2]
    found = evaluate(reading(Labelled(vectors, items)), None, Metric.L2)
    assert found.retrieval.precision_at[1] < 1.0
    assert found.mistakes
    for mistake in found.mistakes:
        assert mistake.nearest.item.label != mistake.query.label


def test_a_query_that_is_in_the_catalogue_is_refused_by_name() -> None:
    catalogue, queries = clouds(2, 4, 0.3), clouds(2, 3, 0.3, "query", seed=8)
    copied = dataclasses.replace(queries.items[2], sha256=catalogue.items[1].sha256)
    both = Labelled(queries.vectors, (*queries.items[:2], copied, *queries.items[3:]))
    with pytest.raises(QueriesInCatalogue, match=r"query-2 \(there image-1\)"):
        evaluate(reading(catalogue), reading(both), Metric.L2)


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (labelled([], []), "holds no images"),
        (labelled([[1.0], [2.0]], ["shoe", "shoe"]), "carries one label, 'shoe'"),
        (labelled([[1.0], [2.0]], ["a", "b"]), "nothing that could be found"),
    ],
)
def test_too_little_is_said(points: Labelled, words: str) -> None:
    with pytest.raises(NotMeasurable, match=words):
        evaluate(reading(points), None, Metric.L2)


def test_all_missed_is_said() -> None:
    with pytest.raises(NotMeasurable, match=r"of 2 images none is left \(2 x nothing was found in it\)"):
        evaluate(reading(labelled([], []), missed=["a", "b"]), None, Metric.L2)


def test_more_queries_than_are_needed_are_drawn_and_still_not_found_by_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    points = clouds(4, 20, 1.0)
    monkeypatch.setattr(module, "MOST_QUERIES", 40)
    drawn = evaluate(reading(points), None, Metric.L2)
    assert drawn.retrieval.n == 40
    assert sum(each.stored for each in drawn.retrieval.per_label.values()) == 80
    every = outcomes(points.vectors, points.labels, points.vectors, points.labels, Metric.L2, leave_out=range(80))
    expected = [every[row].precision_at[1] for row in rows_drawn(80, 40)]
    assert drawn.retrieval.precision_at[1] == pytest.approx(np.mean(expected))
    assert 0 < np.mean(expected) < 1


def test_as_json_and_in_words_it_has_every_figure() -> None:
    queries = reading(clouds(5, 4, 0.9, "query", seed=8), missed=["label 3/x", "unseen/y", "unseen/z"])
    found = evaluate(reading(clouds(5, 12, 0.9)), queries, Metric.COSINE)
    figures = json.loads(json.dumps(as_json(found), allow_nan=False))
    assert figures["metric"] == "cosine"
    assert figures["retrieval"]["precision_at"]["10"] == pytest.approx(found.retrieval.precision_at[10], abs=1e-6)
    assert figures["queries"]["missed"] == {
        "count": 3,
        "names": ["label 3/x", "unseen/y", "unseen/z"],
        "per_label": {"label 3": 1, "unseen": 2},
    }
    assert len(figures["verification"]["thresholds"]) == 3
    assert len(figures["examples"][0]["nearest"]) == 60
    said = "\n".join(summary(figures))
    for words in (f"{found.verification.auc:.4f}", "label 3/x", "P@100", "0.01 false matches: distance"):
        assert words in said
    assert re.search(r"label 3 +4( +0\.\d{4}){4} +1\n", said)
    assert re.search(r"unseen +0( +-){4} +2\n", said)  # of a label that was missed altogether nothing could be asked


def test_people_who_are_not_named_are_not_counted_as_missed() -> None:
    catalogue = dataclasses.replace(reading(clouds(3, 8, 0.3), missed=["x"]), labels_are=LabelsAre.PEOPLE)
    assert evaluate(catalogue, None, Metric.L2).right_of_all is None


def test_missed_images_weigh_the_same_where_queries_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_QUERIES", 20)
    found = evaluate(reading(clouds(4, 20, 0.01), missed=["x"] * 20), None, Metric.L2)
    assert found.retrieval.n == 20
    assert found.right_of_all == pytest.approx(80 / 100)
    assert as_json(found)["retrieval"]["drawn_from"] == 80


def test_mistakes_are_counted_beyond_those_that_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.evaluation.examples.MOST_MISTAKES", 3)
    found = evaluate(reading(clouds(4, 12, 3.0)), None, Metric.L2)
    figures = as_json(found)
    assert len(figures["mistakes"]) == 3
    assert figures["mistakes_count"] == sum(
        round(each.n * (1 - each.precision_at[1])) for each in found.retrieval.per_label.values()
    )
    assert f"nearest of another label ({figures['mistakes_count']}" in "\n".join(summary(figures))
