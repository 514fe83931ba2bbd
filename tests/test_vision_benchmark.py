"""What `benchmarks.vision` prints is what was measured."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np

from benchmarks.vision import spanned, turn
from tests.stack import ROOT


def test_a_sides_memory_is_its_own_and_not_that_of_whoever_started_it() -> None:
    large = np.ones(40_000_000)  # 320 MB, which a child's ru_maxrss would begin with
    program = (
        "import json, numpy as np; from benchmarks.vision_sides import peak_memory\n"
        "before = peak_memory(); block = np.ones(10_000_000); block = None\n"
        "print(json.dumps([before, peak_memory()]))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    before, after = json.loads(done.stdout)
    assert large.nbytes / 2**20 > 300 > after
    assert 60 < after - before < 120  # the peak counts, also of what was given back


def test_another_side_begins_each_round() -> None:
    names = ["a", "b", "c"]
    assert [turn(names, number) for number in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]


def test_a_median_comes_with_the_least_and_the_most() -> None:
    assert spanned([3.0, 1.0, 2.0, 9.0]) == "2.50 (1.00-9.00)"
