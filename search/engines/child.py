"""Work that needs a process of its own: what may crash, cannot be interrupted, or must see files afresh.

A child is a module run with ``python -m``; its arguments are a folder and a JSON object. On stdout it writes lines of
JSON: how far it is, as often as it likes, and at last its answer. Its stdin is a lifeline: a child whose parent is
gone, however it died, ends itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from search.engines.errors import BuildFailed, EngineError
from search.engines.types import Progress

PROJECT = Path(__file__).resolve().parents[2]  # where `python -m search...` finds this package

Request = Mapping[str, Any]
Answer = dict[str, Any]

PROGRESS, ANSWER = "progress", "answer"  # the key of a line


def run_child(module: str, folder: Path, request: Request, progress: Progress | None = None) -> Answer:
    """Run ``module`` on ``folder`` and return its answer. Raises BuildFailed with the child's own words.

    What ``progress`` raises ends the child and is raised.
    """
    # From our own interpreter, module names from our own code, no shell.
    command = [sys.executable, "-m", module, str(folder), json.dumps(dict(request))]
    with tempfile.TemporaryFile() as err:
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=err, cwd=PROJECT) as child:  # noqa: S603
            assert child.stdout is not None
            try:
                answer = _answer(child.stdout, progress)
                code = child.wait()
            finally:
                child.kill()  # only where waiting was interrupted: a child that ended is not signalled again
        if code != 0 or answer is None:
            raise BuildFailed(f"{module} failed ({_ending(code)}): {_last_line(err)}")
        return answer


def _answer(lines: IO[bytes], progress: Progress | None) -> Answer | None:
    """Listen until the child closes the pipe; None where it died before it answered, maybe within a line."""
    answer: Answer | None = None
    for line in lines:
        if not line.endswith(b"\n"):
            break
        said = json.loads(line)
        if ANSWER in said:
            answer = said[ANSWER]
        elif progress is not None:
            progress(*said[PROGRESS])
    return answer


def child_main(work: Callable[[Path, Request, Progress], Answer]) -> None:
    """The whole of a child: read the arguments, work, answer. An EngineError becomes its message and exit code 1.

    ``work`` gets the folder, the request, and what to call with its progress.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no part of the answer
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        answer = work(Path(sys.argv[1]), json.loads(sys.argv[2]), lambda *said: _write(answers, {PROGRESS: said}))
    except EngineError as error:
        sys.exit(str(error))
    _write(answers, {ANSWER: answer})


def _write(stream: IO[str], line: dict[str, Any]) -> None:
    stream.write(json.dumps(line) + "\n")


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1024):  # nothing is ever sent: it returns when the parent is gone
        pass
    os._exit(1)


def _ending(code: int) -> str:
    return f"killed by signal {-code}; was there enough memory?" if code < 0 else f"exit code {code}"


def _last_line(stream: IO[bytes]) -> str:
    stream.seek(0)
    lines = stream.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
