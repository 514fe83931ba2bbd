"""People in kept figures: by their keys, so that who is deleted is in no run by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from uuid import UUID

from catalog.models import Person
from search.evaluation.labelled import LabelsAre

DELETED = "somebody who was deleted"

Figures = Mapping[str, Any]


def without_names(figures: Figures, keys: Mapping[str, str]) -> dict[str, Any]:
    """As figures are kept; ``keys`` of people by name."""
    return _called(figures, lambda label: keys.get(label, label))


def with_names(figures: Figures) -> dict[str, Any]:
    """As kept figures are shown: people as they are called now."""
    places = [place for place in (figures["catalogue"], figures["queries"]) if place]
    if not any(place["labels_are"] == LabelsAre.PEOPLE for place in places):
        return dict(figures)
    keys = sorted({label for label in _labels(figures) if _is_key(label)})
    known = {str(key): name for key, name in Person.objects.filter(pk__in=keys).values_list("pk", "name")}
    gone = [key for key in keys if key not in known]
    known |= {key: DELETED if len(gone) == 1 else f"{DELETED} ({n})" for n, key in enumerate(gone, start=1)}
    return _called(figures, lambda label: known.get(label, label))


def _called(figures: Figures, called: Callable[[str], str]) -> dict[str, Any]:
    def item(of: Figures) -> dict[str, Any]:
        return {**of, "label": called(of["label"])}

    retrieval = figures["retrieval"]
    return {
        **figures,
        "retrieval": {
            **retrieval,
            "per_label": {called(label): each for label, each in retrieval["per_label"].items()},
        },
        "mistakes": [
            {**each, "query": item(each["query"]), "nearest": item(each["nearest"])} for each in figures["mistakes"]
        ],
        "examples": [
            {**each, "query": item(each["query"]), "nearest": [item(near) for near in each["nearest"]]}
            for each in figures["examples"]
        ],
    }


def _labels(figures: Figures) -> Iterator[str]:
    yield from figures["retrieval"]["per_label"]
    for each in figures["mistakes"]:
        yield from (each["query"]["label"], each["nearest"]["label"])
    for each in figures["examples"]:
        yield from (item["label"] for item in (each["query"], *each["nearest"]))


def _is_key(label: str) -> bool:
    try:
        UUID(label)
    except ValueError:
        return False
    return True
