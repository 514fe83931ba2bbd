"""One way to read an address, and no second one."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from urllib3.util import parse_url

from catalog.fetching import FetchRefused, host_of
from catalog.fetching.addresses import parse
from catalog.fetching.networks import not_public

HOSTS = st.sampled_from(
    [
        "example.org",
        "EXAMPLE.org.",
        "bücher.example",
        "8.8.8.8",
        "127.1",
        "0x7f.1",
        "[::1]",
        "a@b",
        "①.⓪",
        "a_b.c",
        "-a.b",
    ]
)
URLS = st.one_of(
    st.text(max_size=40),
    st.text(alphabet="htp:/\\@?#[].%0xaf1①。\t\r\n é", max_size=30).map(lambda rest: f"http://{rest}"),
    st.tuples(
        st.sampled_from(["http", "https", "HTTP"]),
        HOSTS,
        st.sampled_from(["", ":80", ":8080", ":"]),
        st.text(max_size=9),
    ).map(lambda parts: f"{parts[0]}://{parts[1]}{parts[2]}/{parts[3]}"),
)


@settings(max_examples=300, deadline=None)
@given(URLS)
@example("http://user\u2025@host/")
@example("http://[::ffff:127.0.0.1]/")
@example("http://host/%")
def test_what_is_read_is_read_alike_by_all_who_read_it_again(url: str) -> None:
    """By us, by Python and by urllib3: an address that two of them read differently would pass one guard."""
    try:
        address = parse(url)
    except FetchRefused:
        return
    text = str(address)
    assert parse(text) == address
    assert text.isascii()
    split, third = urlsplit(text), parse_url(text)
    assert split.hostname == address.host
    assert (third.host or "").strip("[]") == address.host
    assert (split.port or {"http": 80, "https": 443}[split.scheme]) == address.port
    assert third.port in (None, address.port)


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("HTTP://Example.ORG", "example.org:80"),
        ("http://example.org.:80/b.jpg", "example.org:80"),
        ("https://example.org/?q=http://other", "example.org:443"),
        ("http://bücher.example:8080/", "xn--bcher-kva.example:8080"),
        ("http://[2001:DB8:0::1]/", "2001:db8::1:80"),
    ],
)
def test_one_server_has_one_key(url: str, key: str) -> None:
    assert host_of(url) == key


@pytest.mark.parametrize("url", ["", "no address", "ftp://example.org/", "http://a b/", "https://", "http://a..b/"])
def test_what_is_no_address_has_no_key(url: str) -> None:
    with pytest.raises(FetchRefused):
        host_of(url)


@given(st.integers(0, 2**32 - 1))
@example(int(IPv4Address("8.8.8.8")))
def test_no_ipv4_address_passes_within_ipv6(number: int) -> None:
    """Mapped, translated, compatible, NAT64 twice, 6to4, Teredo and ISATAP."""
    prefixes = ("::ffff:0:0", "::ffff:0:0:0", "::", "64:ff9b::", "64:ff9b:1::", "2600::5efe:0:0", "2600::200:5efe:0:0")
    for prefix in prefixes:
        assert not_public(IPv6Address(int(IPv6Address(prefix)) + number))
    assert not_public(IPv6Address((0x2002 << 112) + (number << 80)))
    assert not_public(IPv6Address((0x20010000 << 96) + number))


@pytest.mark.parametrize("ip", ["8.8.8.8", "1.1.1.1", "185.199.108.153", "192.0.3.1", "198.20.0.1", "223.255.255.254"])
def test_public_addresses_pass(ip: str) -> None:
    assert not_public(IPv4Address(ip)) is None


@pytest.mark.parametrize("ip", ["2606:4700:4700::1111", "2001:4860:4860::8888", "2a00:1450:4001:81b::200e"])
def test_public_ipv6_addresses_pass(ip: str) -> None:
    assert not_public(IPv6Address(ip)) is None


@given(st.ip_addresses(v=4))
def test_nothing_passes_that_python_calls_private(ip: IPv4Address) -> None:
    if not ip.is_global or ip.is_multicast:
        assert not_public(ip)
