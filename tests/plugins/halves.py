"""Which half of a run a test belongs to, where pytest runs it in two processes (`-n 2 --dist loadgroup`).

The tests that start the product's processes and a browser stay together in one of them, one after the other: they share
a running stack, and two of them at once would wait for each other's work. All others run beside them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

GROUP = "processes"
STARTERS = frozenset({"stack", "browser"})  # markers
LOCAL = Path("tests") / "visearch_site" / "local"  # servers and launchers


def join_group(item: pytest.Item) -> None:
    """Mark a test that starts processes. To be called when it is collected: later pytest-xdist has read the marks."""
    if (item.config.rootpath / LOCAL) in item.path.parents or any(map(item.get_closest_marker, STARTERS)):
        item.add_marker(pytest.mark.xdist_group(GROUP))


def plain_id(nodeid: str) -> str:
    """A test's id without the group that pytest-xdist appends."""
    return nodeid.removesuffix(f"@{GROUP}")
