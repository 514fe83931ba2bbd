"""Prints every skip with its reason; with CI=true one that tests/allowed_skips.txt does not allow fails the run.

A line of that file is `PATTERN -- REASON`: a shell pattern for test ids, and why the skip is no gap.
"""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ALLOWED_FILE = Path("tests") / "allowed_skips.txt"
SEPARATOR = " -- "


def read_patterns(file: Path) -> list[str]:
    """The patterns of a file of allowed skips. Raises UsageError for a line without a reason."""
    lines = [line.strip() for line in file.read_text().splitlines()]
    entries = [line.partition(SEPARATOR) for line in lines if line and not line.startswith("#")]
    for pattern, _, reason in entries:
        if not reason:
            raise pytest.UsageError(f"{file}: {pattern!r} gives no reason; write `PATTERN{SEPARATOR}REASON`")
    return [pattern.strip() for pattern, _, _ in entries]


class Skips:
    """Collects the skips of a session and judges them at its end."""

    def __init__(self, patterns: list[str], strict: bool) -> None:
        self.patterns = patterns
        self.strict = strict
        self.reasons: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self._add(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._add(report)

    @property
    def forbidden(self) -> list[str]:
        return [test for test in self.reasons if not any(fnmatchcase(test, pattern) for pattern in self.patterns)]

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.strict and self.forbidden:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section(f"skipped: {len(self.reasons)}, not allowed by {ALLOWED_FILE}: {len(self.forbidden)}")
        for test, reason in self.reasons.items():
            mark = "NOT ALLOWED" if test in self.forbidden else "allowed"
            terminalreporter.write_line(f"{mark}: {test}: {reason}")

    def _add(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        self.reasons[report.nodeid] = reason.removeprefix("Skipped: ")


def pytest_configure(config: pytest.Config) -> None:
    file = config.rootpath / ALLOWED_FILE
    patterns = read_patterns(file) if file.is_file() else []
    config.pluginmanager.register(Skips(patterns, strict=os.environ.get("CI") == "true"), "visearch-skips")
