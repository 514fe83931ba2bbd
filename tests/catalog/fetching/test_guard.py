"""Every address of tests/hostile_addresses.py, and what else is promised of a fetch."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace

import pytest
from pytest_django import Settings

from catalog.fetching import FetchFailed, FetchRefused, fetch
from catalog.fetching.rules import read_allowed
from tests.hostile_addresses import CASES, FETCHED, PHOTO, Case
from tests.hostile_servers import Server, World, hostile_world, new_names

PHOTO_URL = "http://photos.test:{http}/photo.jpg"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with hostile_world(tmp_path_factory.mktemp("hostile")) as world:
        yield world


def url_of(world: World, url: str) -> str:
    return world.url(Case("", url, ""))


@pytest.mark.parametrize("case", [case for case in CASES if case.verdict != FETCHED], ids=lambda case: case.name)
def test_a_bad_address_ends_as_its_kind_does(world: World, case: Case) -> None:
    with pytest.raises((FetchRefused, FetchFailed)) as raised:
        fetch(world.url(case), world.rules(case.seconds))
    error = raised.value
    assert error.code == case.verdict
    assert case.says in str(error)
    assert str(error).endswith(".")
    assert "OpenSSH" not in str(error), "what a server says of itself is nobody's business"
    assert world.secret.connections == 0
    least, most = case.retry_after or (None, None)
    if least is not None and most is not None:
        assert isinstance(error, FetchFailed) and error.retry_after is not None
        assert least <= error.retry_after <= most


@pytest.mark.parametrize("case", [case for case in CASES if case.verdict == FETCHED], ids=lambda case: case.name)
def test_a_good_address_is_fetched(world: World, case: Case) -> None:
    with fetch(world.url(case), world.rules(case.seconds)) as fetched:
        assert fetched.file.tell() == 0
        assert fetched.file.read() == case.body
        assert fetched.byte_size == len(case.body)
        assert case.file_name in (None, fetched.name)
    assert world.secret.connections == 0


def test_what_kind_of_network_a_host_is_in_is_for_the_log_alone(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever may send addresses could map the network of this site by them."""
    said = set()
    with caplog.at_level("INFO"):
        for host in ("127.0.0.1", "10.1.2.3", "169.254.169.254", "localhost", "intranet.test", "[::ffff:10.0.0.1]"):
            with pytest.raises(FetchRefused) as refused:
                fetch(f"http://{host}/", world.rules())
            said.add(str(refused.value))
    [words] = said
    assert not [word for word in ("private", "machine", "metadata", "10.") if word in words]
    for kind in ("127.0.0.1 (this machine itself)", "10.0.0.1 (a private network)", "(a cloud's metadata service)"):
        assert kind in caplog.text


def test_what_can_be_asked_again_is_told_from_what_cannot(world: World) -> None:
    for path, kind in (("404", FetchRefused), ("500", FetchFailed), ("drip", FetchFailed), ("endless", FetchRefused)):
        with pytest.raises(kind):
            fetch(url_of(world, f"http://photos.test:{{http}}/{path}"), world.rules(0.5 if path == "drip" else 20))


def test_dns_is_asked_once_and_its_next_answer_reaches_nobody(world: World) -> None:
    names, url = new_names(), url_of(world, "http://rebind.test:{http}/photo.jpg")
    with fetch(url, world.rules(names=names)) as fetched:
        assert fetched.file.read() == PHOTO
    assert names.asked["rebind.test"] == 1
    with pytest.raises(FetchRefused, match="not on the public internet"):
        fetch(url, world.rules(names=names))
    assert names.asked["rebind.test"] == 2
    assert world.secret.connections == 0


def test_what_a_server_is_told(world: World) -> None:
    world.photos.requests.clear()
    world.photos.pages["/cookie"] = lambda: [
        b"HTTP/1.1 302 Found\r\nSet-Cookie: id=7\r\nLocation: /photo.jpg?a=%2F&b=+\r\n\r\n"
    ]
    fetch(url_of(world, "http://photos.test:{http}/cookie"), world.rules()).close()
    first, second = world.photos.requests
    assert first.splitlines()[0] == "GET /cookie HTTP/1.1"
    assert second.splitlines()[0] == "GET /photo.jpg?a=%2F&b=+ HTTP/1.1"
    sent = dict(line.split(": ", 1) for line in second.splitlines()[1:] if line)
    assert sent == {
        "Host": f"photos.test:{world.ports['http']}",
        "User-Agent": "visearch/test (+https://example.org/bot)",
        "Accept": "image/*",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }


def test_a_proxy_of_the_environment_is_not_asked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{world.secret.port}")
    for url in (PHOTO_URL, "https://secure.test:{tls}/photo.jpg"):
        fetch(url_of(world, url), world.rules()).close()
    assert world.secret.connections == 0


def test_a_name_is_verified_although_the_connection_goes_to_a_number(world: World) -> None:
    """And asked for: a server with many names gets the right one by SNI."""
    asked: list[str | None] = []
    context = world.secure._context
    assert context is not None
    context.sni_callback = lambda _, name, __: asked.append(name)
    fetch(url_of(world, "https://secure.test:{tls}/photo.jpg"), world.rules()).close()
    assert asked == ["secure.test"]


def test_the_file_has_no_name_on_disk(world: World) -> None:
    fetched = fetch(url_of(world, PHOTO_URL), world.rules())
    assert os.fstat(fetched.file.fileno()).st_nlink == 0
    assert fetched.url == url_of(world, PHOTO_URL)
    assert fetched.content_type == "image/jpeg"
    fetched.close()
    assert fetched.file.closed


@pytest.mark.parametrize("path", ["bomb", "bomb-chunks", "bomb-deflate", "endless", "endless-chunks", "negative-chunk"])
def test_no_answer_takes_more_memory_than_a_few_steps(world: World, path: str) -> None:
    url = url_of(world, f"http://photos.test:{{http}}/{path}")
    rules = world.rules()
    tracemalloc.start()
    try:
        with pytest.raises((FetchRefused, FetchFailed)):
            fetch(url, rules)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20  # bytes; a bomb holds 32 MB
    finally:
        tracemalloc.stop()


def test_a_disk_that_is_full_is_not_the_addresss_fault(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(FetchFailed, match="no room") as raised:
        fetch(url_of(world, PHOTO_URL), world.rules())
    assert raised.value.code == "no-room"


def test_an_internal_host_named_by_its_ipv6_address(world: World) -> None:
    try:
        server = Server("::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    with closing(server):
        rules = replace(world.rules(), allowed=(read_allowed(f"[::1]:{server.port}=::1/128"),))
        with fetch(f"http://[0:0::1]:{server.port}/photo.jpg", rules) as fetched:
            assert fetched.file.read() == PHOTO
        assert f"Host: [::1]:{server.port}\r\n" in server.requests[0]


def test_a_fetch_without_rules_has_those_of_the_settings(world: World, settings: Settings) -> None:
    settings.VISEARCH_FETCH_ALLOW = [f"127.0.0.2:{world.photos.port}=127.0.0.2/32"]
    settings.VISEARCH_FETCH_CONTACT = "mailto:us@example.org"
    settings.VISEARCH_LIMITS = {"bytes": len(PHOTO)}
    world.photos.requests.clear()
    url = f"http://127.0.0.2:{world.photos.port}"
    fetch(f"{url}/photo.jpg").close()
    assert "(+mailto:us@example.org)\r\n" in world.photos.requests[0]
    with pytest.raises(FetchRefused, match="30,000 bytes"):
        fetch(f"{url}/largest")


def test_a_socket_is_not_left_open(world: World) -> None:
    """Neither where the answer was refused, nor where it was taken."""
    opened: list[socket.socket] = []

    class Counted(socket.socket):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)  # type: ignore[arg-type]
            if threading.current_thread() is threading.main_thread():  # and no server's
                opened.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "socket", Counted)
        for path in ("404", "page", "endless", "cut", "hop3", "photo.jpg"):
            with suppress(FetchRefused, FetchFailed):
                fetch(url_of(world, f"http://photos.test:{{http}}/{path}"), world.rules()).close()
    assert len(opened) == 9  # three of them on the way of the redirects
    assert [each.fileno() for each in opened] == [-1] * len(opened)
