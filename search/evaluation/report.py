"""An evaluation as JSON, which is kept, shown and drawn."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict
from typing import Any

from search.evaluation.evaluation import Evaluation
from search.evaluation.examples import Example, Mistake, Neighbour
from search.evaluation.labelled import Item, Reading
from search.evaluation.metrics import LabelFigures
from search.evaluation.thresholds import REPLICATES, Choice
from search.evaluation.verification import Verification

FORMAT = 1
MOST_NAMES = 1_000  # of images that were missed or left out; all are counted
DIGITS = 6

Json = dict[str, Any]


def as_json(evaluation: Evaluation) -> Json:
    """Numbers, strings, lists and dicts alone; shares are 0 to 1, distances those of ``metric``."""
    retrieval = evaluation.retrieval
    return {
        "format": FORMAT,
        "metric": evaluation.metric.value,
        "way": "held-out queries" if evaluation.queries else "leave one out",
        "catalogue": _reading(evaluation.catalogue),
        "queries": _reading(evaluation.queries) if evaluation.queries else None,
        "retrieval": {
            "n": retrieval.n,
            "left_out": retrieval.left_out,
            "drawn_from": (evaluation.queries or evaluation.catalogue).found,
            "precision_at": _at(retrieval.precision_at),
            "mean_average_precision": round(retrieval.mean_average_precision, DIGITS),
            "right_of_all": None if evaluation.right_of_all is None else round(evaluation.right_of_all, DIGITS),
            "per_label": {label: _label(figures) for label, figures in retrieval.per_label.items()},
        },
        "choice": _choice(evaluation.choice),
        "verification": _verification(evaluation.verification),
        "mistakes_count": evaluation.mistakes_count,
        "mistakes": [_mistake(each) for each in evaluation.mistakes],
        "examples": [_example(each) for each in evaluation.examples],
    }


def _reading(reading: Reading) -> Json:
    return {
        "what": reading.what,
        "labels_are": reading.labels_are.value,
        "images": reading.images,
        "vectors": len(reading.labelled),
        "drawn_from": reading.found,
        "labels": len(set(reading.labelled.labels)),
        "missed": {
            "count": len(reading.missed),
            "names": [each.name for each in reading.missed[:MOST_NAMES]],
            "per_label": dict(Counter(each.label for each in reading.missed if each.label)),
        },
        "left_out": {
            "count": len(reading.left_out),
            "names": [asdict(each) for each in reading.left_out[:MOST_NAMES]],
        },
    }


def _label(figures: LabelFigures) -> Json:
    return {
        "n": figures.n,
        "stored": figures.stored,
        "precision_at": _at(figures.precision_at),
        "mean_average_precision": round(figures.mean_average_precision, DIGITS),
    }


def _at(precisions: dict[int, float]) -> dict[str, float]:
    return {str(k): round(value, DIGITS) for k, value in precisions.items()}


def _choice(choice: Choice) -> Json:
    """What thresholds were chosen on; they themselves stand beside what they let through (_verification)."""
    return {
        "pairs": choice.pairs,
        "images": choice.images,
        "labels": choice.labels,
        "method": f"95 % intervals by {REPLICATES} bootstraps over {choice.resampled}{_holds_for(choice)}",
    }


def _holds_for(choice: Choice) -> str:
    return "" if choice.resampled == "labels" else ", which say nothing about labels that were not there"


def _verification(verification: Verification) -> Json:
    return {
        "auc": round(verification.auc, DIGITS),
        "same_pairs": verification.same_pairs,
        "different_pairs": verification.different_pairs,
        "thresholds": [
            {
                "rate": each.threshold.rate,
                "distance": _rounded(each.threshold.distance),
                "low": _rounded(each.threshold.low),
                "high": _rounded(each.threshold.high),
                "rests_on": each.threshold.rests_on,
                "false_match_rate": _rounded(each.false_match_rate),
                "true_match_rate": _rounded(each.true_match_rate),
            }
            for each in verification.reported
        ],
        "roc": [list(point) for point in verification.roc],
        "curve": asdict(verification.curve),
    }


def _mistake(mistake: Mistake) -> Json:
    return {"query": _item(mistake.query), "nearest": _neighbour(mistake.nearest)}


def _example(example: Example) -> Json:
    return {
        "kind": example.kind,
        "query": _item(example.query),
        "nearest": [_neighbour(each) for each in example.nearest],
    }


def _neighbour(neighbour: Neighbour) -> Json:
    return {**_item(neighbour.item), "distance": round(neighbour.distance, DIGITS)}


def _item(item: Item) -> Json:
    key = os.fsencode(item.key).decode(errors="replace")  # a path may be no UTF-8
    return {"key": key, "name": item.name, "label": item.label}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)
