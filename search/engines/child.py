"""Work that needs a process of its own: what may crash, cannot be interrupted, or must see files afresh.

A child is a module run with ``python -m``; its arguments are a folder and a JSON object, its answer is one JSON object
on stdout. Its stdin is a lifeline: a child whose parent is gone, however it died, ends itself.
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

from search.engines.errors import BuildFailed

PROJECT = Path(__file__).resolve().parents[2]  # where `python -m search...` finds this package

Request = Mapping[str, Any]
Answer = dict[str, Any]


def run_child(module: str, folder: Path, request: Request) -> Answer:
    """Run ``module`` on ``folder`` and return its answer. Raises BuildFailed with the child's own words."""
    # From our own interpreter, module names from our own code, no shell.
    command = [sys.executable, "-m", module, str(folder), json.dumps(dict(request))]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=err, cwd=PROJECT) as child:  # noqa: S603
            try:
                code = child.wait()
            finally:
                child.kill()  # only where waiting was interrupted: a child that ended is not signalled again
        if code != 0:
            raise BuildFailed(f"{module} failed ({_ending(code)}): {_last_line(err)}")
        out.seek(0)
        answer: Answer = json.loads(out.read())
        return answer


def child_main(work: Callable[[Path, Request], Answer]) -> None:
    """The whole of a child: read the arguments, work, answer. BuildFailed becomes its message and exit code 1."""
    answers = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no part of the answer
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        answer = work(Path(sys.argv[1]), json.loads(sys.argv[2]))
    except BuildFailed as error:
        sys.exit(str(error))
    with os.fdopen(answers, "w") as stream:
        json.dump(answer, stream)


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
