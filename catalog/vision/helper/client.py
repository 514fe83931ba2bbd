"""Asking the children: `inspect` at the door, `read_image` where pixels are needed.

As many children at once as there are cores, two at least, each asked by one thread at a time; more threads wait for
their turn, which is not counted as the file's time.
"""

from __future__ import annotations

import io
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar

from PIL import Image

from catalog.vision.cores import usable_cores
from catalog.vision.decode import Limits, check_file
from catalog.vision.errors import DecoderUnavailable, ImageRefused
from catalog.vision.helper import children, messages
from catalog.vision.helper.children import SECONDS, Child, Died, Late
from catalog.vision.helper.handing import handed_over
from catalog.vision.helper.messages import INSPECT, READ, Garbled, Request
from catalog.vision.normalising import check_rule
from catalog.vision.types import DecodedImage, ImageHeader

_FILES_OF_A_CHILD = 1000  # then another takes over: what libraries do not give back is given back with it
_TOO_MUCH_MEMORY = "too-much-memory"
_DOT = b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\1\0\1\0\0\2\2D\1\0;"  # one pixel

Answered = TypeVar("Answered")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Normalised:
    """A file made of the one that came, by the job's rule, and its header."""

    data: bytes
    header: ImageHeader


@dataclass(frozen=True, slots=True)
class Inspected:
    """What is known of a file that decodes to its end.

    ``header``: of the file as it came. ``phash``, ``phash_mirrored``: catalog.vision.likeness, signed, 64 bits; None
    where there is nothing to be seen. ``normalised``: None where the file is kept as it came.
    """

    header: ImageHeader
    phash: int | None
    phash_mirrored: int | None
    normalised: Normalised | None


def inspect(file: BinaryIO, name: str | None, limits: Limits, normalise: str = "") -> Inspected:
    """Decode a file to its end; no pixels come back.

    ``normalise``: a rule of catalog.vision.normalising, whose ValueError is raised. Raises what `read_image` does.
    """
    check_rule(normalise)
    return _ask(file, name, Request(INSPECT, limits, normalise), _inspected)


def read_image(file: BinaryIO, name: str | None, limits: Limits) -> DecodedImage:
    """As catalog.vision.decode.read_image, in a process of its own.

    Raises ImageRefused with one of its codes and too-slow, too-much-memory, decoder-died; OSError where the file cannot
    be read; DecoderUnavailable (an OSError) for trouble that is not the file's fault.
    """
    return _ask(file, name, Request(READ, limits), _read)


def _inspected(said: dict[str, Any], child: Child, request: Request) -> Inspected:
    header = messages.header(said.get("header"), request.limits)
    phash, mirrored = messages.hashes(said.get("hashes")) or (None, None)
    made = said.get("normalised")
    if made is None:
        return Inspected(header, phash, mirrored, None)
    data = bytes(child.shared(messages.length(made)))
    return Inspected(header, phash, mirrored, Normalised(data, messages.made_header(made, data, request.normalise)))


def _read(said: dict[str, Any], child: Child, request: Request) -> DecodedImage:
    header = messages.header(said.get("header"), request.limits)
    size = messages.size(said.get("size"), header)
    return DecodedImage(Image.frombytes("RGB", size, child.shared(size[0] * size[1] * len("RGB"))), header)


def prepare(count: int) -> None:
    """Have so many children there, at most those that are asked at once, before a file comes that waits for them.

    Raises DecoderUnavailable.
    """
    _pool.fill(count)


def prepare_to_inspect() -> None:
    """Have a child started that has loaded what hashes, while the caller does something else; `inspect` waits for it.

    Where it cannot be started, the first file says so.
    """
    _pool.start_ahead()


# --- Asking -----------------------------------------------------------------------------------------------------------


def _ask(
    file: BinaryIO, name: str | None, request: Request, read: Callable[[dict[str, Any], Child, Request], Answered]
) -> Answered:
    """``read`` what a child answers; of one that died, or was short of memory from files before, a fresh one's."""
    check_file(file, name, request.limits)
    with _pool.turns, handed_over(file) as descriptor:  # whoever waits for a turn holds no copy of its file
        try:
            return _once(request, descriptor, read, fresh=False)
        except (Died, Garbled) as error:
            logger.warning("a process that reads images died: %s", error)
        except ImageRefused as refusal:
            if refusal.code != _TOO_MUCH_MEMORY or refusal.limits:  # those it is told before it is read
                raise
        try:
            return _once(request, descriptor, read, fresh=True)
        except (Died, Garbled) as error:
            logger.error("a process that reads images died of the same file again: %s", error)
            raise ImageRefused(
                "decoder-died", "Reading the image broke off twice. Open it, save it anew and send that."
            ) from error


def _once(
    request: Request,
    descriptor: int,
    read: Callable[[dict[str, Any], Child, Request], Answered],
    *,
    fresh: bool,
) -> Answered:
    try:
        with _pool.child(fresh=fresh) as child:
            return read(messages.loads(child.ask(request.to_bytes(), descriptor)), child, request)
    except Late as error:
        words = f"Reading the image took longer than {SECONDS:g} seconds. Send a smaller one, or save it as a JPEG."
        raise ImageRefused("too-slow", words) from error


class _Pool:
    """Of one process. What a fork inherits of it is let go of."""

    def __init__(self) -> None:
        self._most = max(2, usable_cores())
        self.clear()

    def clear(self) -> None:
        """In a child of a fork: those that are here are our parent's, and a thread of its may have held the lock."""
        self._lock = threading.Lock()
        self._idle: list[Child] = []
        self._ahead: threading.Thread | None = None
        self.turns = threading.BoundedSemaphore(self._most)

    @contextmanager
    def child(self, *, fresh: bool) -> Iterator[Child]:
        """One that nobody else asks; ended unless it answered. Raises DecoderUnavailable."""
        child = (None if fresh else self._rested()) or Child()
        try:
            yield child
        except (ImageRefused, OSError) as error:
            self._put_back(child, answered=not isinstance(error, DecoderUnavailable))
            raise
        except BaseException:
            child.end()
            raise
        self._put_back(child, answered=True)

    def fill(self, count: int) -> None:
        for _ in range(min(count, self._most) - self._count_idle()):
            self._put_back(Child(), answered=True)

    def _count_idle(self) -> int:
        """How many wait for a file; those that have ended meanwhile take up no room any more."""
        with self._lock:
            ended = [each for each in self._idle if not each.is_alive]
            self._idle = [each for each in self._idle if each not in ended]
            count = len(self._idle)
        for each in ended:
            each.end()
        return count

    def start_ahead(self) -> None:
        if self._ahead is not None or self._count_idle():
            return
        self._ahead = threading.Thread(target=self._start_and_load, name="decoder-ahead", daemon=True)
        self._ahead.start()

    def _start_and_load(self) -> None:
        # Whatever it is: the first file says it, or this process is about to end and has ended all children.
        with suppress(Exception), handed_over(io.BytesIO(_DOT)) as file, self.child(fresh=True) as child:
            child.ask(Request(INSPECT, Limits()).to_bytes(), file)

    def _rested(self) -> Child | None:
        """One that nobody asks, and that has not ended meanwhile."""
        if (ahead := self._ahead) is not None:
            ahead.join()
            self._ahead = None
        while True:
            with self._lock:
                child = self._idle.pop() if self._idle else None
            if child is None or child.is_alive:
                return child
            child.end()

    def _put_back(self, child: Child, *, answered: bool) -> None:
        if answered:
            child.forget()
            with self._lock:
                if child.asked < _FILES_OF_A_CHILD and len(self._idle) < self._most:
                    self._idle.append(child)
                    return
        child.end()


_pool = _Pool()


def _after_fork() -> None:
    children.let_go_of_all()
    _pool.clear()


os.register_at_fork(after_in_child=_after_fork)
