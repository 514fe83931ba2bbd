"""What a teaching came to, in words and rows for a terminal and a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from catalog.models import EmbeddingModel, Person
from search.teaching.reading import LabelSource


def summary(teaching: Mapping[str, Any]) -> list[str]:
    """Of EmbeddingModel.teaching."""
    examples = teaching["examples"]
    return [
        f"taught on {examples['taught']} examples of {len(teaching['taught_classes'])} classes, from "
        f"{teaching['from']} of {teaching['collection'] or 'all collections'}, in {teaching['seconds']} s",
        _side("held-out examples", teaching["labels"]),
        _side("classes never seen", teaching["unseen"]),
        *(f"left out: {count} x {reason}" for reason, count in teaching["left_out"].items()),
        teaching["decision"],
    ]


def _side(name: str, side: Mapping[str, Any]) -> str:
    before, after = side["before"], side["after"]
    return (
        f"{name}: P@1 {before['p1']:.3f} to {after['p1']:.3f}, P@10 {before['p10']:.3f} to {after['p10']:.3f} "
        f"({side['n']} queries of {side['classes']} classes{_error(side)})"
    )


def _error(side: Mapping[str, Any]) -> str:
    """Empty of what was taught before it was measured."""
    return f", standard error of the gain {side['error']:.3f}" if "error" in side else ""


def tries(model: EmbeddingModel) -> str:
    """How many heads were taught for its pipeline, and how many passed: of many tries some pass by chance."""
    passed = list(
        EmbeddingModel.objects.filter(pipeline=model.pipeline, derived_from__isnull=False).values_list(
            "passed_gate", flat=True
        )
    )
    return f"{passed.count(True)} of {len(passed)} heads that were taught for {model.pipeline} passed."


def classes_of(teaching: Mapping[str, Any]) -> list[tuple[str, int, bool]]:
    """Name of each class, how many examples it had, and whether it was taught or kept back; by name."""
    unseen = set(teaching["unseen_classes"])
    names = _people(teaching["counts"]) if teaching["from"] == LabelSource.PEOPLE else {}
    rows = [(names.get(key, key), count, key not in unseen) for key, count in teaching["counts"].items()]
    return sorted(rows)


def _people(keys: Iterable[str]) -> dict[str, str]:
    """Names of people as they are called now; who is gone has none."""
    found = dict(Person.objects.filter(pk__in=list(keys)).values_list("pk", "name"))
    named = {str(key): name for key, name in found.items()}
    return {key: named.get(key, "somebody who was deleted") for key in keys}
