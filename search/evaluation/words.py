"""The figures of an evaluation in lines of text, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from search.evaluation.by_label import LabelRow, rows_by_label
from search.evaluation.thresholds import FEW_PAIRS

LABELS_SHOWN = 30
NAMES_SHOWN = 20

Figures = Mapping[str, Any]


def summary(figures: Figures) -> list[str]:
    warning = [figures["warning"], ""] if figures.get("warning") else []
    return [*warning, *_places(figures), "", *_retrieval(figures), "", *_verification(figures), *_mistakes(figures)]


def _places(figures: Figures) -> Iterator[str]:
    for role in ("catalogue", "queries"):
        place = figures[role]
        if place is None:
            continue
        size = f"{place['images']} images, {place['vectors']} vectors of {place['labels']} labels"
        yield f"{role}: {place['what']}, {size} ({place['labels_are']})"
        missed, left_out = place["missed"], place["left_out"]
        if missed["count"]:
            yield f"  nothing found in {missed['count']}: {_some(missed['names'], missed['count'])}"
        if left_out["count"]:
            yield f"  left out {left_out['count']}:"
            yield from (f"    {each['name']}: {each['reason']}" for each in left_out["names"][:NAMES_SHOWN])
            if left_out["count"] > NAMES_SHOWN:
                yield f"    and {left_out['count'] - NAMES_SHOWN} more"


def _retrieval(figures: Figures) -> Iterator[str]:
    retrieval = figures["retrieval"]
    yield f"{figures['way']}, {retrieval['n']} queries, distance {figures['metric']}"
    yield f"  {'':<24}{'n':>6}{'P@1':>8}{'P@10':>8}{'P@100':>8}{'mAP':>8}{'missed':>8}"
    worst = rows_by_label(figures)
    yield from map(_row, (_all(figures), *worst[:LABELS_SHOWN]))
    if len(worst) > LABELS_SHOWN:
        yield f"  and {len(worst) - LABELS_SHOWN} labels that are found better"
    asked_of = retrieval.get("drawn_from", 0)
    if asked_of > retrieval["n"] + retrieval["left_out"]:
        yield f"  queries are drawn from {asked_of:,}"
    if retrieval["left_out"]:
        yield f"  {retrieval['left_out']} queries whose label nothing stored carries are in no figure"
    asked = figures["queries"] or figures["catalogue"]
    if retrieval["right_of_all"] is not None and asked["missed"]["count"]:
        yield f"  P@1 with every image in which nothing was found counted as wrong: {retrieval['right_of_all']:.4f}"


def _all(figures: Figures) -> LabelRow:
    retrieval, asked = figures["retrieval"], figures["queries"] or figures["catalogue"]
    at, mean = retrieval["precision_at"], retrieval["mean_average_precision"]
    return LabelRow("all", retrieval["n"], 0, asked["missed"]["count"], at["1"], at["10"], at["100"], mean)


def _row(row: LabelRow) -> str:
    shares = "".join(
        f"{'-':>8}" if value is None else f"{value:>8.4f}" for value in (row.p1, row.p10, row.p100, row.map)
    )
    return f"  {row.label[:24]:<24}{row.n:>6}{shares}{row.missed:>8}"


def _verification(figures: Figures) -> Iterator[str]:
    verification, choice = figures["verification"], figures["choice"]
    yield (
        f"ROC AUC {verification['auc']:.4f} over {verification['same_pairs']:,} pairs of one label and "
        f"{verification['different_pairs']:,} of two"
    )
    yield (
        f"thresholds chosen on {choice['pairs']:,} other pairs of two labels ({choice['images']} images, "
        f"{choice['labels']} labels; {choice['method']}):"
    )
    for each in verification["thresholds"]:
        if each["distance"] is None:
            yield f"  {each['rate']:g} false matches: no distance: too few pairs, or too many equally near"
        else:
            yield (
                f"  {each['rate']:g} false matches: distance {each['distance']:.4f} ({_interval(each)}); "
                f"on the queries {each['true_match_rate']:.4f} of the same are within it, and "
                f"{each['false_match_rate']:.4f} of the others"
            )


def _interval(threshold: Figures) -> str:
    rests_on = threshold.get("rests_on", FEW_PAIRS)
    few = f", rests on {rests_on} pairs" if rests_on < FEW_PAIRS else ""
    if threshold["low"] is None:
        return f"no interval: too few pairs{few}"
    return f"{threshold['low']:.4f} to {threshold['high']:.4f}{few}"


def _mistakes(figures: Figures) -> Iterator[str]:
    mistakes = figures["mistakes"]
    if mistakes:
        yield ""
        count = figures.get("mistakes_count", len(mistakes))
        shown = f", the worst {NAMES_SHOWN} are shown" if count > NAMES_SHOWN else ""
        yield f"nearest of another label ({count}{shown}):"
    for each in mistakes[:NAMES_SHOWN]:
        query, nearest = each["query"], each["nearest"]
        found = f"{nearest['name']} ({nearest['label']}) at {nearest['distance']:.4f}"
        yield f"  {query['name']} ({query['label']}): {found}"


def _some(names: list[str], count: int) -> str:
    shown = ", ".join(names[:NAMES_SHOWN])
    return f"{shown} and {count - NAMES_SHOWN} more" if count > NAMES_SHOWN else shown
