"""What changed since the last look at the programs, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from visearch_site.local.supervision import ProgramState

RUNNING = "RUNNING"
FATAL = "FATAL"


@dataclass(frozen=True)
class Changes:
    """`messages` for the terminal, and the process ids of programs that died since the look before."""

    messages: list[str]
    died: list[int]


class Watch:
    """Compares each answer of `Supervisor.states` with the one before; messages point to log files in `logs`."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.before: dict[str, ProgramState] = {}
        self.down: set[str] = set()

    def look(self, now: Mapping[str, ProgramState]) -> Changes:
        """What changed; an empty answer (supervisord did not reply) changes nothing."""
        found = Changes([], [])
        for name, state in now.items():
            self._compare(name, self.before.get(name, state), state, found)
        self.before.update(now)
        return found

    def _compare(self, name: str, before: ProgramState, now: ProgramState, found: Changes) -> None:
        log = self.logs / f"{name}.log"
        if before.pid and before.pid != now.pid:
            self.down.add(name)
            found.died.append(before.pid)
            found.messages.append(f"{name} died; starting it again (log: {log})")
        if now.state == RUNNING and name in self.down:
            self.down.discard(name)
            found.messages.append(f"{name} runs again")
        if now.state == FATAL != before.state:
            found.messages.append(
                f"{name} does not start any more. Read {log}, then end this with Ctrl-C and start again."
            )
