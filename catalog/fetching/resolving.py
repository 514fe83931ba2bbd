"""Asking DNS, within a time: the system's resolver knows none."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable, Sequence


def system_resolver(host: str, port: int) -> list[str]:
    """IP addresses of ``host`` in the order in which the system would try them. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def within(seconds: float, resolve: Callable[[str, int], Sequence[str]], host: str, port: int) -> Sequence[str]:
    """What ``resolve`` answers. Raises what it raises, TimeoutError after ``seconds``.

    It runs in a thread of its own, which ends when the resolver gives up, and is waited for no longer than that.
    """
    answers: queue.SimpleQueue[Sequence[str] | BaseException] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(resolve(host, port))
        except BaseException as error:  # noqa: BLE001 - raised again where somebody waits for it
            answers.put(error)

    threading.Thread(target=ask, name=f"resolve {host}", daemon=True).start()
    try:
        answer = answers.get(timeout=max(seconds, 0.001))
    except queue.Empty as error:
        raise TimeoutError from error
    if isinstance(answer, BaseException):
        raise answer
    return answer
