"""How a reader with a graph answers: how many nodes it asks the graph for, and when it reads the allowed rows instead.

Pure arithmetic. The constants are ratios, which travel between machines: benchmarks/scopes.py measures them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from search.engines.graph_files import SPARE

# The nearest neighbours that a graph gives are the right ones, the last of those asked for often are not. So it is
# asked for more of them than are trusted: for each beyond TUNED_RANK, for which its width was tuned, so many more, up
# to MOST_SURPLUS. On 100,000 x 128 clustered vectors recall@r of 0.98 took 80 to 120 nodes for r = 40, 320 to 384 for
# 160, 640 to 832 for 640 (NMSLIB, m 16).
TUNED_RANK = 10
SURPLUS = 2
MOST_SURPLUS = 320
# Asking for a node more costs about what reading so many rows does, whatever their dimension: 4.5 us and 0.2 us each.
ROWS_PER_NODE = 20


@dataclass(frozen=True, slots=True)
class Round:
    """Ask the graph for ``nodes``; of what it answers the nearest ``rank`` are trusted to be the nearest there are."""

    nodes: int
    rank: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Rounds of the graph, until k allowed rows are among those trusted; after the last, or without any, a scan."""

    rounds: tuple[Round, ...]


@lru_cache(maxsize=4_096)  # most queries ask for as many, in one of a few scopes
def plan(*, nodes: int, rows: int, allowed: int, k: int, width: int) -> Plan:
    """For a graph of ``nodes`` over ``rows`` of which ``allowed`` >= k >= 1 may be found.

    ``width``: the nodes it is always asked for, tuned at its build. The first round is as wide as the share of allowed
    rows makes k of them likely, each further one twice as wide. Rounds end where together they would cost more than the
    scan: where the allowed rows lie far from the query the graph is not asked in vain for more than that again.
    """
    rank = k if allowed == rows else math.ceil(_likely_enough(k) * rows / allowed)
    rounds: list[Round] = []
    spent = 0
    while True:
        asked = nodes_for(rank, width)
        spent += asked
        if asked >= nodes or spent * ROWS_PER_NODE > allowed:
            return Plan(tuple(rounds))
        rounds.append(Round(asked, rank))
        rank *= 2


def nodes_for(rank: int, width: int) -> int:
    """So many that the nearest ``rank`` are found as well as the nearest TUNED_RANK at ``width``."""
    beyond = max(0, rank - TUNED_RANK)
    return max(width, TUNED_RANK + SPARE) + beyond + min(SURPLUS * beyond, MOST_SURPLUS)


def _likely_enough(k: int) -> float:
    """Where so many are expected there are at least k in 95 of 100: two standard deviations of a count more."""
    return k + 2 * math.sqrt(k)
