"""Bringing published weights to this machine: downloaded, or taken from a file at hand.

Either way they are put beside their place, compared with the pinned and the recorded sha256, checked to be what they
should be, and only then renamed. What was there before stays until that moment.
"""

from __future__ import annotations

import hashlib
import http.client
import importlib
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.message import Message
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from catalog.vision.errors import VisionError
from catalog.vision.networks import locked, write_aside
from catalog.vision.published import Published, Record, pin
from catalog.vision.readers.errors import UnreadableWeights

Progress = Callable[[int, int | None], None]  # bytes that are here, and of how many; None: the server does not say

_CHUNK = 1 << 16


class NotFetched(VisionError):
    """The weights were not brought here. Nothing that was there before has changed."""

    code = "weights-not-fetched"


@dataclass(frozen=True, slots=True)
class Limits:
    """When a download is given up. One that breaks off is tried again after ``pause`` seconds, doubled each time."""

    size: int = 1 << 30  # bytes; the largest published file, with its classifier, has 0.6e9
    silence: float = 30.0  # seconds without a byte
    duration: float = 2 * 3600.0  # seconds in all
    attempts: int = 5
    pause: float = 1.0


@dataclass(frozen=True, slots=True)
class Fetched:
    """``first``: nothing was recorded before. ``downloaded``: False where the whole file was here already."""

    record: Record
    first: bool
    downloaded: bool


def fetch(
    item: Published,
    models_dir: Path,
    *,
    url: str = "",
    sha256: str = "",
    again: bool = False,
    progress: Progress = lambda here, total: None,
    limits: Limits | None = None,
) -> Fetched:
    """Download ``item``, unless its file is here and whole (``again``: even then).

    1. lock the file, so that of two processes one downloads and the other finds it
    2. download beside it, going on where an earlier attempt ended, if the server still has the same file
    3. compare with ``sha256`` and with what the first fetch recorded; check that it is these weights; rename; record

    ``url`` in place of the published address may be http, and lead to http; an https address must lead to https.
    Raises NotFetched saying what to do.
    """
    with _writing(item, models_dir):
        expected = _Expected(item, models_dir, sha256)
        if not again and expected.record and _sha256(item.path(models_dir)) == expected.record.sha256:
            return Fetched(expected.record, first=False, downloaded=False)
        download = _Download(item, url, _beside(item, models_dir, "part"), limits or Limits(), progress)
        download.run()
        return _accept(expected, download.part, download.url)


def take(item: Published, models_dir: Path, path: Path, *, sha256: str = "", limits: Limits | None = None) -> Fetched:
    """Take ``item`` from a file at hand, which stays where it is. Checks and raises as `fetch` does."""
    try:
        size = path.stat().st_size
        if size > (limits or Limits()).size:
            raise NotFetched(f"{path} has {size:,} bytes, which is more than any file of {item.name}.")
        data = path.read_bytes()
    except OSError as error:
        raise NotFetched(f"{path} cannot be read ({error.strerror}).") from error
    with _writing(item, models_dir):
        copy = _beside(item, models_dir, "taken")
        expected = _Expected(item, models_dir, sha256)
        try:
            copy.write_bytes(data)
            return _accept(expected, copy, f"a file at hand, {path.name}")
        finally:
            copy.unlink(missing_ok=True)


# --- Whether it is the right one --------------------------------------------------------------------------------------


class _Expected:
    """The sha256 that the bytes must have: the pinned one and the recorded one, where there are any."""

    def __init__(self, item: Published, models_dir: Path, pinned: str) -> None:
        self.item, self.models_dir = item, models_dir
        try:
            self.pinned = pin(pinned) if pinned else ""
        except ValueError as error:
            raise NotFetched(f"{error}.") from error
        self.record = self._recorded()
        if self.pinned and self.record and self.record.sha256 != self.pinned:
            raise NotFetched(
                f"The weights {item.name} were fetched with the sha256 {self.record.sha256}, and {self.pinned} is "
                f"pinned. {self._to_take_others()}"
            )

    def _recorded(self) -> Record | None:
        path = self.item.record_path(self.models_dir)
        try:
            return self.item.record(self.models_dir)
        except ValueError as error:
            raise NotFetched(
                f"The record {path} is damaged. Put it back from a backup, or remove it to fetch the weights as if for "
                "the first time."
            ) from error
        except OSError as error:
            raise NotFetched(f"The record {path} cannot be read ({error.strerror}): give this user access.") from error

    def problem(self, found: str) -> str | None:
        """A sentence where ``found`` (sha256) is another than expected, else None."""
        if self.pinned and found != self.pinned:
            return f"They have the sha256 {found}, not {self.pinned}, which is pinned."
        if self.record and found != self.record.sha256:
            return f"They have the sha256 {found}, not {self.record.sha256} as at the first fetch."
        return None

    def _to_take_others(self) -> str:
        return (
            f"If others are wanted, remove {self.item.record_path(self.models_dir)} and fetch again; they make another "
            "embedding model."
        )

    def refuse(self, said: str) -> NotFetched:
        stays = "What is here stays. " if self.item.path(self.models_dir).exists() else ""
        others = self._to_take_others() if self.record and not self.pinned else ""
        return NotFetched(f"The weights {self.item.name} were refused. {said} {stays}{others}".strip())


def _accept(expected: _Expected, new: Path, origin: str) -> Fetched:
    """Make ``new`` the file, or remove it. The file is renamed before its record is written: of one that was never
    recorded nobody says which bytes it should have, so it is fetched again."""
    item, models_dir = expected.item, expected.models_dir
    found = _sha256(new)
    problem = expected.problem(found) or _not_these_weights(item, new)
    if problem:
        new.unlink()
        raise expected.refuse(problem)
    record = expected.record or Record(
        name=item.name,
        file=item.file,
        sha256=found,
        size=new.stat().st_size,
        origin=origin,
        licence=item.licence,
        fetched_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    with new.open("rb") as file:
        os.fsync(file.fileno())
    new.replace(item.path(models_dir))
    write_aside(item.record_path(models_dir), (json.dumps(asdict(record), indent=2) + "\n").encode())
    return Fetched(record, first=expected.record is None, downloaded=True)


def _not_these_weights(item: Published, path: Path) -> str | None:
    module, _, name = item.check.rpartition(".")
    try:
        getattr(importlib.import_module(module), name)(path.read_bytes())
    except UnreadableWeights as error:
        return f"{error}."
    return None


def _sha256(path: Path) -> str:
    """Hexadecimal; "" where there is no file."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


# --- Files ------------------------------------------------------------------------------------------------------------


def _beside(item: Published, models_dir: Path, ending: str) -> Path:
    return item.path(models_dir).with_name(f".{item.file}.{ending}")


@contextmanager
def _writing(item: Published, models_dir: Path) -> Iterator[None]:
    """The folder exists and the file is ours; what the system refuses becomes a sentence."""
    lock = _beside(item, models_dir, "lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        with locked(lock):
            yield
    except OSError as error:
        raise NotFetched(
            f"{lock.parent} cannot be written ({error.strerror}): make room, or give this user access to {lock.parent}."
        ) from error


# --- Downloading ------------------------------------------------------------------------------------------------------


class _BrokenOff(Exception):
    """Worth another attempt."""


class _Download:
    """One file into ``part``, in several attempts, each of which goes on where the one before ended."""

    def __init__(self, item: Published, url: str, part: Path, limits: Limits, progress: Progress) -> None:
        self.url = url or item.url
        self.part = part
        self._note = part.with_name(f"{part.name}.json")
        self._name = item.name
        self._limits = limits
        self._progress = progress
        self._schemes = ("https", "http") if url and urlsplit(url).scheme != "https" else ("https",)
        self._opener = _opener(self._check_address)
        self._deadline = time.monotonic() + limits.duration

    def run(self) -> None:
        """Raises NotFetched; OSError where ``part`` cannot be written."""
        self._check_address(self.url)
        for attempt in range(self._limits.attempts):
            if attempt:
                time.sleep(self._limits.pause * 2 ** (attempt - 1))
            try:
                self._attempt()
            except _BrokenOff as error:
                said = str(error)
            else:
                self._note.unlink(missing_ok=True)
                return
        raise NotFetched(
            f"The download of {self._name} from {self.url} broke off {self._limits.attempts} times ({said}). The same "
            "command goes on where it ended."
        )

    def _check_address(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in self._schemes or not parts.hostname:
            wanted = " or ".join(f"{scheme}://" for scheme in self._schemes)
            raise NotFetched(f"{url} is not fetched: the address, and every one it leads to, must begin with {wanted}.")

    def _attempt(self) -> None:
        here = self._here()
        response = self._open(here)
        if response is None:
            return
        with response:
            start, total = self._place(response, here)
            if total is not None and total > self._limits.size:
                raise self._too_large()
            if start == 0:
                self._note_down(response.headers)
            with self.part.open("r+b" if start else "wb") as file:
                if start:
                    file.truncate(start)
                    file.seek(start)
                self._copy(response, file, start, total)

    def _here(self) -> int:
        """How many bytes of the same file are here. Without a mark nobody knows whether it is the same."""
        return self.part.stat().st_size if self._mark() and self.part.is_file() else 0

    def _mark(self) -> str:
        try:
            note = json.loads(self._note.read_bytes())
            return str(note["mark"]) if note["url"] == self.url else ""
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return ""

    def _note_down(self, headers: Message) -> None:
        self._note.write_text(json.dumps({"url": self.url, "mark": _mark_in(headers)}))

    def _open(self, here: int) -> http.client.HTTPResponse | None:
        """The answer; None where all of the file is here already."""
        request = urllib.request.Request(self.url, headers={"User-Agent": "visearch"})  # noqa: S310 - address is checked
        if here:
            request.add_header("Range", f"bytes={here}-")
            request.add_header("If-Range", self._mark())
        try:
            response: http.client.HTTPResponse = self._opener.open(request, timeout=self._limits.silence)
        except urllib.error.HTTPError as error:
            if here and error.headers.get("Content-Range") == f"bytes */{here}":
                return None
            raise self._refused(error) from error
        except (OSError, http.client.HTTPException) as error:
            if here:
                raise _BrokenOff(_words(error)) from error
            raise NotFetched(
                f"{self.url} cannot be reached ({_words(error)}). On a machine without a network, bring the file and "
                f"run `manage.py models fetch {self._name} --from PATH`."
            ) from error
        return response

    def _refused(self, error: urllib.error.HTTPError) -> Exception:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            self.part.unlink(missing_ok=True)
            return _BrokenOff("what is here is longer than the file")
        said = f"{self.url} answers {error.code} {error.reason}"
        if error.code >= http.HTTPStatus.INTERNAL_SERVER_ERROR or error.code == http.HTTPStatus.TOO_MANY_REQUESTS:
            return _BrokenOff(said)
        return NotFetched(
            f"{said}. Name where the file is now (`--url`), or take one at hand (`--from`), for {self._name}."
        )

    def _place(self, response: http.client.HTTPResponse, here: int) -> tuple[int, int | None]:
        """Where the answer's first byte belongs, and how many there are in all."""
        length = response.headers.get("Content-Length", "")
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            return 0, int(length) if length.isdecimal() else None
        span, _, total = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        mark = _mark_in(response.headers)
        if not span.startswith(f"{here}-") or (mark and mark != self._mark()):
            self.part.unlink(missing_ok=True)
            raise _BrokenOff("the server gave another part than the one asked for")
        return here, int(total) if total.isdecimal() else None

    def _copy(self, response: http.client.HTTPResponse, file: IO[bytes], here: int, total: int | None) -> None:
        while chunk := self._chunk(response):
            file.write(chunk)
            here += len(chunk)
            self._progress(here, total)
            if here > self._limits.size:
                raise self._too_large()
            if time.monotonic() > self._deadline:
                raise NotFetched(
                    f"The download of {self._name} took more than {self._limits.duration:g} seconds. The same command "
                    "goes on where it ended."
                )
        if total is not None and here < total:
            raise _BrokenOff(f"{here:,} of {total:,} bytes came")

    def _too_large(self) -> NotFetched:
        for leftover in (self.part, self._note):
            leftover.unlink(missing_ok=True)
        return NotFetched(f"{self.url} gives more bytes than any file of {self._name} has.")

    def _chunk(self, response: http.client.HTTPResponse) -> bytes:
        """Some bytes; none at the end, or where the connection ended before it."""
        try:
            return response.read1(_CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise _BrokenOff(_words(error)) from error


def _mark_in(headers: Message) -> str:
    """What If-Range takes to name one content (RFC 9110, 13.1.5): a strong ETag, else the date; "" without either."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")


def _words(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
    return str(reason) or type(error).__name__


def _opener(check_address: Callable[[str], None]) -> urllib.request.OpenerDirector:
    """Opens http and https and nothing else, through the proxies that the environment names; checks where it is led."""

    class Redirects(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *given: Any) -> urllib.request.Request | None:
            """As there: request, file, code, reason, headers, new address."""
            check_address(given[-1])
            return super().redirect_request(*given)

    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        Redirects(),
    ):
        opener.add_handler(handler)
    return opener
