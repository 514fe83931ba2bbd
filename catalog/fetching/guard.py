"""The guarded fetch of one address that somebody else wrote down.

1. read the address, in one way (addresses.py)
2. its port is one that is fetched from, or listed with this host (rules.py)
3. ask DNS once; every IP address that it answers must be everybody's, or in the network listed with this host and port
4. connect to one of just these, TLS with the name; no proxy of the environment is used (connecting.py)
5. a redirect goes through all of this again, three times at most
6. what is no image, or is announced as too large, is not read (answers.py); the rest streams into a temporary file,
   under one budget of bytes and one of seconds for all of it (watching.py)
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from types import TracebackType
from typing import BinaryIO, Self, cast

from catalog.fetching import registry
from catalog.fetching.addresses import Address, follow, parse
from catalog.fetching.answers import Answer, check, too_many_bytes
from catalog.fetching.connecting import ask
from catalog.fetching.errors import FetchFailed, FetchRefused
from catalog.fetching.networks import IpAddress
from catalog.fetching.resolving import within
from catalog.fetching.rules import Rules
from catalog.fetching.watching import Watch

logger = logging.getLogger(__name__)

_OVERHEAD = 1 << 16  # bytes: with an eighth of the limit, what sending a body in chunks may add to it


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that has no name on any disk: it is gone when it is closed. Its position is 0.

    ``name``: last segment of the final address, "" if it has none; ``url``: the final address; ``content_type``: as the
    server says, "" if it says nothing. All three are others' words.
    """

    file: BinaryIO
    name: str
    url: str
    content_type: str
    byte_size: int

    def close(self) -> None:
        self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def fetch(url: str, rules: Rules | None = None) -> Fetched:
    """The file at ``url``; ``rules`` are those of the settings unless others are given.

    Raises FetchRefused, FetchFailed. Whether it is an image that can be decoded, whoever decodes it finds out.
    """
    return Attempt(rules or registry.rules()).fetch(url)


class Attempt:
    """One fetch, of which can be asked afterwards what it cost."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._watch = Watch(rules.seconds, rules.silence)

    @property
    def bytes_read(self) -> int:
        return self._watch.bytes_read

    def fetch(self, url: str) -> Fetched:
        address = parse(url)
        ips = self._judged(address)
        for left in reversed(range(self._rules.redirects + 1)):
            with ask(address, ips, self._rules, self._watch) as answer:
                if answer.location is None:
                    return self._take(address, answer)
            if left:
                with _elsewhere():
                    address = follow(address, answer.location)
                    ips = self._judged(address)
        raise FetchRefused(
            "too-many-redirects",
            f"The address redirects more than {self._rules.redirects} times. Use the one that it ends at in a browser.",
        )

    def _judged(self, address: Address) -> list[IpAddress]:
        """The IP addresses of the host, all of which may be connected to."""
        self._rules.check_port(address.host, address.port)
        ips = [address.ip] if address.ip else self._resolved(address)
        for ip in ips:
            what = self._rules.refusal(address.host, address.port, ip)
            if what:
                logger.info("%s:%d is at %s (%s): not fetched", address.host, address.port, ip, what)
                raise FetchRefused(
                    "address-not-public",
                    "The host is not on the public internet. Use an address that everybody can reach, or ask whoever "
                    "runs this site to allow host, port and network.",
                )
        return ips

    def _resolved(self, address: Address) -> list[IpAddress]:
        try:
            found: Sequence[str] = within(self._watch.remaining(), self._rules.resolve, address.host, address.port)
            ips = [ip_address(text.partition("%")[0]) for text in found]
        except TimeoutError as error:
            raise self._watch.too_slow() from error
        except (OSError, ValueError) as error:
            raise _unknown() from error
        if not ips:
            raise _unknown()
        return ips

    def _take(self, address: Address, answer: Answer) -> Fetched:
        check(answer, self._rules)
        self._watch.allow(self._rules.bytes + self._rules.bytes // 8 + _OVERHEAD, too_many_bytes(self._rules))
        with ExitStack() as undo:
            with _room():
                file = undo.enter_context(cast(BinaryIO, tempfile.TemporaryFile()))  # noqa: SIM115 - it outlives this
            byte_size = self._copy(answer, file)
            undo.pop_all()  # it is the caller's now
        return Fetched(file, address.file_name, str(address), answer.content_type, byte_size)

    def _copy(self, answer: Answer, file: BinaryIO) -> int:
        """Bytes that were written. What is decoded counts as it comes out, in steps of `Answer.chunks`."""
        byte_size = 0
        for chunk in answer.chunks:
            byte_size += len(chunk)
            if byte_size > self._rules.bytes:
                raise too_many_bytes(self._rules)
            with _room():
                file.write(chunk)
        if not byte_size:
            raise FetchRefused("empty-file", "The server sends an empty file. Use the address of an image.")
        with _room():
            file.seek(0)  # writes what is still in memory, too
        return byte_size


@contextmanager
def _elsewhere() -> Iterator[None]:
    """A refusal inside says that it is about an address which the given one leads to."""
    try:
        yield
    except FetchRefused as refusal:
        said = f"The address leads to another one, which is not fetched. {refusal}"
        raise FetchRefused(refusal.code, said) from refusal


def _unknown() -> FetchFailed:
    return FetchFailed(
        "name-not-resolved", "The host's name is not known, or DNS cannot be asked now. Check it, or try again later."
    )


@contextmanager
def _room() -> Iterator[None]:
    """Raises FetchFailed (no-room) where the temporary file cannot be written."""
    try:
        yield
    except OSError as error:
        logger.exception("A temporary file cannot be written")
        raise FetchFailed("no-room", "This site has no room for the file now. Try again later.") from error
