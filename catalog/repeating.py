"""Something small that is done again and again, beside what takes long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread


@contextmanager
def repeating(action: Callable[[], object], seconds: float, name: str) -> Iterator[None]:
    """Calls ``action`` in a thread of this name whenever so many seconds are over, until the block has ended."""
    over = Event()

    def repeat() -> None:
        while not over.wait(seconds):
            action()

    thread = Thread(target=repeat, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
