"""A test that skips without leave fails CI, and is named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
SUITE = """
import pytest

@pytest.mark.skip(reason="no browser here")
def test_in_a_browser(): pass

@pytest.mark.xfail(reason="known")
def test_known(): assert False

def test_plain(): pass
"""


def run_suite(folder: Path, allowed: str, ci: str) -> subprocess.CompletedProcess[str]:
    (folder / "tests").mkdir()
    (folder / "tests" / "allowed_skips.txt").write_text(allowed)
    (folder / "tests" / "test_suite.py").write_text(SUITE)
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-p", "tests.plugins.skips", "-p", "no:django", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, "-c", str(folder / "pytest.ini"), "--rootdir", str(folder), str(folder / "tests")],
        check=False,
        cwd=PROJECT,
        env={**os.environ, "CI": ci},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("allowed", "ci", "status", "mark"),
    [
        ("", "true", 1, "NOT ALLOWED"),
        ("", "", 0, "NOT ALLOWED"),
        ("tests/test_suite.py::test_in_* -- CI without a browser", "true", 0, "allowed"),
        ("tests/test_suite.py::test_other -- for another reason", "true", 1, "NOT ALLOWED"),
    ],
)
def test_a_skip_needs_leave_in_ci(tmp_path: Path, allowed: str, ci: str, status: int, mark: str) -> None:
    answer = run_suite(tmp_path, allowed, ci)
    assert answer.returncode == status, answer.stdout
    assert f"\n{mark}: tests/test_suite.py::test_in_a_browser: no browser here\n" in answer.stdout
    assert "test_known: " not in answer.stdout


def test_leave_without_a_reason_is_refused(tmp_path: Path) -> None:
    answer = run_suite(tmp_path, "tests/*", "true")
    assert answer.returncode == 4
    assert "gives no reason" in answer.stderr
