"""How many images the API decodes at once: one of 64 megapixels is 192 MB as RGB, and a server has many threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore

from rest_framework.exceptions import APIException

AT_ONCE = 2  # in one process
PATIENCE = 10.0  # seconds that a request waits for its turn
_slots = BoundedSemaphore(AT_ONCE)
_extra = BoundedSemaphore(AT_ONCE - 1)


class Busy(APIException):
    """No turn came within PATIENCE."""

    status_code = 503
    default_code = "busy"
    default_detail = "Too many images are being read at this moment. Nothing of yours was kept; send it again."


@contextmanager
def decoding_slot() -> Iterator[None]:
    """One of AT_ONCE turns, shared by uploads and searches. Raises Busy."""
    if not _slots.acquire(timeout=PATIENCE):
        raise Busy
    try:
        yield
    finally:
        _slots.release()


@contextmanager
def spare_slot() -> Iterator[None]:
    """A turn for what nobody's work waits for: a page full of such never has all of AT_ONCE. Raises Busy."""
    if not _extra.acquire(timeout=PATIENCE):
        raise Busy
    try:
        with decoding_slot():
            yield
    finally:
        _extra.release()
