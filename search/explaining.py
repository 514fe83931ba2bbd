"""How an answer was found: what staff see beside it, through every door."""

from __future__ import annotations

from dataclasses import dataclass, replace

from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from search.engines.types import Hits, Strategy

# What the reader of the generation did; of a remote engine its server knows.
WORDS: dict[str, str | Promise] = {
    Strategy.NOTHING: gettext_lazy("nothing of it may be searched here"),
    Strategy.SCAN: gettext_lazy("each vector compared, exactly"),
    Strategy.GRAPH: gettext_lazy("by the graph"),
    Strategy.GRAPH_THEN_SCAN: gettext_lazy("by the graph in vain, then each vector compared, exactly"),
    Strategy.REMOTE: gettext_lazy("by its server"),
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """Of one answer; several ``asks`` to the index where hits dropped out, as then more are asked for.

    ``generation``: None where none can answer; then all vectors are in the delta, which is always compared exactly.
    ``strategy``: of the last ask, "" without a generation. ``allowed``: of its ``rows`` those in the scope of the last
    ask. ``nodes`` asked of the graph in ``rounds``, and ``scanned`` rows of the generation, are sums over all asks.
    ``hits`` came of the last ask, of which ``dropped`` may not be shown (or are of another label). Milliseconds: the
    whole search without reading the query's image, and of it what the index took.
    """

    generation: str | None
    strategy: str = ""
    rows: int = 0
    allowed: int = 0
    nodes: int = 0
    rounds: int = 0
    scanned: int = 0
    delta: int = 0
    asks: int = 0
    hits: int = 0
    dropped: int = 0
    index_milliseconds: float = 0.0
    milliseconds: float = 0.0

    def after(self, hits: Hits, *, dropped: int, delta: int, milliseconds: float) -> Explanation:
        """With one more ask to the index; ``milliseconds`` it took."""
        asked = replace(
            self,
            asks=self.asks + 1,
            hits=len(hits),
            dropped=dropped,
            delta=delta,
            index_milliseconds=self.index_milliseconds + milliseconds,
        )
        effort = hits.effort
        if effort is None:
            return asked
        return replace(
            asked,
            strategy=str(effort.strategy),
            rows=effort.rows,
            allowed=effort.allowed,
            nodes=self.nodes + effort.nodes,
            rounds=self.rounds + effort.rounds,
            scanned=self.scanned + effort.scanned,
        )


def told(explanation: Explanation) -> list[tuple[str, str]]:
    """In words, a pair for each line."""
    numbers = {
        name: _number(getattr(explanation, name))
        for name in ("rows", "allowed", "nodes", "rounds", "scanned", "delta", "asks", "hits", "dropped")
    }
    lines = [(_("Index"), explanation.generation or _("none: all vectors were compared, exactly"))]
    if explanation.strategy:
        lines += [
            (_("Searched"), str(WORDS[explanation.strategy])),
            (_("May be found"), _("%(allowed)s of its %(rows)s vectors") % numbers),
            (_("Work"), _("%(nodes)s nodes asked for in %(rounds)s rounds, %(scanned)s vectors compared") % numbers),
        ]
    spent = {"index": _number(explanation.index_milliseconds, 1), "all": _number(explanation.milliseconds, 1)}
    return [
        *lines,
        (_("Newer than the index"), _("%(delta)s vectors, compared exactly") % numbers),
        (_("Hits"), _("%(hits)s in the last of %(asks)s asks, %(dropped)s not to be shown") % numbers),
        (_("Time"), _("%(all)s ms, of which the index %(index)s ms") % spent),
    ]


def _number(value: float, decimals: int = 0) -> str:
    return str(number_format(round(value, decimals), decimal_pos=decimals, force_grouping=True))
