"""What other thresholds would lose and gain, read from the curve that an evaluation kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from search.evaluation.thresholds import NEAR_RATE, SAME_RATE

DECIMALS = 4  # of *same* and *near*, as the page says them


class NotThresholds(ValueError):
    """These two numbers cannot be *same* and *near*; the message says why."""


@dataclass(frozen=True, slots=True)
class Limits:
    """*same* and *near* of a model: 0 <= same < near. Raises NotThresholds."""

    same: float
    near: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.same) and np.isfinite(self.near)):
            raise NotThresholds("Both distances must be numbers.")
        if self.same < 0:
            raise NotThresholds("A distance is not negative.")
        if self.near <= self.same:
            raise NotThresholds(
                f"near ({self.near:g}) must be more than same ({self.same:g}): what is the same is near, too."
            )

    def rounded(self) -> Limits:
        """As they are kept. Raises NotThresholds where they are one distance then."""
        return Limits(round(self.same, DECIMALS), round(self.near, DECIMALS))


@dataclass(frozen=True, slots=True)
class Effect:
    """Pairs within one of the two distances: of one label (of ``of_same``) and of two (of ``of_different``).

    ``kept`` and ``let_in`` are counts; their ``_change`` is beside the present distance, None where there is none.
    """

    name: str
    distance: float
    kept: int
    of_same: int
    kept_change: int | None
    let_in: int
    of_different: int
    let_in_change: int | None

    @property
    def kept_percent(self) -> float:
        return 100 * self.kept / self.of_same

    @property
    def let_in_percent(self) -> float:
        return 100 * self.let_in / self.of_different


@dataclass(frozen=True, slots=True)
class Preview:
    """``nearest``: how many there are if each query gets the first results of a search, near or not. ``changed``: how
    many of them would be called something else (the same, near, or far, which the page hides). ``shown_then`` and
    ``shown_now``: how many are near. None where the model has no distances now.
    """

    limits: Limits
    effects: tuple[Effect, Effect]
    nearest: int
    changed: int | None
    shown_then: int
    shown_now: int | None

    @property
    def changed_percent(self) -> float | None:
        return None if self.changed is None else 100 * self.changed / self.nearest


def preview(figures: Mapping[str, Any], now: Limits | None, proposed: Limits) -> Preview:
    """Counts between two kept distances are interpolated, at most a 400th of the range away from a counted one."""
    curve = figures["verification"]["curve"]
    return Preview(
        limits=proposed,
        effects=(
            _effect("same", curve, now.same if now else None, proposed.same),
            _effect("near", curve, now.near if now else None, proposed.near),
        ),
        nearest=int(curve["shown"][-1]),
        changed=_changed(curve, now, proposed) if now else None,
        shown_then=_count(curve, "shown", proposed.near),
        shown_now=_count(curve, "shown", now.near) if now else None,
    )


def proposal(figures: Mapping[str, Any]) -> Limits | None:
    """What the evaluation chose: *same* at a false match rate of SAME_RATE, *near* at NEAR_RATE; None: it could not."""
    chosen = {each["rate"]: each["distance"] for each in figures["verification"]["thresholds"]}
    same, near = chosen.get(SAME_RATE), chosen.get(NEAR_RATE)
    if same is None or near is None or round(near, DECIMALS) <= round(same, DECIMALS):
        return None
    return Limits(same, near).rounded()


def _effect(name: str, curve: Mapping[str, Any], now: float | None, proposed: float) -> Effect:
    kept, let_in = _count(curve, "same", proposed), _count(curve, "different", proposed)
    return Effect(
        name=name,
        distance=proposed,
        kept=kept,
        of_same=int(curve["same"][-1]),
        kept_change=None if now is None else kept - _count(curve, "same", now),
        let_in=let_in,
        of_different=int(curve["different"][-1]),
        let_in_change=None if now is None else let_in - _count(curve, "different", now),
    )


def _changed(curve: Mapping[str, Any], now: Limits, proposed: Limits) -> int:
    """Results between two limits that both call differently; what one interval says holds for all of it."""
    ends = sorted({0.0, now.same, now.near, proposed.same, proposed.near, float(curve["distances"][-1])})
    changed = 0
    for low, high in pairwise(ends):
        middle = (low + high) / 2
        if _band(middle, now) != _band(middle, proposed):
            changed += _count(curve, "shown", high) - _count(curve, "shown", low)
    return changed


def _band(distance: float, limits: Limits) -> int:
    return 0 if distance <= limits.same else 1 if distance <= limits.near else 2


def _count(curve: Mapping[str, Any], what: str, distance: float) -> int:
    return round(float(np.interp(distance, curve["distances"], curve[what])))
