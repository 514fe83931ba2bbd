"""How many cores the networks may use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from catalog.vision import cores
from catalog.vision.cores import usable_cores

ON_ONE_CORE = """
import os
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
from catalog.vision.cores import usable_cores
print(usable_cores())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux confines a process to cores")
def test_cores_that_a_process_may_not_use_do_not_count() -> None:
    said = subprocess.run([sys.executable, "-c", ON_ONE_CORE], capture_output=True, text=True, check=True).stdout
    assert said == "1\n"


@pytest.mark.parametrize(
    ("groups", "wanted"),
    [
        ({"": "max 100000"}, 8),
        ({}, 8),
        ({"": "250000 100000"}, 2),
        ({"": "50000 100000"}, 1),
        ({"": "1600000 100000"}, 8),
        ({"site/web": "max 100000", "site": "300000 100000"}, 3),
        ({"site/web": "400000 100000", "site": "600000 100000", "": "damaged"}, 4),
    ],
    ids=["none", "no groups", "two and a half", "half", "more than there are", "of the group around", "the least"],
)
def test_a_quota_of_processor_time_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, groups: dict[str, str], wanted: int
) -> None:
    """As of a container that was given two and a half of eight cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8), raising=False)
    mine = tmp_path / "mine"
    mine.write_text("1:cpuset:/\n0::/site/web\n")
    monkeypatch.setattr(cores, "_MINE", mine)
    monkeypatch.setattr(cores, "_CGROUPS", tmp_path)
    for group, limit in groups.items():
        (tmp_path / group).mkdir(parents=True, exist_ok=True)
        (tmp_path / group / "cpu.max").write_text(f"{limit}\n")
    assert usable_cores() == wanted


def test_where_the_system_does_not_tell_all_cores_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(cores, "_MINE", Path("/nowhere"))
    assert usable_cores() == os.cpu_count()
