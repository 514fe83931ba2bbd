"""Asking ports and pages whether somebody is there."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request

from visearch_site.local.errors import LocalError

TIMEOUT_SECONDS = 5


def require_free_port(host: str, port: int) -> None:
    """Raises LocalError saying what to do when this address cannot be bound."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gunicorn does
            probe.bind(address)
    except OSError as error:
        raise LocalError(
            f"Cannot serve at {host} port {port}: {error.strerror}. Nothing was started. "
            f"End what uses the port, or choose another: make up PORT={port + 1}"
        ) from error


def fetch(url: str) -> tuple[int, str]:
    """The HTTP status and the body of a page; status 0 when nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except OSError as error:
        return 0, str(error)


def compact(body: str) -> str:
    """A JSON body in one line; anything else cut to a line's length."""
    try:
        return json.dumps(json.loads(body))
    except ValueError:
        return body[:200]
