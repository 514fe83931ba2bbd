"""What a server's answer means before its body is read."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from catalog.fetching.errors import FetchFailed, FetchRefused
from catalog.fetching.rules import Rules

_REDIRECTS = (301, 302, 303, 307, 308)
_TAKEN = (HTTPStatus.OK, HTTPStatus.NON_AUTHORITATIVE_INFORMATION)
_REFUSED = {
    401: ("access-denied", "it asks for a name and a password, which are not sent. Use an address open to everybody"),
    403: ("access-denied", "it does not give the file to visitors. Use an address open to everybody"),
    404: ("not-found", "there is no such file. Check the address"),
    410: ("not-found", "the file is gone. Use another address"),
    451: ("access-denied", "it may not give the file out. Use another address"),
}
_PASSING = (408, 425)  # it got the request too late or too early
_ANY_TYPE = ("", "application/octet-stream", "binary/octet-stream")  # the last: what S3 says of what it was not told
_ENCODINGS = ("", "identity", "gzip", "x-gzip", "deflate")
_PLAIN_TYPE = re.compile(r"[a-z0-9.+-]{1,40}/[a-z0-9.+-]{1,60}")


@dataclass(frozen=True, slots=True)
class Answer:
    """``headers`` by names in any case; ``length`` in bytes, as announced; ``chunks`` of the body, read when used."""

    status: int
    headers: Mapping[str, str]
    length: int | None
    chunks: Iterator[bytes]

    @property
    def location(self) -> str | None:
        """Where a redirect leads; None for what is no redirect."""
        location = self.headers.get("location") if self.status in _REDIRECTS else None
        return location and _as_utf8(location)

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


def check(answer: Answer, rules: Rules) -> None:
    """Raises FetchRefused, FetchFailed unless this is an image that may be read."""
    if answer.status not in _TAKEN:
        raise _of_status(answer, rules)
    kind = answer.content_type
    if not kind.startswith("image/") and kind not in _ANY_TYPE:
        shown = kind if _PLAIN_TYPE.fullmatch(kind) else "something else"
        raise FetchRefused(
            "wrong-type",
            f"The server says that this is {shown}, not an image. Use the address of the image file itself.",
        )
    if answer.headers.get("content-encoding", "").strip().lower() not in _ENCODINGS:
        raise FetchRefused(
            "encoding-not-supported",
            "The server sends the file in a compression that was not asked for. Use an address that gives it as it is.",
        )
    if answer.length is not None and answer.length > rules.bytes:
        raise too_many_bytes(rules)


def too_many_bytes(rules: Rules) -> FetchRefused:
    return FetchRefused(
        "too-many-bytes", f"The file has more than {rules.bytes:,} bytes, the most it may have. Use a smaller image."
    )


def retry_after(value: str | None, longest: float) -> float | None:
    """Seconds from a header Retry-After (seconds, or a date of HTTP), at most ``longest``; None where it says none."""
    text = (value or "").strip()
    if text.isascii() and text.isdecimal():
        return min(float(text), longest)
    try:
        seconds = parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None
    return min(max(math.ceil(seconds), 0.0), longest)


def _of_status(answer: Answer, rules: Rules) -> FetchRefused | FetchFailed:
    status = answer.status
    wait = retry_after(answer.headers.get("retry-after"), rules.longest_wait)
    if status == HTTPStatus.TOO_MANY_REQUESTS or (status == HTTPStatus.SERVICE_UNAVAILABLE and wait is not None):
        asked = "" if wait is None else f" for {wait:g} seconds"
        return FetchFailed(
            "slow-down", f"The server answers {status}: it asks to be left alone{asked}. Try later.", wait
        )
    if status >= 500 or status in _PASSING:
        return FetchFailed("server-error", f"The server answers {status}, an error of its own. Try again later.")
    if status in _REFUSED:
        code, said = _REFUSED[status]
        return FetchRefused(code, f"The server answers {status}: {said}.")
    if status >= 400:
        return FetchRefused(
            "request-refused", f"The server answers {status}: it refuses this request. Check the address."
        )
    return FetchRefused(
        "unexpected-status",
        f"The server answers {status} instead of the file. Use the address of the image file itself.",
    )


def _as_utf8(header: str) -> str:
    """Headers are read as Latin-1; an address that a server does not escape is mostly UTF-8."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header
