"""Pure arithmetic of an answer: merging hits, one region for each image, distance to similarity."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

import numpy as np

from search.engines.types import Hits

Item = TypeVar("Item")
SAME_SIMILARITY = 0.5  # by definition: at the distance *same* two are as likely the same as not


def similarity(distance: float, same: float | None, near: float | None) -> float | None:
    """1 at distance 0, 0.5 at ``same``, 0 at ``near`` and beyond, straight lines between; None without a measurement.

    ``same`` and ``near`` are the model's measured distances (EmbeddingModel), ``same`` < ``near``. ``same`` may be 0.
    """
    if same is None or near is None:
        return None
    if distance >= near:
        return 0.0
    if distance > same:
        return SAME_SIMILARITY * (near - distance) / (near - same)
    return 1.0 - SAME_SIMILARITY * (distance / same) if same > 0 else 1.0


def best_per_key(
    hits: Iterable[tuple[int, float]], items: Mapping[int, Item], keys: Mapping[int, Hashable], k: int
) -> list[tuple[Item, float]]:
    """The first item of each key, in the order of the hits, k at most; hits without an item are passed over."""
    seen: set[Hashable] = set()
    best = []
    for hit_id, distance in hits:
        if hit_id not in items or keys[hit_id] in seen:
            continue
        seen.add(keys[hit_id])
        best.append((items[hit_id], distance))
        if len(best) == k:
            break
    return best


def within(hits: Hits, limit: float | None) -> Hits:
    """The hits at most ``limit`` away; all of them without a limit."""
    if limit is None:
        return hits
    count = int(np.searchsorted(hits.distances, limit, side="right"))
    return Hits(hits.ids[:count], hits.distances[:count])
