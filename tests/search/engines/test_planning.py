"""When a graph is asked, how widely, and when rows are read instead."""

from __future__ import annotations

import pytest

from search.engines.planning import ROWS_PER_NODE, Plan, nodes_for, plan

ROWS, WIDTH = 100_000, 64


def planned(allowed: int, k: int = 20, rows: int = ROWS, width: int = WIDTH) -> Plan:
    return plan(nodes=rows, rows=rows, allowed=allowed, k=k, width=width)


@pytest.mark.parametrize("allowed", [1, 10, 1_000, 2_000])
def test_a_small_scope_is_read_at_once(allowed: int) -> None:
    assert planned(allowed, k=min(20, allowed)).rounds == ()


def test_everything_is_asked_of_the_graph_for_as_many_as_are_wanted() -> None:
    first = planned(ROWS).rounds[0]
    assert first.rank == 20
    assert WIDTH < first.nodes < 3 * WIDTH
    assert planned(ROWS, k=10).rounds[0].nodes <= WIDTH + 8


def test_the_smaller_the_scope_the_wider_the_graph_is_asked() -> None:
    asked = [planned(allowed).rounds[0].nodes for allowed in (100_000, 80_000, 50_000, 30_000)]
    assert asked == sorted(asked)
    assert planned(50_000).rounds[0].rank > 2 * 20


@pytest.mark.parametrize("allowed", [10_000, 20_000, 50_000, 99_999, 100_000])
def test_what_the_graph_may_cost_is_at_most_the_scan(allowed: int) -> None:
    """So that a scope far from the query costs at most twice what reading it costs."""
    assert sum(step.nodes for step in planned(allowed).rounds) * ROWS_PER_NODE <= allowed


def test_rounds_grow_until_the_scan_is_cheaper() -> None:
    ranks = [step.rank for step in planned(50_000).rounds]
    assert len(ranks) > 1
    assert ranks == [ranks[0] * 2**number for number in range(len(ranks))]


def test_a_small_index_is_read_and_so_is_one_of_which_nearly_all_is_wanted() -> None:
    assert planned(500, rows=500).rounds == ()
    assert planned(ROWS, k=50_000).rounds == ()


def test_a_graph_of_few_nodes_is_not_asked_for_more_than_it_has() -> None:
    """Most rows equal others, so that 100,000 rows are 30 nodes."""
    assert plan(nodes=30, rows=ROWS, allowed=ROWS, k=20, width=WIDTH).rounds == ()


def test_the_more_neighbours_the_more_nodes_beyond_them() -> None:
    assert nodes_for(5, WIDTH) == nodes_for(10, WIDTH)
    surplus = [nodes_for(rank, WIDTH) - rank for rank in (10, 40, 160, 640, 2_560)]
    assert surplus == sorted(surplus)
    assert surplus[-1] == surplus[-2]
