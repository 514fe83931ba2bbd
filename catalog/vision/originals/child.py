"""The process of an original: `python -m catalog.vision.originals.child PROGRAM [ARGUMENT ...]`.

PROGRAM is the dotted path of a module with ``load(arguments)``, which returns its tasks by name: functions of named
arrays that return named arrays.

1. End when the parent ends, also in the middle of a task (`_end_with_parent`).
2. Keep the pipe to the parent and let everything that libraries print go to stderr.
3. Load the program, say ``ready``, then answer one message after the other until the pipe is closed.

A task that raises is answered with ``error``, one line; the process lives on.
"""

from __future__ import annotations

import importlib
import os
import select
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from catalog.vision.originals.messages import Arrays, Ended, receive, send

Task = Callable[..., Arrays]
TASK, READY, ERROR = "task", "ready", "error"  # names in a message that are no argument and no result
_LONGEST_ERROR = 500


def main(program: str, arguments: Sequence[str]) -> None:
    _end_with_parent()
    answers = _pipe_to_parent()
    try:
        tasks: Mapping[str, Task] = importlib.import_module(program).load(arguments)
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent has to tell somebody
        send(answers, _failure(error))
        return
    send(answers, {READY: np.array(True)})
    while True:
        try:
            request = receive(sys.stdin.buffer)
        except Ended:
            return
        send(answers, _answer(tasks, request))


def _answer(tasks: Mapping[str, Task], request: dict[str, NDArray[Any]]) -> Arrays:
    try:
        return tasks[str(request.pop(TASK))](**request)
    except Exception as error:  # noqa: BLE001 - the same
        return _failure(error)


def _failure(error: Exception) -> Arrays:
    traceback.print_exc()
    lines = str(error).strip().splitlines() or [""]
    return {ERROR: np.array(f"{type(error).__name__}: {lines[0]}"[:_LONGEST_ERROR])}


def _end_with_parent() -> None:
    """Watches the pipe that requests come through: it is broken when the last process that could write is gone.

    Not by prctl: that signal comes when the *thread* that started this process ends.
    """
    poller = select.poll()
    poller.register(sys.stdin.fileno(), 0)  # no event but the end, which is always told

    def watch() -> None:
        poller.poll()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def _pipe_to_parent() -> BinaryIO:
    pipe = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return pipe


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
