"""NMSLIB's efSearch is one number for the whole index: no query may run while it is set, or below its own.

The fake index sees both, which the library answers with fewer neighbours, now and then.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from search.engines.nmslib_graph import SearchWidth
from tests.library import InThread

AFTER_LOADING = 20
ENOUGH_SECONDS = 30.0  # of waiting for what happens at once


class FakeIndex:
    """As NMSLIB's: efSearch is 20 after loading, and passes through 20 whenever it is set."""

    def __init__(self) -> None:
        self.width = AFTER_LOADING
        self.running = 0
        self.wrong: list[str] = []
        self._lock = threading.Lock()

    def setQueryTimeParams(self, parameters: dict[str, int]) -> None:
        for width in (AFTER_LOADING, parameters["efSearch"]):
            self._expect(self.running == 0, f"set to {width} while {self.running} queries run")
            self.width = width
            time.sleep(0.0002)

    def query(self, needed: int) -> int:
        with self._lock:
            self.running += 1
        for _ in range(3):
            self._expect(self.width >= needed, f"a query that needs {needed} runs at {self.width}")
            time.sleep(0.0002)
        with self._lock:
            self.running -= 1
        return needed

    def _expect(self, is_so: bool, else_what: str) -> None:
        if not is_so:
            self.wrong.append(else_what)


@pytest.fixture
def index() -> FakeIndex:
    return FakeIndex()


@pytest.fixture
def search_width(index: FakeIndex) -> SearchWidth:
    return SearchWidth(index)


def ask(search_width: SearchWidth, index: FakeIndex, needed: int) -> int:
    return search_width.run(needed, partial(index.query, needed))


@pytest.mark.parametrize("widths", [[16, 40, 300, 1_000], [64, 65]], ids=["far apart", "nearly equal"])
def test_no_query_runs_below_its_width_or_while_it_is_set(
    index: FakeIndex, search_width: SearchWidth, widths: list[int]
) -> None:
    start = threading.Barrier(12)

    def keep_asking(seed: int) -> list[tuple[int, int]]:
        start.wait()
        wanted = np.random.default_rng(seed).choice(widths, 60).tolist()
        return [(needed, ask(search_width, index, needed)) for needed in wanted]

    threads = [InThread(partial(keep_asking, seed)) for seed in range(12)]
    for thread in threads:
        assert all(needed == answer for needed, answer in thread.outcome())
    assert index.wrong == []


def test_queries_of_one_width_run_beside_each_other(search_width: SearchWidth) -> None:
    """Each waits inside for the other, as it also does for one that needs less."""
    for needed, of_the_other in ((100, 100), (100, 16)):
        both = threading.Barrier(2)
        inside = partial(both.wait, ENOUGH_SECONDS)
        first = InThread(partial(search_width.run, needed, inside))
        wait_for(lambda both=both: both.n_waiting == 1)  # type: ignore[misc]
        second = InThread(partial(search_width.run, of_the_other, inside))
        assert {first.outcome(), second.outcome()} == {0, 1}


def test_a_wide_query_is_not_kept_waiting_by_narrow_ones_that_keep_coming(
    index: FakeIndex, search_width: SearchWidth
) -> None:
    """At every moment some of them run."""
    over = threading.Event()

    def keep_asking() -> None:
        until = time.monotonic() + ENOUGH_SECONDS
        while not over.is_set():
            assert time.monotonic() < until, "the wide query never had its turn"
            ask(search_width, index, 16)

    narrow = [InThread(keep_asking) for _ in range(6)]
    wide = InThread(lambda: ask(search_width, index, 500))
    wide.join(ENOUGH_SECONDS)
    over.set()
    assert [wide.outcome(), *(thread.outcome() for thread in narrow)] == [500, *[None] * 6]
    assert index.wrong == []


def test_one_wide_query_does_not_make_the_later_ones_slow(index: FakeIndex, search_width: SearchWidth) -> None:
    for needed in (16, 500, 16):
        ask(search_width, index, needed)
        assert index.width == needed


def test_a_query_that_fails_holds_nobody_up(index: FakeIndex, search_width: SearchWidth) -> None:
    def fails() -> int:
        raise MemoryError

    with pytest.raises(MemoryError):
        search_width.run(16, fails)
    assert InThread(lambda: ask(search_width, index, 500)).outcome() == 500


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + ENOUGH_SECONDS
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.001)
