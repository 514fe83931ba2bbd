"""The budgets of one fetch, kept at the only place that nothing gets around: where bytes come out of the socket.

A timeout of a socket ends silence, not a server that sends a byte now and then; a length that is announced ends nothing
that is not announced.
"""

from __future__ import annotations

import io
import socket
import time
from typing import Any

from catalog.fetching.errors import FetchFailed, FetchRefused


class Watch:
    """Time and bytes of one fetch. ``bytes_read``: off the wire, of all answers, headers included."""

    def __init__(self, seconds: float, silence: float) -> None:
        self._seconds, self._silence = seconds, silence
        self._deadline = time.monotonic() + seconds
        self._budget = 0
        self._refusal = FetchRefused("", "")
        self.bytes_read = 0

    def remaining(self, at_most: float | None = None) -> float:
        """Seconds, more than 0. Raises FetchFailed (timed-out) where there are none."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise self.too_slow()
        return left if at_most is None else min(left, at_most)

    def silence(self) -> float:
        """Seconds that may pass until the next byte. Raises FetchFailed (timed-out)."""
        return self.remaining(self._silence)

    def allow(self, n_bytes: int, refusal: FetchRefused) -> None:
        """From now on ``n_bytes`` may come; the next one is answered with ``refusal``."""
        self._budget, self._refusal = self.bytes_read + n_bytes, refusal

    def count(self, n_bytes: int) -> None:
        """Raises the refusal of `allow`."""
        self.bytes_read += n_bytes
        if self.bytes_read > self._budget:
            raise self._refusal

    def too_slow(self) -> FetchFailed:
        return FetchFailed(
            "timed-out",
            f"The server took too long: {self._seconds:g} seconds are the most for one image, {self._silence:g} the "
            "most without a byte. Try again later.",
        )


class WatchedSocket:
    """A connected socket of which everything is read under a watch. What it does not name goes to the socket."""

    def __init__(self, plain: socket.socket, watch: Watch) -> None:
        self._plain, self._watch = plain, watch

    def makefile(self, mode: str = "rb", buffering: int | None = None) -> io.BufferedReader:
        """To be read, in bytes: what http.client asks for."""
        return io.BufferedReader(_WatchedReader(self._plain, self._watch))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plain, name)


class _WatchedReader(io.RawIOBase):
    def __init__(self, plain: socket.socket, watch: Watch) -> None:
        self._plain, self._watch = plain, watch
        self._raw = plain.makefile("rb", buffering=0)  # keeps the socket open until this is closed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._plain.settimeout(self._watch.silence())
        n_bytes = self._raw.readinto(buffer)
        self._watch.count(n_bytes or 0)
        return n_bytes

    def close(self) -> None:
        self._raw.close()
        super().close()
