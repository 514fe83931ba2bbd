"""Recall against latency of a generation as the admin draws it: what its build measured, as the numbers of an SVG.

Drawn here and not by matplotlib, which no web process loads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.models import IndexGeneration

# In the SVG's own units: what it is drawn in, and what of it is left around the curve for the axes.
WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 62, 34, 18, 44
RECALL_STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
MOST_TICKS = 6


@dataclass(frozen=True, slots=True)
class Point:
    """A search width: its recall@10, the ms of half and of 95 of 100 queries, and where it lies in the SVG."""

    width: int
    recall: float
    p50_ms: float
    p95_ms: float
    serves: bool
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Tick:
    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Curve:
    """``line`` is the polyline's points; ``target_y`` where the recall that was asked of the build lies."""

    points: Sequence[Point]
    line: str
    across: Sequence[Tick]
    up: Sequence[Tick]
    target: float | None
    target_y: float | None
    in_words: str


def curve_of(generation: IndexGeneration) -> Curve | None:
    """None for engines that have no width to choose, and for generations that were built before it was measured."""
    measured = sorted(generation.parameters.get("measured", {}).get("curve") or (), key=lambda point: point["width"])
    if len(measured) < 2:
        return None
    target = generation.parameters.get("options", {}).get("target_recall")
    across = _Milliseconds([point["p50_ms"] for point in measured])
    up = _Recall([point["recall"] for point in measured] + ([target] if target else []))
    points = [_point(each, across, up) for each in measured]
    return Curve(
        points=points,
        line=" ".join(f"{point.x},{point.y}" for point in points),
        across=across.ticks(),
        up=up.ticks(),
        target=target,
        target_y=up.at(target) if target else None,
        in_words=_in_words(points),
    )


def _point(measured: Mapping[str, Any], across: _Milliseconds, up: _Recall) -> Point:
    return Point(
        measured["width"],
        measured["recall"],
        measured["p50_ms"],
        measured["p95_ms"],
        bool(measured.get("serves")),
        across.at(measured["p50_ms"]),
        up.at(measured["recall"]),
    )


def _in_words(points: Sequence[Point]) -> str:
    first, last = points[0], points[-1]
    serving = next((point for point in points if point.serves), None)
    said = f"Recall at 10 from {first.recall:.3f} at {first.p50_ms:.2f} ms to {last.recall:.3f} at {last.p50_ms:.2f} ms"
    return f"{said}; {serving.recall:.3f} at {serving.p50_ms:.2f} ms serves" if serving else said


class _Milliseconds:
    """The axis across: logarithmic, since each step of the width is half as much again."""

    def __init__(self, values: Sequence[float]) -> None:
        least, most = (math.log10(max(value, 1e-4)) for value in (min(values), max(values)))
        room = max(0.05 * (most - least), 0.02)
        self._low, self._high = least - room, most + room

    def at(self, value: float) -> float:
        share = (math.log10(max(value, 1e-4)) - self._low) / (self._high - self._low)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def ticks(self) -> list[Tick]:
        decades = range(math.floor(self._low), math.ceil(self._high) + 1)
        for steps in ((1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8), (1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1,)):
            values = [step * 10.0**decade for decade in decades for step in steps]
            inside = [value for value in values if self._low <= math.log10(value) <= self._high]
            if len(inside) <= MOST_TICKS:
                break
        return [Tick(self.at(value), f"{value:g}") for value in inside]


class _Recall:
    """The axis up: from the worst that was measured to 1."""

    def __init__(self, values: Sequence[float]) -> None:
        span = max(1.0 - min(values), 0.001)
        self._step = next((step for step in RECALL_STEPS if span / step <= MOST_TICKS - 1), RECALL_STEPS[-1])
        self._low = math.floor(min(values) / self._step + 1e-9) * self._step

    def at(self, value: float) -> float:
        share = (value - self._low) / max(1.0 - self._low, self._step)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    def ticks(self) -> list[Tick]:
        count = round((1.0 - self._low) / self._step)
        digits = max(2, -math.floor(math.log10(self._step)))
        values = [self._low + n * self._step for n in range(count + 1)]
        return [Tick(self.at(value), f"{value:.{digits}f}") for value in values]
