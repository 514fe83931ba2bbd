"""One request to the very IP address that was judged. The only module that imports urllib3.

TLS asks for the name and verifies the certificate against it, though the connection is made by number, so that no
second look at DNS can lead elsewhere (urllib3, "Custom SNI hostname"). urllib3 reads no proxy, no .netrc and no cookie
by itself, follows nothing, and decodes compressed bodies in steps that are bounded (since 2.6).
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path

import certifi
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    DecodeError,
    HTTPError,
    InvalidHeader,
    NewConnectionError,
    ReadTimeoutError,
)

from catalog.fetching.addresses import Address
from catalog.fetching.answers import Answer
from catalog.fetching.errors import FetchFailed, FetchRefused
from catalog.fetching.networks import IpAddress
from catalog.fetching.rules import Rules
from catalog.fetching.watching import Watch, WatchedSocket

Connection = HTTPConnection | HTTPSConnection

_CHUNK = 1 << 16


@contextmanager
def ask(address: Address, ips: Sequence[IpAddress], rules: Rules, watch: Watch) -> Iterator[Answer]:
    """The answer to GET ``address`` from the first of ``ips`` that can be reached; its body is still to be read.

    Raises FetchFailed, FetchRefused, also for what goes wrong inside the ``with``.
    """
    with _in_words(watch), closing(_connect(address, ips, rules, watch)) as connection:
        watch.allow(
            rules.header_bytes,
            FetchRefused(
                "headers-too-large",
                f"The server sends more than {rules.header_bytes:,} bytes of headers before the file. Use another one.",
            ),
        )
        connection.timeout = watch.silence()
        connection.request("GET", address.target, headers=_headers(address, rules), preload_content=False)
        with closing(connection.getresponse()) as response:
            yield Answer(response.status, response.headers, response.length_remaining, response.stream(_CHUNK, True))


def _headers(address: Address, rules: Rules) -> dict[str, str]:
    return {
        "Host": address.authority,
        "User-Agent": rules.user_agent,
        "Accept": "image/*",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }


def _connect(address: Address, ips: Sequence[IpAddress], rules: Rules, watch: Watch) -> Connection:
    *others, last = ips
    for ip in others:
        with suppress(NewConnectionError, ConnectTimeoutError):
            return _connected(_connection(address, ip, rules, watch), watch)
    return _connected(_connection(address, last, rules, watch), watch)


def _connected(connection: Connection, watch: Watch) -> Connection:
    """It will not connect again by itself, and all that is read from it is watched."""
    try:
        connection.connect()
    except BaseException:
        connection.close()
        raise
    connection.auto_open = 0
    connection.sock = WatchedSocket(connection.sock, watch)
    return connection


def _connection(address: Address, ip: IpAddress, rules: Rules, watch: Watch) -> Connection:
    host, port, seconds = str(ip), address.port, watch.remaining(rules.connect_seconds)
    if address.scheme == "http":
        return HTTPConnection(host, port, timeout=seconds)
    trusted = _trusted(rules.ca_file)
    return HTTPSConnection(host, port, timeout=seconds, server_hostname=address.host, ssl_context=trusted)


@cache
def _trusted(ca_file: str | None) -> ssl.SSLContext:
    """The certificates of ``ca_file``, else of the system (SSL_CERT_FILE), else, where it has none, of certifi."""
    if ca_file is None and not _system_has_certificates():
        ca_file = certifi.where()
    return ssl.create_default_context(cafile=ca_file)


def _system_has_certificates() -> bool:
    paths = ssl.get_default_verify_paths()
    return bool(paths.cafile) or (paths.capath is not None and any(Path(paths.capath).iterdir()))


# --- What went wrong --------------------------------------------------------------------------------------------------


@contextmanager
def _in_words(watch: Watch) -> Iterator[None]:
    """What the libraries raise as ours. Their own words may quote the server's, and are not passed on."""
    try:
        yield
    except (FetchRefused, FetchFailed):
        raise
    except ssl.SSLCertVerificationError as error:
        raise FetchRefused(
            "certificate-invalid",
            "The server's certificate is not for this host, has expired, or was issued by nobody who is trusted here. "
            "Use an address whose certificate a browser accepts.",
        ) from error
    except (NewConnectionError, ssl.SSLError) as error:  # before the timeouts: urllib3 derives it from one
        raise FetchFailed(
            "no-connection", "No connection to the server could be made. Check the address, or try again later."
        ) from error
    except (TimeoutError, ConnectTimeoutError, ReadTimeoutError) as error:
        raise watch.too_slow() from error
    except (DecodeError, InvalidHeader, http.client.HTTPException, ValueError) as error:  # a length below zero
        raise _unreadable(error) from error
    except (HTTPError, OSError) as error:
        raise _cut_off() from error


def _unreadable(error: Exception) -> FetchFailed:
    if isinstance(error, http.client.IncompleteRead | http.client.RemoteDisconnected):
        return _cut_off()
    return FetchFailed(
        "bad-answer", "The server's answer is no HTTP that can be read. Check the address, or try again later."
    )


def _cut_off() -> FetchFailed:
    return FetchFailed("cut-off", "The connection broke before all of the file was here. Try again later.")
