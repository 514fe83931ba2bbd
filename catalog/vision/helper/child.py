"""The process that decodes: `python -m catalog.vision.helper.child SOCKET SHARED LIFELINE`, all numbers of open files.

1. Take on the limits, and end when the parent does.
2. Say that it is ready, then answer one message after the other until the socket is closed. Each comes with a file,
   but for the word that an answer was taken.

It knows no settings and no Django, writes no files and starts nothing.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image
from PIL.Image import Image as PILImage

from catalog.vision import normalising, preprocess
from catalog.vision.decode import MOST_MEMORY, decode, decode_grey, read_header, read_image, too_much_memory
from catalog.vision.errors import ImageRefused
from catalog.vision.helper import messages
from catalog.vision.helper.messages import INSPECT, MOST_BYTES, SHARED_BYTES, Request

Hashes = Callable[[PILImage], tuple[int, int] | None]

_ROOM = 24 << 20  # of MOST_MEMORY, for pages of libraries that nobody needed yet
_LITTLE = 4 << 20  # bytes that may stay mapped with the last file: to map them again takes longer than to copy them
_MOST_FILES = 64  # of which scipy is read through some
_REST = 1  # seconds without anybody who asks
_SECONDS = 10  # of the processor for a file: a second line, should nobody be there to kill it


def main(sock: socket.socket, shared: mmap.mmap) -> None:
    sock.send(messages.READY)
    while True:
        message, files, _, _ = socket.recv_fds(sock, MOST_BYTES, 1)
        if not message:
            return
        if message == messages.TAKEN:
            _forget_at_rest(sock, shared)
            continue
        request = Request.from_bytes(message)
        hashes = _hashes(sock) if request.task == INSPECT else None
        _allow(_SECONDS)
        if shared.tell() > _LITTLE:  # what of the last file lies in it is no part of this one's memory
            shared.madvise(mmap.MADV_DONTNEED)
        with os.fdopen(files[0], "rb") as file:
            answer = _answer(file, request, shared, hashes)
        sock.send(messages.dumps(answer))


def _forget_at_rest(sock: socket.socket, shared: mmap.mmap) -> None:
    """Nobody's last image is kept until the next one comes; one that comes at once finds the memory in place."""
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    if not poller.poll(1000 * _REST):
        _give_back(shared)


def _give_back(shared: mmap.mmap) -> None:
    with suppress(OSError):  # a system that cannot do that: the next image is written over it
        shared.madvise(mmap.MADV_REMOVE)


@cache
def _hashes(sock: socket.socket) -> Hashes:
    """Loaded by whoever needs it, with a word that the file's time begins now."""
    from catalog.vision.likeness import hashes  # noqa: PLC0415 - a child that is only asked for pixels needs none

    hashes(Image.linear_gradient("L"))  # loads scipy
    allow_memory()
    sock.send(messages.READY)
    return hashes


def _answer(file: BinaryIO, request: Request, shared: mmap.mmap, hashes: Hashes | None) -> dict[str, Any]:
    try:
        return _inspect(file, request, shared, hashes) if hashes else _read(file, request, shared)
    except ImageRefused as refusal:
        return messages.refusal(refusal)
    except MemoryError:
        _give_back(shared)  # nobody will say that it was read
        return messages.refusal(too_much_memory())
    except OSError as error:
        if error.errno is None:  # not of the system: Pillow's, of what it should not say here
            raise
        return messages.trouble(error)


def _read(file: BinaryIO, request: Request, shared: mmap.mmap) -> dict[str, Any]:
    image = read_image(file, None, request.limits)
    # Strip by strip: all of them at once would be as much memory again, had anew from the system for each image.
    _share((strip.tobytes() for _, strip in preprocess.strips(image.pixels)), shared)
    width, height = image.pixels.size
    return {"header": asdict(image.header), "size": {"width": width, "height": height}}


def _inspect(file: BinaryIO, request: Request, shared: mmap.mmap, hashes: Hashes) -> dict[str, Any]:
    header = read_header(file, None, request.limits)
    answer: dict[str, Any] = {"header": asdict(header), "normalised": None}
    if not request.normalise:
        return answer | {"hashes": hashes(decode_grey(file, header))}
    image = decode(file, header, normalising.least_side(request.normalise))
    made = normalising.normalised(image, request.normalise)
    if made is not None:
        data, kept = made
        _share([data], shared)
        answer["normalised"] = {"bytes": len(data), "header": asdict(kept)}
    return answer | {"hashes": hashes(image.pixels)}


def _share(parts: Iterable[bytes], shared: mmap.mmap) -> None:
    shared.seek(0)
    for part in parts:
        shared.write(part)


# --- Limits -----------------------------------------------------------------------------------------------------------


def take_on_limits(lifeline: int) -> None:
    for what, most in (
        (resource.RLIMIT_DATA, 2 * MOST_MEMORY),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _MOST_FILES),
    ):
        hard = _allowed(what, most)
        resource.setrlimit(what, (hard, hard))
    allow_memory()
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # as it was where the parent started this
    _end_with_parent(lifeline)


def allow_memory() -> None:
    """As much more private memory as there is between what is resident now and MOST_MEMORY.

    Libraries have set aside what they never touch, so the limit, which counts that, is above what will be resident.
    What is shared is written when an image is small already.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    now = {name: int(line.split()[1]) << 10 for line in lines for name in ("VmData", "VmRSS") if line.startswith(name)}
    most = now["VmData"] + MOST_MEMORY - now["VmRSS"] - _ROOM
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (_allowed(resource.RLIMIT_DATA, most), hard))


def _allowed(what: int, most: int) -> int:
    """``most``, or the operator's own limit where that is less."""
    _, hard = resource.getrlimit(what)
    return most if hard == resource.RLIM_INFINITY else min(most, hard)


def _end_with_parent(lifeline: int) -> None:
    """The system ends this process, whatever it is at, when the pipe's other end is closed: nothing is ever sent.

    Not by prctl: that signal comes when the *thread* that started this process ends.
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    poller = select.poll()
    poller.register(lifeline, 0)
    if poller.poll(0):  # it was closed before
        sys.exit(0)


def _allow(seconds: int) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + seconds, hard))


if __name__ == "__main__":
    _socket, _shared, _lifeline = (int(number) for number in sys.argv[1:4])
    take_on_limits(_lifeline)
    main(socket.socket(fileno=_socket), mmap.mmap(_shared, SHARED_BYTES))
