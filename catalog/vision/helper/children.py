"""The children that decode: started ahead or when needed, kept for the next file, killed when they take too long."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import mmap
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from catalog.vision.errors import DecoderStarved, DecoderUnavailable
from catalog.vision.helper import messages
from catalog.vision.helper.messages import MOST_BYTES, SHARED_BYTES

MOST_SECONDS = 5.0  # that a file may take, from handing it over until its child is killed and the answer is known
SECONDS = 4.5  # of these, that the child has
# Where it had less of a processor than this share of them, it waited for others and not for its file: it is given the
# rest, but no more than so many seconds altogether.
_SHARE, _PATIENCE = 0.9, 15.0
_STEP = 0.1  # seconds between two looks at what it had, at least
_START_SECONDS = 60.0
_PROJECT = Path(__file__).resolve().parents[3]  # where `python -m catalog...` finds this package
# -E: nothing of the environment decides what is imported; -s: nor the user's own packages. -B: it may write no files.
_COMMAND = (sys.executable, "-E", "-s", "-B", "-m", "catalog.vision.helper.child")
_KEPT = ("LD_LIBRARY_PATH", "PATH")  # all that it gets of our environment, which has passwords in it
_ENVIRONMENT = {"LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}

_ticks = os.sysconf("SC_CLK_TCK")
_all: set[Child] = set()  # that have not been ended
_inherited: list[subprocess.Popen[bytes]] = []  # processes of our parent, kept so that nothing waits for them


class Died(Exception):
    """The child ended before it answered; ``str()`` says how."""


class Late(Exception):
    """The child has worked for SECONDS and did not answer."""


class Child:
    """One process, asked by one thread at a time. Raises DecoderUnavailable where it cannot be started."""

    def __init__(self) -> None:
        self.asked = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._shared: mmap.mmap | None = None
        self._has_shared = False
        self._descriptors: list[int] = []
        _all.add(self)
        try:
            self._start()
        except (OSError, Died) as error:
            self.end()
            words = getattr(error, "strerror", None) or str(error)
            raise DecoderUnavailable(f"the process that reads images cannot be started: {words}") from error
        except BaseException:
            self.end()
            raise

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            shared = os.memfd_create("visearch-pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            self._descriptors.append(shared)
            os.ftruncate(shared, SHARED_BYTES)
            # What it cannot take away we can read without a signal that it is gone.
            fcntl.fcntl(shared, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            self._shared = mmap.mmap(shared, SHARED_BYTES, prot=mmap.PROT_READ)
            lifeline, end = os.pipe()
            self._descriptors.append(end)
            try:
                self._process = _started(theirs.fileno(), shared, lifeline)
            finally:
                os.close(lifeline)
        if self._answer(_START_SECONDS) != messages.READY:
            raise Died("it said something else than that it is ready")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def ask(self, request: bytes, file: int) -> bytes:
        """Its answer to a request about the file behind this descriptor.

        Raises Died; Late, where it took SECONDS; DecoderStarved, where it had no time; DecoderUnavailable.
        """
        assert self._socket is not None
        self.asked += 1
        before = _processor_seconds(self.pid)
        try:
            socket.send_fds(self._socket, [request], [file])
        except ConnectionError as error:
            raise Died(self._how_it_ended()) from error
        except OSError as error:
            raise DecoderUnavailable(f"the process that reads images cannot be asked: {error.strerror}") from error
        answer = self._answer_in_time(before)
        if answer == messages.READY:  # it had something to load first, which is not the file's time
            answer = self._answer_in_time(_processor_seconds(self.pid))
        return answer

    def shared(self, length: int) -> memoryview:
        """So many bytes from the beginning of what it shares with us, until it is asked again."""
        assert self._shared is not None
        self._has_shared = True
        return memoryview(self._shared)[:length]

    def forget(self) -> None:
        """Tell it that what it shares was read, and may be given back; nothing to one that has never shared any.

        After every file then, also one of which nothing was read: the one before may have had no second to rest.
        """
        if not self._has_shared:
            return
        assert self._socket is not None
        with contextlib.suppress(OSError):  # it has ended: whoever asks it next finds out
            self._socket.send(messages.TAKEN)

    def end(self) -> None:
        """Kill it, whatever it is at; nothing where it has ended."""
        _all.discard(self)
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(PermissionError):  # whoever has other rights now: see the lifeline
                process.kill()
        self._close()
        if process is not None:
            process.wait()

    def _answer_in_time(self, before: float) -> bytes:
        """Its next message, of a child that had ``before`` seconds of a processor so far. Raises as `ask`."""
        began, seconds, used, enough = time.monotonic(), SECONDS, 0.0, _SHARE * SECONDS
        while seconds > 0:
            with contextlib.suppress(TimeoutError):
                return self._answer(seconds)
            used = _processor_seconds(self.pid) - before
            if used >= enough:
                raise Late
            left = _PATIENCE - (time.monotonic() - began)
            seconds = min(left, max(_STEP, enough - used))  # one processor gives it no more than that
        raise DecoderStarved(f"the process that reads images had a processor for {used:.1f} s of {_PATIENCE:g} s")

    def _answer(self, seconds: float) -> bytes:
        """The next message. Raises TimeoutError, Died."""
        assert self._socket is not None
        self._socket.settimeout(seconds)
        try:
            message = self._socket.recv(MOST_BYTES)
        except TimeoutError:
            raise
        except OSError:
            message = b""
        if not message:
            raise Died(self._how_it_ended())
        return message

    def _how_it_ended(self) -> str:
        assert self._process is not None
        try:
            code = self._process.wait(1)
        except subprocess.TimeoutExpired:
            return "it closed its socket"
        return f"it was ended by {signal.Signals(-code).name}" if code < 0 else f"it ended with status {code}"

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._shared = None  # closed when nobody looks at it any more
        while self._descriptors:
            os.close(self._descriptors.pop())

    def let_go(self) -> None:
        """In a child of a fork: the process belongs to our parent, and must not live as long as we do."""
        _all.discard(self)
        process, self._process = self._process, None
        if process is not None:
            _inherited.append(process)
        self._close()


def _started(*descriptors: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [*_COMMAND, *map(str, descriptors)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # what libraries print of damaged files
        pass_fds=descriptors,
        cwd=_PROJECT,
        env=_ENVIRONMENT | {name: os.environ[name] for name in _KEPT if name in os.environ},
        start_new_session=True,  # Ctrl-C is for us, who may want to finish
    )


def _processor_seconds(pid: int) -> float:
    """That all threads of a process had so far (proc_pid_stat(5), fields 14 and 15)."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) / _ticks
    except (OSError, ValueError, IndexError):  # it ended
        return 0.0


def let_go_of_all() -> None:
    for child in list(_all):
        child.let_go()


def end_all() -> None:
    for child in list(_all):
        child.end()


atexit.register(end_all)
