"""A run in two processes (`-n 2 --no-loadscope-reorder`): who runs what.

The tests that start the product's processes and a browser stay together in one of them, one after the other: they share
running stacks, and two of them at once would wait for each other's work. So do those of `make up`, in the other one,
which share nothing with them. All others follow, file by file, wherever there is room.
"""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

TOGETHER = "processes"
LOCAL = "tests/visearch_site/local/"
FIRST = (TOGETHER, LOCAL)
STARTERS = ("stack", "browser")  # markers
STARTERS_FILES = (  # what starts processes, known by the test's id
    "tests/browser/",
    "tests/search/test_page_privacy.py",
    "tests/search/test_two_processes.py",
    "tests/test_bad_days.py",
    "tests/test_upload_to_search.py",
)


def scope_of(nodeid: str) -> str:
    """Tests of one scope run in one process, in their order."""
    if nodeid.startswith(LOCAL):
        return LOCAL
    return TOGETHER if nodeid.startswith(STARTERS_FILES) else nodeid.partition("::")[0]


class Halves(LoadScopeScheduling):
    """pytest-xdist's scheduler by scope, with scopes of ours. Its marks of groups are lost with pytest 9.2."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Halves:
    return Halves(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that start processes first: they take longest. Raises UsageError for one in a file not known for it."""
    for item in items:
        if any(map(item.get_closest_marker, STARTERS)) and scope_of(item.nodeid) not in FIRST:
            raise pytest.UsageError(f"{item.nodeid} starts processes: name its file in tests/plugins/halves.py")
    items.sort(key=_turn)  # stable


def _turn(item: pytest.Item) -> int:
    scope = scope_of(item.nodeid)
    return FIRST.index(scope) if scope in FIRST else len(FIRST)
