"""The figures of an evaluation label by label, as a table shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class LabelRow:
    """``n`` queries of a label with ``stored`` images of it; ``missed``: images of it in which nothing was found.

    Shares are 0 to 1, None where all images of the label were missed, so that nothing could be asked.
    """

    label: str
    n: int = 0
    stored: int = 0
    missed: int = 0
    p1: float | None = None
    p10: float | None = None
    p100: float | None = None
    map: float | None = None


def rows_by_label(figures: Mapping[str, Any]) -> list[LabelRow]:
    """The worst found first; those of which every image was missed before all others."""
    asked = figures["queries"] or figures["catalogue"]
    missed = dict(asked["missed"].get("per_label", {}))  # runs kept before they were counted have none
    rows = [_row(label, each, missed.pop(label, 0)) for label, each in figures["retrieval"]["per_label"].items()]
    rows += [LabelRow(label, missed=count) for label, count in missed.items()]
    return sorted(rows, key=lambda row: (-1.0 if row.map is None else row.map, row.label))


def _row(label: str, figures: Mapping[str, Any], missed: int) -> LabelRow:
    at = figures["precision_at"]
    mean = figures["mean_average_precision"]
    return LabelRow(label, figures["n"], figures["stored"], missed, at["1"], at["10"], at["100"], mean)
