"""One original in a process of its own, asked from any thread; started when first asked, and again when it died."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from catalog.vision.errors import ModelFailed, ModelUnavailable
from catalog.vision.originals.child import ERROR, READY, TASK
from catalog.vision.originals.messages import Arrays, Ended, receive, send

PROJECT = Path(__file__).resolve().parents[3]
SECRETS = frozenset({"SECRET_KEY", "DATABASE_URL", "REDIS_URL"})  # no business of others' code
_LAST_WORDS = 300  # characters of what a process that died said last

_clients: weakref.WeakSet[Original] = weakref.WeakSet()
_inherited: list[subprocess.Popen[bytes]] = []  # processes of our parent, kept so that nothing waits for them


class Original:
    """Asks the program ``module`` (``catalog.vision.originals.programs``), one request at a time.

    ``name`` is how messages call it, ``threads`` how many cores it may use (0: all). Where it takes longer than
    ``start_seconds`` to load or ``answer_seconds`` for one answer, it is ended. After a fork the child starts a process
    of its own.
    """

    def __init__(
        self,
        name: str,
        module: str,
        arguments: Sequence[str] = (),
        *,
        threads: int = 0,
        start_seconds: float = 300,
        answer_seconds: float = 120,
    ) -> None:
        self._name = name
        self._command = [sys.executable, "-m", "catalog.vision.originals.child", module, *arguments]
        self._environment = _environment(threads)
        self._start_seconds, self._answer_seconds = start_seconds, answer_seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None
        _clients.add(self)

    def ask(self, task: str, **arrays: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """The task's results. Raises ModelUnavailable where it raised, died, took too long or could not start."""
        with self._lock:
            process = self._running()
            with self._within(process, self._answer_seconds):
                assert process.stdin and process.stdout
                send(process.stdin, {TASK: np.array(task), **arrays})
                answer = receive(process.stdout)
        return self._checked(answer)

    def close(self) -> None:
        """End the process; the next request starts another."""
        with self._lock:
            self._end()

    def __del__(self) -> None:
        if hasattr(self, "_process"):
            self._end()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._end()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self._process = process = subprocess.Popen(  # noqa: S603
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            cwd=PROJECT,
            env=self._environment,
            start_new_session=True,  # Ctrl-C is for the parent, which may want to finish; this ends with it anyway
        )
        with self._within(process, self._start_seconds):
            assert process.stdout
            hello = receive(process.stdout)
        if READY not in hello:
            self._end()
            self._checked(hello)
        return process

    @contextmanager
    def _within(self, process: subprocess.Popen[bytes], seconds: float) -> Iterator[None]:
        """Ends the process when the block takes longer, and says of either end what happened."""
        late = threading.Event()

        def expire() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(seconds, expire)
        timer.daemon = True
        timer.start()
        try:
            yield
        except (Ended, OSError) as error:
            how = f"did not answer within {seconds:g} s" if late.is_set() else self._how_it_ended(process, error)
            self._end()
            raise self._unavailable(f"{how}. It is started again when it is next needed.") from error
        except BaseException:
            self._end()  # an answer may still be on its way, and must not be taken for the next one
            raise
        finally:
            timer.cancel()

    def _how_it_ended(self, process: subprocess.Popen[bytes], error: Exception) -> str:
        try:
            code = process.wait(5)
        except subprocess.TimeoutExpired:
            return f"sent what is no answer ({error})"
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        words = self._last_words()
        return f"{how}, after it had said {words!r}" if words else f"{how} without a word"

    def _last_words(self) -> str:
        assert self._said
        end = self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, end - _LAST_WORDS))
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""

    def _checked(self, answer: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        if ERROR in answer:
            raise self._unavailable(f"answered with an error: {answer[ERROR]}")
        return answer

    def _unavailable(self, what: str) -> ModelUnavailable:
        return ModelUnavailable(self._name, f"The original {self._name}, which runs in a process of its own, {what}")

    def _end(self) -> None:
        process, self._process = self._process, None
        said, self._said = self._said, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                _close(pipe)
        if said is not None:
            said.close()

    def _let_go(self) -> None:
        """In a child of a fork: the process belongs to our parent, and must not live as long as we do."""
        process, self._process = self._process, None
        self._lock = threading.Lock()  # a thread that is not here may have held it
        if process is None:
            return
        _inherited.append(process)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for pipe in (process.stdin, process.stdout):
            assert pipe
            os.dup2(nowhere, pipe.fileno(), inheritable=False)
        os.close(nowhere)


def checked(
    name: str, answer: Arrays, shapes: dict[str, tuple[int | None, ...]]
) -> dict[str, NDArray[np.floating[Any]]]:
    """The arrays of an answer in the order of ``shapes``, whose None is any length; every one finite floats.

    Raises ModelUnavailable.
    """
    for key, shape in shapes.items():
        values = answer.get(key)
        if values is None or values.dtype.kind != "f" or not _fits(values.shape, shape):
            found = "nothing" if values is None else f"{values.dtype} of shape {values.shape}"
            raise ModelUnavailable(name, f"The original {name} gave {found} for {key}, not numbers of shape {shape}.")
        if not np.isfinite(values).all():
            raise ModelFailed(name, f"The original {name} gave {key} that are not finite.")
    return {key: answer[key] for key in shapes}


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        most is None or size == most for size, most in zip(shape, wanted, strict=True)
    )


def _close(pipe: IO[bytes] | None) -> None:
    assert pipe
    with suppress(OSError):  # what it still held for a process that is gone
        pipe.close()


def _environment(threads: int) -> dict[str, str]:
    found = {name: value for name, value in os.environ.items() if name not in SECRETS}
    found |= {"TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONUNBUFFERED": "1"}
    if threads:
        found |= {
            "TF_NUM_INTRAOP_THREADS": str(threads),
            "TF_NUM_INTEROP_THREADS": "1",
            "OMP_NUM_THREADS": str(threads),
        }
    return found


def _after_fork() -> None:
    for client in list(_clients):
        client._let_go()


os.register_at_fork(after_in_child=_after_fork)
