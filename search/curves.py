"""Recall against latency of a generation as the admin draws it: what its build measured, as the numbers of an SVG.

Drawn here and not by matplotlib, which no web process loads; twice, since words on a phone cannot be as small as a
drawing made for a desk would make them there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from search.engines.planning import TUNED_RANK, plan
from search.models import IndexGeneration

RECALL_STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
MOST_RECALLS = 6
LEAST_SPAN = 0.5  # of the axis across, in powers of ten: what is noise between times that hardly differ looks like it


@dataclass(frozen=True, slots=True)
class Size:
    """In the SVG's own units, which are about CSS pixels where it is shown. What is left of it is for the axes."""

    name: str
    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    most_times: int  # that are named along the axis

    @property
    def x_end(self) -> int:
        return self.width - self.right

    @property
    def y_end(self) -> int:
        return self.height - self.bottom


DESK = Size("vs-desk", 640, 300, left=62, right=34, top=18, bottom=44, most_times=6)
PHONE = Size("vs-phone", 320, 260, left=46, right=14, top=18, bottom=44, most_times=4)


@dataclass(frozen=True, slots=True)
class Point:
    """A search width: its recall@10, and the ms of half and of 95 of 100 queries."""

    width: int
    recall: float
    p50_ms: float
    p95_ms: float
    serves: bool


@dataclass(frozen=True, slots=True)
class Dot:
    """A point and where it lies in the SVG."""

    point: Point
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Tick:
    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """``line`` is the polyline's points; ``target_y`` where the recall that was asked of the build lies."""

    size: Size
    dots: Sequence[Dot]
    line: str
    across: Sequence[Tick]
    up: Sequence[Tick]
    target_y: float | None


@dataclass(frozen=True, slots=True)
class Curve:
    """``target``: the recall that was asked of the build, where that is known."""

    points: Sequence[Point]
    target: float | None
    in_words: str
    drawings: Sequence[Drawing]


def curve_of(generation: IndexGeneration) -> Curve | None:
    """None for engines that have no width to choose, for generations that were built before it was measured, and where
    the graph is not asked at all."""
    measured = _measured(generation)
    if len(measured) < 2 or is_read_whole(generation):
        return None
    target = generation.parameters.get("options", {}).get("target_recall")
    points = [_point(each) for each in measured]
    times = undisturbed([point.p50_ms for point in points])
    return Curve(
        points=points,
        target=target,
        in_words=_in_words(points, times),
        drawings=[_drawing(points, times, target, size) for size in (DESK, PHONE)],
    )


def undisturbed(times: Sequence[float]) -> list[float]:
    """Of ever wider searches: no longer than any wider one took. A busy machine makes times longer, never shorter."""
    return list(accumulate(reversed(times), min))[::-1]


def is_read_whole(generation: IndexGeneration) -> bool:
    """Whether its graph is so small that readers compare every vector instead, which is quicker, and exact."""
    widths = [point["width"] for point in _measured(generation) if point.get("serves")]
    count = generation.count
    if not widths or count < TUNED_RANK:
        return bool(widths)
    nodes = int(generation.parameters["measured"].get("nodes", count))
    return not plan(nodes=nodes, rows=count, allowed=count, k=TUNED_RANK, width=widths[0]).rounds


def _measured(generation: IndexGeneration) -> list[Mapping[str, Any]]:
    curve = generation.parameters.get("measured", {}).get("curve") or ()
    return sorted(curve, key=lambda point: point["width"])


def _point(measured: Mapping[str, Any]) -> Point:
    return Point(
        measured["width"], measured["recall"], measured["p50_ms"], measured["p95_ms"], bool(measured.get("serves"))
    )


def _drawing(points: Sequence[Point], times: Sequence[float], target: float | None, size: Size) -> Drawing:
    across = _Milliseconds(times, size)
    up = _Recall([point.recall for point in points] + ([target] if target else []), size)
    dots = [Dot(point, across.at(ms), up.at(point.recall)) for point, ms in zip(points, times, strict=True)]
    return Drawing(
        size=size,
        dots=dots,
        line=" ".join(f"{dot.x},{dot.y}" for dot in dots),
        across=across.ticks(),
        up=up.ticks(),
        target_y=up.at(target) if target else None,
    )


def _in_words(points: Sequence[Point], times: Sequence[float]) -> str:
    words = [f"{point.recall:.3f} at {ms:.2f} ms" for point, ms in zip(points, times, strict=True)]
    serving = next((f"; {said} serves" for point, said in zip(points, words, strict=True) if point.serves), "")
    return f"Recall at 10 from {words[0]} to {words[-1]}{serving}"


class _Milliseconds:
    """The axis across: logarithmic, since each step of the width is half as much again; at least LEAST_SPAN long."""

    def __init__(self, values: Sequence[float], size: Size) -> None:
        least, most = (math.log10(max(value, 1e-4)) for value in (min(values), max(values)))
        room = max(0.05 * (most - least), (LEAST_SPAN - (most - least)) / 2)
        self._low, self._high, self._size = least - room, most + room, size

    def at(self, value: float) -> float:
        share = (math.log10(max(value, 1e-4)) - self._low) / (self._high - self._low)
        return round(self._size.left + share * (self._size.x_end - self._size.left), 1)

    def ticks(self) -> list[Tick]:
        decades = range(math.floor(self._low), math.ceil(self._high) + 1)
        for steps in ((1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8), (1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1,)):
            values = [step * 10.0**decade for decade in decades for step in steps]
            inside = [value for value in values if self._low <= math.log10(value) <= self._high]
            if len(inside) <= self._size.most_times:
                break
        return [Tick(self.at(value), f"{value:g}") for value in inside]


class _Recall:
    """The axis up: from the worst that was measured to 1."""

    def __init__(self, values: Sequence[float], size: Size) -> None:
        span = max(1.0 - min(values), 0.001)
        self._step = next((step for step in RECALL_STEPS if span / step <= MOST_RECALLS - 1), RECALL_STEPS[-1])
        self._low = math.floor(min(values) / self._step + 1e-9) * self._step
        self._size = size

    def at(self, value: float) -> float:
        share = (value - self._low) / max(1.0 - self._low, self._step)
        return round(self._size.y_end - share * (self._size.y_end - self._size.top), 1)

    def ticks(self) -> list[Tick]:
        count = round((1.0 - self._low) / self._step)
        digits = max(2, -math.floor(math.log10(self._step)))
        values = [self._low + n * self._step for n in range(count + 1)]
        return [Tick(self.at(value), f"{value:.{digits}f}") for value in values]
