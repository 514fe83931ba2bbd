"""How many cores the networks may use."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

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


def test_where_the_system_does_not_tell_all_cores_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert usable_cores() == os.cpu_count()
