"""The terminal hears of what dies, what comes back and what does not, once each."""

from __future__ import annotations

from pathlib import Path

from visearch_site.local.supervision import ProgramState
from visearch_site.local.watch import Watch


def messages(*states: ProgramState) -> list[str]:
    watch = Watch(Path("logs"))
    return [message for state in states for message in watch.look({"web": state}).messages]


def test_a_first_start_is_no_news() -> None:
    assert messages(ProgramState("STARTING", 1, 0), ProgramState("RUNNING", 1, 0)) == []


def test_a_death_and_a_return_are_told_once() -> None:
    running, backoff, again = (
        ProgramState("RUNNING", 1, 0),
        ProgramState("BACKOFF", 0, 1),
        ProgramState("RUNNING", 2, 0),
    )
    told = ["web died; starting it again (log: logs/web.log)", "web runs again"]
    assert messages(running, backoff, backoff, again, again) == told
    assert messages(running, again) == told  # all of it between two looks


def test_what_does_not_start_any_more_is_told_with_what_to_do() -> None:
    backoff, fatal = ProgramState("BACKOFF", 0, 1), ProgramState("FATAL", 0, 1)
    [message] = messages(backoff, fatal, fatal)
    assert "Read logs/web.log" in message


def test_silence_of_the_supervisor_is_no_death() -> None:
    watch = Watch(Path("logs"))
    watch.look({"web": ProgramState("RUNNING", 1, 0)})
    watch.look({})
    found = watch.look({"web": ProgramState("RUNNING", 2, 0)})
    assert found.died == [1]
