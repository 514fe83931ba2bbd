"""What a doctor says: lines as it goes, a table at the end, an exit status. It keeps counts, and few of the lines."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from catalog.doctor.examining import Outcome, Unseen
from catalog.doctor.findings import Finding, Problem

WELL, LEFT, UNSEEN = 0, 1, 2


@dataclass
class Report:
    """``fix``: whether mending was asked for. ``shown``: findings of each kind that are written out, None for all.

    ``keeps``: whether what is written out is kept for ``as_json``, too; all of a large site's may be a gigabyte.
    """

    fix: bool
    shown: int | None
    keeps: bool
    problems: dict[str, Problem] = field(default_factory=dict)
    found: Counter[str] = field(default_factory=Counter)
    mended: Counter[str] = field(default_factory=Counter)
    findings: list[dict[str, Any]] = field(default_factory=list)
    unseen: list[Unseen] = field(default_factory=list)

    def add(self, outcome: Outcome | Unseen) -> str:
        """The line that says it, "" where there were enough of its kind."""
        if isinstance(outcome, Unseen):
            self.unseen.append(outcome)
            return f"COULD NOT LOOK at {outcome.about}: {outcome.why}"
        finding = outcome.finding
        self.problems[finding.code] = finding.problem
        self.found[finding.code] += 1
        self.mended[finding.code] += outcome.mended
        if self.shown is not None and self.found[finding.code] > self.shown:
            return self._more(finding)
        if self.keeps:
            self.findings.append(_as_json(outcome))
        return f"{finding.code}  {finding.subject}  {finding.what}{self._became(outcome)}"

    def _more(self, finding: Finding) -> str:
        is_first = self.shown is not None and self.found[finding.code] == self.shown + 1
        return f"{finding.code}  more of these are counted only; -v 2 lists them all" if is_first else ""

    def _became(self, outcome: Outcome) -> str:
        if outcome.mended:
            return f"  [mended: {outcome.finding.problem.repair}]"
        if outcome.why:
            return f"  [left: {outcome.why}]"
        return "  [left]" if self.fix else ""

    @property
    def left(self) -> int:
        return self.found.total() - self.mended.total()

    @property
    def status(self) -> int:
        """The exit status."""
        return UNSEEN if self.unseen else LEFT if self.left else WELL

    def table(self) -> str:
        if not self.found:
            return "Nothing was found where it could be looked." if self.unseen else "All is well."
        width = max(map(len, self.found))
        lines = [f"{'code':{width}}  {'found':>6}  {'mended':>6}  {'left':>6}  what to do"]
        for code, count in self.found.items():
            left = count - self.mended[code]
            todo = self.problems[code].remedy if left else "-"
            lines.append(f"{code:{width}}  {count:6}  {self.mended[code]:6}  {left:6}  {todo}")
        return "\n".join(["", *lines])

    def summary(self) -> str:
        said = [f"{self.left} of {self.found.total()} findings are left."] if self.left else []
        if self.unseen:
            said.append(f"Could not look at {', '.join(each.about for each in self.unseen)}.")
        return " ".join(said)

    def as_json(self) -> dict[str, Any]:
        return {
            "status": self.status,
            "counts": {
                code: {
                    "found": count,
                    "mended": self.mended[code],
                    "what": self.problems[code].what,
                    "remedy": self.problems[code].remedy,
                }
                for code, count in self.found.items()
            },
            "findings": self.findings,
            "could_not_look": [{"about": each.about, "why": each.why} for each in self.unseen],
        }


def _as_json(outcome: Outcome) -> dict[str, Any]:
    finding = outcome.finding
    return {
        "code": finding.code,
        "subject": finding.subject,
        "what": finding.what,
        "remedy": finding.remedy,
        "fixable": finding.fixable,
        "mended": outcome.mended,
        "why": outcome.why,
    }
