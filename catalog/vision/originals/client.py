"""One program in a process of its own, asked from any thread; started when first asked.

An original (`stateless`) is started again when it died. What keeps what it was told (catalog.digits.training) is not.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
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
# Settings and credentials, which are no business of others' code.
_SECRET = re.compile(r"^(VISEARCH|DJANGO|PG|POSTGRES|AWS|AZURE|GOOGLE)_?|SECRET|PASSW|TOKEN|KEY|CREDENTIAL|_(URL|DSN)$")
# On a GPU TensorFlow convolves in TF32, wrong by 1e-3 where 2e-6 is allowed, and a process takes nearly all its memory.
ON_CPU = {"CUDA_VISIBLE_DEVICES": "-1"}
_LAST_WORDS = 300  # characters of what a process that died said last
_TRACEBACK = 4000  # characters of what it said of an error that go to the log

logger = logging.getLogger(__name__)

_clients: weakref.WeakSet[Original] = weakref.WeakSet()
_inherited: list[subprocess.Popen[bytes]] = []  # processes of our parent, kept so that nothing waits for them


class Original:
    """Asks the program ``module`` (as those of ``catalog.vision.originals.programs``), one request at a time.

    ``name`` is how messages call it, ``threads`` how many cores it may use (0: all). Where it takes longer than
    ``start_seconds`` to load or ``answer_seconds`` for one answer, it is ended; nobody waits longer than
    ``answer_seconds`` for the requests of others. ``stateless``: it keeps nothing between two requests, so where it
    ended the next one starts another (in a child of a fork: one of its own), but not within ``rest_seconds`` of a start
    that failed.
    """

    def __init__(
        self,
        name: str,
        module: str,
        arguments: Sequence[str] = (),
        *,
        threads: int = 0,
        start_seconds: float = 300,
        answer_seconds: float = 60,  # less than the lease of an image (VISEARCH_LEASE_SECONDS)
        rest_seconds: float = 30,
        stateless: bool = False,
    ) -> None:
        self._name = name
        self._stateless = stateless
        self._was_started = False
        self._rest_seconds = rest_seconds
        self._refused: tuple[float, ModelUnavailable] | None = None  # until when, and why the last start failed
        self._command = [sys.executable, "-m", "catalog.vision.originals.child", module, *arguments]
        self._environment = _environment(threads)
        self._start_seconds, self._answer_seconds = start_seconds, answer_seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None
        _clients.add(self)

    def ask(self, task: str, **arrays: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """The task's results.

        Raises ModelFailed where it raised, or died or took too long over it (other requests may do better), otherwise
        ModelUnavailable: it could not start, or is too busy.
        """
        with self._turn():
            process = self._running()
            with self._within(process, self._answer_seconds, ModelFailed):
                assert process.stdin and process.stdout
                send(process.stdin, {TASK: np.array(task), **arrays})
                answer = receive(process.stdout)
            self._listen(is_error=ERROR in answer)
        if ERROR in answer:
            raise self._error(ModelFailed, f"answered with an error: {answer[ERROR]}")
        return answer

    @contextmanager
    def _turn(self) -> Iterator[None]:
        lock = self._lock
        if not lock.acquire(timeout=self._answer_seconds):
            raise self._error(ModelUnavailable, f"was busy with other requests for {self._answer_seconds:g} s")
        try:
            yield
        finally:
            lock.release()

    def close(self) -> None:
        """End the process; where it is stateless, the next request starts another."""
        with self._lock:
            self._end()

    def __del__(self) -> None:
        if hasattr(self, "_process"):
            self._end()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._end()
        self._may_start()
        try:
            return self._started()
        except ModelUnavailable as error:
            self._refused = time.monotonic() + self._rest_seconds, error
            raise

    def _may_start(self) -> None:
        if self._was_started and not self._stateless:
            raise self._error(ModelUnavailable, "has ended, and what it was told with it")
        if self._refused and time.monotonic() < self._refused[0]:
            raise ModelUnavailable(self._name, str(self._refused[1]))

    def _started(self) -> subprocess.Popen[bytes]:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        fcntl.fcntl(self._said, fcntl.F_SETFL, fcntl.fcntl(self._said, fcntl.F_GETFL) | os.O_APPEND)  # see _listen
        self._was_started = True
        self._process = process = subprocess.Popen(  # noqa: S603
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            cwd=PROJECT,
            env=self._environment,
            start_new_session=True,  # Ctrl-C is for the parent, which may want to finish; this ends with it anyway
        )
        with self._within(process, self._start_seconds, ModelUnavailable):
            assert process.stdout
            hello = receive(process.stdout)
        if READY not in hello:
            self._listen(is_error=True)
            self._end()
            raise self._error(ModelUnavailable, f"could not start: {hello.get(ERROR)}")
        return process

    @contextmanager
    def _within(self, process: subprocess.Popen[bytes], seconds: float, kind: type[ModelUnavailable]) -> Iterator[None]:
        """Ends the process when the block takes longer, and says of either end what happened, raising ``kind``."""
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
            raise self._error(kind, how) from error
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
        lines = self._words(_LAST_WORDS).splitlines()
        return lines[-1].strip() if lines else ""

    def _listen(self, *, is_error: bool) -> None:
        """Forget what it printed (the file has a name nowhere and would grow as long as it lives), or log it."""
        assert self._said
        words = self._words(_TRACEBACK) if is_error else ""
        if words:
            logger.error("%s printed:\n%s", self._name, words)
        self._said.truncate(0)

    def _words(self, most: int) -> str:
        assert self._said
        end = self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, end - most))
        return self._said.read().decode(errors="replace").strip()

    def _error(self, kind: type[ModelUnavailable], what: str) -> ModelUnavailable:
        return kind(self._name, f"The process of {self._name} {what}")

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

    Raises ModelFailed.
    """
    for key, shape in shapes.items():
        values = answer.get(key)
        if values is None or values.dtype.kind != "f" or not _fits(values.shape, shape):
            found = "nothing" if values is None else f"{values.dtype} of shape {values.shape}"
            raise ModelFailed(name, f"The original {name} gave {found} for {key}, not numbers of shape {shape}.")
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
    # On processors with AVX-512 VNNI TensorFlow 2.21 takes oneDNN if not told otherwise, which makes of a batch of none
    # one of the wrong shape: mtcnn then fails for every image in which its first network finds nothing.
    found = {"TF_ENABLE_ONEDNN_OPTS": "0"}
    found |= {name: value for name, value in os.environ.items() if not _SECRET.search(name.upper())}
    found |= {"TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONUNBUFFERED": "1", **ON_CPU}
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
