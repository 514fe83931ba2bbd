"""Asking for hits, and for more of them as long as that brings what is wanted."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.engines.errors import InvalidVector
from search.engines.types import Hits, Scope
from search.exceptions import NothingToCompare
from search.ranking import within
from search.serving import Snapshot

logger = logging.getLogger(__name__)

ASK_MORE = 4  # and times more each time that was not enough


@dataclass(frozen=True, slots=True)
class Asked:
    """What one ask brought: all ``hits``, those of them ``within`` the limit, and how long it took."""

    hits: Hits
    within: Hits
    milliseconds: float


def widening(count: int) -> Iterator[int]:
    """``count``, then four times as many, and so on."""
    while True:
        yield count
        count *= ASK_MORE


def asks(
    snapshot: Snapshot, vector: NDArray[np.float32], steps: Iterable[tuple[Scope, int]], limit: float | None
) -> Iterator[Asked]:
    """The nearest hits, in the first scope as many as stand beside it, then in the second, and so on.

    Ends with the steps, or where nothing more is within ``limit`` (None: any distance). Raises NothingToCompare.
    """
    for scope, count in steps:
        begun = time.perf_counter()
        hits = _searched(snapshot, vector, count, scope)
        asked = Asked(hits, within(hits, limit), milliseconds_since(begun))
        yield asked
        if len(hits) < count or len(asked.within) < len(hits):
            return


def milliseconds_since(begun: float) -> float:
    """``begun`` is what time.perf_counter() said."""
    return 1000 * (time.perf_counter() - begun)


def _searched(snapshot: Snapshot, vector: NDArray[np.float32], count: int, scope: Scope) -> Hits:
    try:
        return snapshot.search(vector, count, scope)
    except InvalidVector as error:
        logger.warning("a query of %s cannot be answered: %s", snapshot.model, error)
        raise NothingToCompare(
            "The embedding model finds nothing in it to compare: it may be all of one colour. Search with another "
            "image or region."
        ) from error
