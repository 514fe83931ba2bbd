"""What may be fetched, and how much of it for how long."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from catalog.fetching.addresses import PORTS, read_host
from catalog.fetching.errors import FetchRefused
from catalog.fetching.networks import METADATA, IpAddress, IpNetwork, ipv4_within, not_public
from catalog.fetching.resolving import system_resolver

Resolver = Callable[[str, int], Sequence[str]]  # name and port to IP addresses; raises OSError where there are none

_ENTRY = re.compile(r"(\[[^\[\]]*\]|[^:\[\]=]+):([0-9]{1,5})=([^=]+)")
_SHORTEST_PREFIX = 8  # bits; a network wider than that is no network that anybody runs


@dataclass(frozen=True, slots=True)
class Allowed:
    """One entry of the allow-list: this host at this port may be in this network, which may be a private one."""

    host: str
    port: int
    network: IpNetwork


@dataclass(frozen=True, slots=True)
class Rules:
    """``seconds``: for all of it, redirects too; ``silence``: without a byte; ``bytes``: of the body, decoded or not.

    ``ca_file``: certificates (PEM) to trust instead of the system's. ``resolve`` is asked once for each host that is
    asked for.
    """

    allowed: tuple[Allowed, ...] = ()
    user_agent: str = "visearch"
    bytes: int = 50 * 1024 * 1024
    header_bytes: int = 32 * 1024
    seconds: float = 30.0
    connect_seconds: float = 5.0
    silence: float = 10.0
    redirects: int = 3
    longest_wait: float = 3600.0  # seconds; the most that a Retry-After is believed
    ca_file: str | None = None
    resolve: Resolver = system_resolver

    def check_port(self, host: str, port: int) -> None:
        """Raises FetchRefused (port-not-allowed)."""
        if port not in PORTS.values() and not self._networks(host, port):
            raise FetchRefused(
                "port-not-allowed",
                f"Port {port} is not fetched from, only 80 and 443. Use an address without a port, or ask whoever runs "
                "this site to allow this host and port.",
            )

    def refusal(self, host: str, port: int, ip: IpAddress) -> str | None:
        """Why ``host`` is not fetched from where it has the address ``ip``, in a few words, or None.

        An IPv4 address within an allowed IPv6 one must be everybody's, or allowed by an entry of its own.
        """
        inside = ipv4_within(ip)
        if not METADATA.isdisjoint((ip, *inside)):
            return "a cloud's metadata service"
        if not self._is_allowed(host, port, ip):
            outside = None if port in PORTS.values() else "outside the network that is allowed for its port"
            return not_public(ip) or outside
        whats = (None if self._is_allowed(host, port, each) else not_public(each) for each in inside)
        return next((what for what in whats if what), None)

    def _is_allowed(self, host: str, port: int, ip: IpAddress) -> bool:
        return any(ip.version == network.version and ip in network for network in self._networks(host, port))

    def _networks(self, host: str, port: int) -> list[IpNetwork]:
        return [entry.network for entry in self.allowed if (entry.host, entry.port) == (host, port)]


def read_allowed(text: str) -> Allowed:
    """``host:port=network``, as ``images.internal:8080=10.1.0.0/16``. Raises ValueError saying what is wrong."""
    entry = _ENTRY.fullmatch(text.strip())
    if not entry:
        raise ValueError(f"{text!r} is not of the form host:port=network, as images.internal:8080=10.1.0.0/16")
    try:
        host = read_host(entry[1])
        network = ip_network(entry[3].strip())
    except (FetchRefused, ValueError) as error:
        raise ValueError(f"{text!r}: {error}") from error
    port = int(entry[2])
    if not 0 < port <= 65_535:
        raise ValueError(f"{text!r}: {port} is no port")
    if network.prefixlen < _SHORTEST_PREFIX:
        raise ValueError(f"{text!r}: {network} is wider than any network that somebody runs; name the host's own")
    return Allowed(host, port, network)
