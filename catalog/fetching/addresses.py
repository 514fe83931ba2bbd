"""An address read once, in one way: what is judged here is what is asked for later.

Parsers differ over whatever is not plain (RFC 3986 against WHATWG's URL Standard), and an address that two of them read
differently passes one and leads the other elsewhere. So what is not plain is refused: userinfo, backslashes, control
characters, percent signs in a host, numbers as IP addresses other than four decimal ones.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import quote, unquote, urljoin

import idna

from catalog.fetching.errors import FetchRefused
from catalog.fetching.networks import IpAddress

PORTS = {"http": 80, "https": 443}
LONGEST = 2000  # characters; what a line of a job can hold

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_AFTER_SCHEME = re.compile(r"//([^/?#]*)([^#]*)(?:#.*)?", re.DOTALL)
_AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]{0,5}))?")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
_LONGEST_HOST = 249  # DNS takes 253; with a port it must fit where a line of a job keeps its host
_SAFE = "%/:?#[]@!$&'()*+,;=-._~"  # of RFC 3986, section 2: what has a meaning or needs no escape


@dataclass(frozen=True)
class Address:
    """``host``: a name in ASCII, lower case, or an IP address without brackets; ``target``: path and query, escaped."""

    scheme: str
    host: str
    port: int
    target: str

    @cached_property
    def ip(self) -> IpAddress | None:
        """The host where it is an IP address, else None."""
        return _ip(self.host)

    @property
    def authority(self) -> str:
        """As the header Host has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def file_name(self) -> str:
        """The last segment of the path, decoded: one line of text without controls, "" where there is none."""
        text = unquote(self.target.partition("?")[0], errors="replace")
        return "".join(char for char in re.split(r"[/\\]", text)[-1] if unicodedata.category(char)[0] != "C").strip()

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


def host_of(url: str) -> str:
    """``host:port`` in the one form, by which one server is known. Raises FetchRefused as `parse`."""
    address = parse(url)
    return f"{address.host}:{address.port}"


def parse(url: str) -> Address:
    """Raises FetchRefused: address-malformed, scheme-not-allowed, userinfo-in-address, ip-ambiguous."""
    url = url.strip(" \t\r\n")
    _check_characters(url)
    scheme, rest = _scheme(url)
    parts = _AFTER_SCHEME.fullmatch(rest)
    if not parts or not parts[1]:
        raise _malformed(f"It names no host: write {scheme}://host/path.")
    if "@" in parts[1]:
        raise FetchRefused(
            "userinfo-in-address",
            "The address has an @ before its host, for a name and a password, which are not sent. Leave them out.",
        )
    authority = _AUTHORITY.fullmatch(parts[1])
    if not authority:
        raise _malformed("Its host or port cannot be read: write host, or host:port with a number of at most 65535.")
    target = quote(parts[2], safe=_SAFE)
    return Address(
        scheme, read_host(authority[1]), _port(authority[2], scheme), target if target[:1] == "/" else f"/{target}"
    )


def follow(address: Address, location: str) -> Address:
    """Where the header Location of what ``address`` answers leads. Raises FetchRefused as `parse`, redirect-to-http."""
    location = location.strip(" \t").replace(" ", "%20")  # servers that forget to escape are common
    _check_characters(location)
    try:
        url = urljoin(str(address), location)
    except ValueError as error:
        raise _malformed("It cannot be read.") from error
    target = parse(url)
    if address.scheme == "https" and target.scheme == "http":
        raise FetchRefused(
            "redirect-to-http",
            "The address leads from https to http, where anybody on the way could change the image. Use one that stays "
            "with https.",
        )
    return target


def read_host(text: str) -> str:
    """The one form of a host: an IP address (``[…]`` around IPv6), or a name as DNS has it. Raises FetchRefused."""
    if text.startswith("["):
        return _ipv6(text[1:-1])
    name = (text if text.isascii() else _to_ascii(text)).lower().removesuffix(".")
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):  # as the URL Standard tells a number from a name
        return _ipv4(name)
    if len(name) > _LONGEST_HOST or not all(map(_LABEL.fullmatch, labels)):
        raise _malformed("Its host is no name that DNS knows: write it as a browser shows it.")
    return name


def _check_characters(url: str) -> None:
    if not url:
        raise _malformed("It is empty.")
    if len(url) > LONGEST:
        raise _malformed(f"It has more than {LONGEST:,} characters: use a shorter one.")
    if "\\" in url:
        raise _malformed("It has a backslash: write / or %5C.")
    if any(char <= " " or unicodedata.category(char) in ("Cc", "Cs") for char in url):
        raise _malformed("It has a space or a control character in it: write one address a line, and %20 for a space.")


def _scheme(url: str) -> tuple[str, str]:
    match = _SCHEME.match(url)
    if not match:
        raise _malformed("It must begin with http:// or https://.")
    scheme = match[1].lower()
    if scheme not in PORTS:
        raise FetchRefused(
            "scheme-not-allowed", "Only http and https are fetched: use an address that begins with https://."
        )
    return scheme, url[match.end() :]


def _port(text: str | None, scheme: str) -> int:
    port = int(text) if text else PORTS[scheme]
    if not 0 < port <= 65_535:
        raise _malformed("Its port is none: write a number from 1 to 65535, or leave it out.")
    return port


def _to_ascii(name: str) -> str:
    """Raises FetchRefused. As browsers do it: mapped first (UTS 46), so that ⑩ is 10 before anybody judges it."""
    try:
        return idna.encode(name, uts46=True).decode()
    except (idna.IDNAError, UnicodeError):
        pass
    try:  # IDNA wants a name; of ① and other digits only the mapping is meant
        return idna.uts46_remap(name).encode("ascii").decode()
    except (idna.IDNAError, UnicodeError) as error:
        raise _malformed("Its host is no name that DNS knows: write it as a browser shows it.") from error


def _ipv4(text: str) -> str:
    try:
        return str(IPv4Address(text))
    except ValueError as error:
        raise FetchRefused(
            "ip-ambiguous",
            "The host is a number that programs read differently (octal, hexadecimal, shortened). Write its name, or "
            "four decimal numbers without leading zeros, as 192.0.2.7.",
        ) from error


def _ipv6(text: str) -> str:
    try:
        ip = IPv6Address(text)
    except ValueError as error:
        raise _malformed("What is in brackets is no IPv6 address.") from error
    if ip.scope_id:
        raise _malformed("It names a network interface of this machine (%): leave that out.")
    return str(ip)


def _ip(host: str) -> IpAddress | None:
    if ":" in host:
        return IPv6Address(host)
    return IPv4Address(host) if _NUMBER.fullmatch(host.rpartition(".")[2]) else None


def _malformed(said: str) -> FetchRefused:
    return FetchRefused("address-malformed", f"This is no address that can be fetched. {said}")
