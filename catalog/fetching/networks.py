"""Which IP addresses belong to everybody's internet, and which only look as if."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network

# Where clouds tell a machine its secrets: AWS, Google, Azure and most others; AWS by IPv6; Azure's wire server, which
# is a public address; Alibaba; Oracle. No entry of an allow-list opens these.
METADATA = frozenset(
    map(ip_address, ("169.254.169.254", "fd00:ec2::254", "168.63.129.16", "100.100.100.200", "192.0.0.192"))
)

# The special-purpose registries of IANA (RFC 6890 and its updates; iana-ipv4-special-registry and
# iana-ipv6-special-registry, read in 2026), written out since `is_global` differs between releases of Python, and takes
# multicast and most forms of IPv4 within IPv6 for global.
_SPECIAL: dict[str, tuple[str, ...]] = {
    "this machine itself": ("0.0.0.0/8", "127.0.0.0/8", "::/128", "::1/128"),
    "a private network": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10"),
    "a network shared behind a provider": ("100.64.0.0/10",),
    "the local link": ("169.254.0.0/16", "fe80::/10"),
    "a multicast group": ("224.0.0.0/4", "ff00::/8"),
    "IPv4 within IPv6": (
        "::/96",  # IPv4-compatible
        "::ffff:0:0/96",  # IPv4-mapped
        "::ffff:0:0:0/96",  # IPv4-translated (SIIT)
        "64:ff9b::/96",  # NAT64, RFC 6052
        "64:ff9b:1::/48",  # NAT64, RFC 8215
        "2001::/32",  # Teredo
        "2002::/16",  # 6to4
    ),
    "a reserved network": (
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # relays of 6to4
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "240.0.0.0/4",
        "2001::/23",
        "2001:db8::/32",
        "3ffe::/16",
        "3fff::/20",
    ),
}
_NETWORKS = [(ip_network(network), what) for what, networks in _SPECIAL.items() for network in networks]
_GLOBAL_UNICAST = IPv6Network("2000::/3")  # all that IANA has given out
_NAT64_LOCAL = IPv6Network("64:ff9b:1::/48")
_TEREDO, _6TO4 = IPv6Network("2001::/32"), IPv6Network("2002::/16")
_ENDS_IN_IPV4 = tuple(map(IPv6Network, ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")))
_ISATAP = (0x00005EFE, 0x02005EFE)  # bits 64 to 95, before the IPv4 address (RFC 5214)


def not_public(ip: IpAddress) -> str | None:
    """What an address that is not everybody's stands for, in a few words; None for one that is everybody's."""
    if ip in METADATA:
        return "a cloud's metadata service"
    known = next((what for network, what in _NETWORKS if ip.version == network.version and ip in network), None)
    if known:
        return known
    if isinstance(ip, IPv6Address):
        if _is_isatap(ip):
            return "IPv4 within IPv6"
        if ip not in _GLOBAL_UNICAST:
            return "a reserved network"
    return None if ip.is_global else "a reserved network"


def ipv4_within(ip: IpAddress) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses that something on the way may take out of an IPv6 address, and connect to."""
    if isinstance(ip, IPv4Address) or ip.is_loopback or ip.is_unspecified:
        return ()
    number = int(ip)
    if ip in _6TO4:
        found = [number >> 80]
    elif ip in _TEREDO:
        found = [number >> 64, ~number]  # server and, with its bits turned, client (RFC 4380, 4)
    elif ip in _NAT64_LOCAL:
        found = _translated(number)
    elif any(ip in network for network in _ENDS_IN_IPV4) or _is_isatap(ip):
        found = [number]
    else:
        return ()
    return tuple(IPv4Address(each & 0xFFFFFFFF) for each in found)


def _translated(number: int) -> list[int]:
    """Every way to read it (RFC 6052, 2.2), as nobody says how long the prefix is and what follows is not looked at.

    Behind prefixes of 48, 56 and 64 bits the IPv4 address goes around the bits 64 to 71. Readings as 0.x.x.x, where no
    host is, are left out as long as there is another.
    """
    around = (number >> 64 << 56) | (number & (1 << 56) - 1)
    readings = [number, *(around >> behind for behind in (40, 32, 24))]
    return [each for each in readings if each >> 24 & 0xFF] or [0]


def _is_isatap(ip: IPv6Address) -> bool:
    return (int(ip) >> 32) & 0xFFFFFFFF in _ISATAP
