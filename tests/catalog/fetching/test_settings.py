"""What operators say of fetching, and what they are told where they say it wrongly."""

from __future__ import annotations

import tomllib
from ipaddress import ip_address

import pytest
from django.core.checks import run_checks
from pytest_django import Settings

from catalog.fetching import registry
from catalog.fetching.rules import Rules, read_allowed
from tests.stack import ROOT


def problems() -> list[str]:
    return [each.msg for each in run_checks() if each.id == "catalog.E003"]


def test_the_settings_as_they_come_can_be_used() -> None:
    assert problems() == []
    assert registry.rules().allowed == ()


@pytest.mark.parametrize(
    "entry",
    [
        "images.internal",
        "images.internal=10.0.0.0/8",
        "images.internal:8080",
        "images.internal:0=10.0.0.0/8",
        "images.internal:65536=10.0.0.0/8",
        "images.internal:8080=10.0.0.1/8",
        "images.internal:8080=everything",
        "images.internal:8080=0.0.0.0/0",
        "http://images.internal:8080=10.0.0.0/8",
        "a@images.internal:8080=10.0.0.0/8",
        "0x7f.1:8080=10.0.0.0/8",
        "[::1:8080=::1/128",
    ],
)
def test_an_entry_that_is_none_is_named_by_a_check(settings: Settings, entry: str) -> None:
    settings.VISEARCH_FETCH_ALLOW = ["images.internal:443=10.1.0.0/16", entry]
    (said,) = problems()
    assert said.startswith("VISEARCH_FETCH_ALLOW: ")
    assert entry in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VISEARCH_FETCH_SECONDS", 0.0),
        ("VISEARCH_FETCH_PER_HOST", 0),
        ("VISEARCH_FETCH_AT_ONCE", -1),
        ("VISEARCH_FETCH_CONTACT", "ours\r\nX-Evil: 1"),
        ("VISEARCH_FETCH_CONTACT", "us (you know)"),
    ],
)
def test_another_setting_that_cannot_be_is_named_by_a_check(settings: Settings, name: str, value: object) -> None:
    setattr(settings, name, value)
    (said,) = problems()
    assert said.startswith(name)


def test_an_entry_opens_its_host_at_its_port_in_its_network_and_nothing_else() -> None:
    rules = Rules(allowed=(read_allowed(" Images.Internal.:8080=10.1.0.0/16 "),))
    ip = read_allowed("x:1=10.1.2.3").network.network_address
    assert rules.refusal("images.internal", 8080, ip) is None
    assert rules.refusal("images.internal", 80, ip)
    assert rules.refusal("other.internal", 8080, ip)
    assert rules.refusal("images.internal", 8080, read_allowed("x:1=10.2.0.1").network.network_address)
    assert rules.refusal("images.internal", 8080, read_allowed("x:1=8.8.8.8").network.network_address)


NAT64 = "64:ff9b::/96"


@pytest.mark.parametrize(
    ("network", "ip", "what"),
    [
        (NAT64, "64:ff9b::808:808", None),
        (NAT64, "64:ff9b::a00:1", "a private network"),
        (NAT64, "64:ff9b::7f00:1", "this machine itself"),
        (NAT64, "64:ff9b::a9fe:a9fe", "a cloud's metadata service"),
        (NAT64, "64:ff9b::a01:1", None),  # in another entry
        ("64:ff9b:1::/48", "64:ff9b:1::a00:1", "a private network"),
        ("64:ff9b:1::/48", "64:ff9b:1::808:808", None),
        ("64:ff9b:1::/48", "64:ff9b:1:a9fe:a9:fe00::", "a cloud's metadata service"),
        ("64:ff9b:1::/48", "64:ff9b:1:a9fe:a9:fe00:808:808", "a cloud's metadata service"),
        ("::ffff:0:0/96", "::ffff:10.0.0.1", "a private network"),
        ("2002::/16", "2002:c0a8:1::1", "a private network"),
        ("2001::/32", "2001:0:808:808::f5ff:fffe", "a private network"),
        ("2606:4700::/32", "2606:4700::5efe:a00:1", "a private network"),
        ("2606:4700::/32", "2606:4700::a00:1", None),  # nothing says that there is one within
    ],
)
def test_an_entry_opens_no_ipv4_address_within_its_ipv6_ones(network: str, ip: str, what: str | None) -> None:
    entries = (f"a.test:443={network}", "a.test:443=10.1.0.0/16", "b.test:443=10.0.0.0/8")
    rules = Rules(allowed=tuple(map(read_allowed, entries)))
    assert rules.refusal("a.test", 443, ip_address(ip)) == what


def test_no_form_of_a_metadata_service_is_opened() -> None:
    """Whatever is allowed."""
    entries = ("a.test:443=64:ff9b::/96", "a.test:443=169.254.0.0/16", "a.test:443=169.254.169.254")
    rules = Rules(allowed=tuple(map(read_allowed, entries)))
    for ip in ("169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "::ffff:169.254.169.254"):
        assert rules.refusal("a.test", 443, ip_address(ip)) == "a cloud's metadata service"


def test_the_version_that_servers_are_told_is_this_one(settings: Settings) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert registry.rules().user_agent == f"visearch/{project['version']}"
    settings.VISEARCH_FETCH_CONTACT = "https://example.org/bot"
    assert registry.rules().user_agent == f"visearch/{project['version']} (+https://example.org/bot)"
