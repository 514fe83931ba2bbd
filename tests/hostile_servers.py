"""What stands behind the addresses of hostile_addresses.py, all of it on this machine.

What would be public is 127.0.0.2, by a DNS of our own and an allow-list; what is internal is 127.0.0.1, at the same
port, where any request is a break-in.
"""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import trustme

from catalog.fetching.rules import Rules, read_allowed
from tests.hostile_addresses import BYTES, LARGEST, PHOTO, SECRET, Case

_BOMB = bytes(32 << 20)  # a kilobyte for each megabyte when it is compressed
_TLS = 22  # first byte of a handshake

Page = Callable[[], Iterable[bytes]]

# --- Pages ------------------------------------------------------------------------------------------------------------


def _answer(body: bytes = PHOTO, status: str = "200 OK", length: bool = True, **headers: str) -> Page:
    fields = {"Content-Type": "image/jpeg"} | {name.replace("_", "-"): value for name, value in headers.items()}
    if length:
        fields.setdefault("Content-Length", str(len(body)))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value)
    return lambda: [f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body]


def _to(location: str) -> Page:
    return _answer(b"look there", "302 Found", Location=location)


def _then(head: Page, more: Callable[[], Iterable[bytes]]) -> Page:
    def page() -> Iterator[bytes]:
        yield from head()
        yield from more()

    return page


def _endless(part: bytes, pause: float = 0.0) -> Callable[[], Iterator[bytes]]:
    def parts() -> Iterator[bytes]:
        while True:
            yield part
            time.sleep(pause)

    return parts


def _chunk(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(body), body)


def _chunked(body: bytes, **headers: str) -> Page:
    return _answer(body, length=False, Transfer_Encoding="chunked", **headers)


def _pages(ports: dict[str, int]) -> dict[str, Page]:
    http = ports["http"]
    bomb = gzip.compress(_BOMB)
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    pages = {f"/hop{n}": _to(f"/hop{n - 1}") for n in range(2, 5)}
    pages |= {f"/{status}": _answer(b"", f"{status} So") for status in (401, 403, 404, 410, 418, 500, 503)}
    pages |= {f"/{status}": _answer(b"", f"{status} So", length=False) for status in (204, 304)}
    return pages | {
        "/hop1": _to("photo.jpg"),
        "/circle": _to(f"http://photos.test:{http}/circle"),
        "/again": _to("/photo.jpg"),
        "/to-port": _to("http://photos.test:6379/"),
        "/to-secret": _to(f"http://127.0.0.1:{http}/secret.jpg"),
        "/to-loopback": _to("http://127.0.0.1/"),
        "/to-private": _to("http://10.0.0.1/"),
        "/to-intranet": _to("//intranet.test/"),
        "/to-metadata": _to("http://169.254.169.254/latest/meta-data/"),
        "/to-octal": _to(f"http://0177.0.0.1:{http}/secret.jpg"),
        "/to-userinfo": _to(f"http://photos.test@127.0.0.1:{http}/"),
        "/to-file": _to("file:///etc/passwd"),
        "/to-ftp": _to("ftp://photos.test/photo.jpg"),
        "/to-data": _to("data:image/png;base64,AAAA"),
        "/to-nowhere": _to("http://["),
        "/to-utf8": _to("/grün ü.jpg"),
        "/up": _to(f"https://secure.test:{ports['tls']}/photo.jpg"),
        "/down": _to(f"http://photos.test:{http}/photo.jpg"),
        "/drip": _then(_answer(b"", Content_Length="1000"), _endless(b".", 0.02)),
        "/drip-headers": _then(lambda: [b"HTTP/1.1 200 OK\r\nX-Slow: "], _endless(b".", 0.02)),
        "/drip-chunks": _then(_chunked(b""), _endless(b"1\r\n.\r\n", 0.02)),
        "/silence": _then(list, _endless(b"", 0.02)),
        "/endless": _then(_answer(b"", length=False), _endless(bytes(10_000))),
        "/endless-chunks": _then(_chunked(b""), _endless(_chunk(bytes(10_000)))),
        "/endless-tiny-chunks": _then(_chunked(b""), _endless(_chunk(b".") * 1_000)),
        "/endless-trailers": _then(_chunked(_chunk(PHOTO) + b"0\r\n"), _endless(b"X-More: and more\r\n" * 100)),
        "/endless-headers": _then(lambda: [b"HTTP/1.1 200 OK\r\n"], _endless(b"X-More: " + b"more" * 500 + b"\r\n")),
        "/endless-continue": _then(list, _endless(b"HTTP/1.1 100 Continue\r\n\r\n" * 50)),
        "/bomb": _answer(bomb, Content_Encoding="gzip"),
        "/bomb-chunks": _chunked(_chunk(bomb) + _chunk(b""), Content_Encoding="gzip"),
        "/bomb-deflate": _answer(zlib.compress(_BOMB), Content_Encoding="deflate"),
        "/announced": _answer(b"", Content_Length=str(BYTES + 1)),
        "/twice": _answer(gzip.compress(gzip.compress(PHOTO)), Content_Encoding="gzip, gzip"),
        "/brotli": _answer(Content_Encoding="br"),
        "/empty": _answer(b""),
        "/empty-chunks": _chunked(_chunk(b"")),
        "/page": _answer(b"<p>Photo", Content_Type="text/html; charset=utf-8"),
        "/odd-type": _answer(b"", Content_Type="<script>alert(1)</script>"),
        "/429-seconds": _answer(b"", "429 Slow", Retry_After="7"),
        "/429-date": _answer(b"", "429 Slow", Retry_After=in_a_minute),
        "/429-past": _answer(b"", "429 Slow", Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"),
        "/429-year": _answer(b"", "429 Slow", Retry_After="31536000"),
        "/429-nonsense": _answer(b"", "429 Slow", Retry_After="later"),
        "/503-seconds": _answer(b"", "503 Full", Retry_After="9"),
        "/cut": _answer(PHOTO[:1_000], Content_Length=str(len(PHOTO))),
        "/cut-chunk": _chunked(_chunk(PHOTO)[:1_000]),
        "/cut-chunks": _chunked(_chunk(PHOTO)),
        "/cut-status": list,
        "/ssh": lambda: [b"SSH-2.0-OpenSSH_9.2 " + SECRET + b"\r\n"],
        "/negative-chunk": _chunked(b"-5\r\n" + PHOTO),
        "/two-lengths": _answer(Content_Length="30000, 20000"),
        "/false-gzip": _answer(Content_Encoding="gzip"),
        "/no-type": _answer(Content_Type=""),
        "/octets": _answer(Content_Type="application/octet-stream"),
        "/chunks": _chunked(_chunk(PHOTO[:10_000]) + _chunk(PHOTO[10_000:]) + _chunk(b"")),
        "/no-length": _answer(length=False),
        "/gzip": _answer(gzip.compress(PHOTO), Content_Encoding="gzip"),
        "/largest": _answer(LARGEST),
    }


# --- Servers ----------------------------------------------------------------------------------------------------------


class Server:
    """Answers each connection's one request with its page, else with ``other``, over TLS where there is a context."""

    def __init__(self, ip: str, port: int = 0, context: ssl.SSLContext | None = None) -> None:
        self.pages: dict[str, Page] = {}
        self.other = _answer()
        self.requests: list[str] = []  # with their headers
        self.connections = 0
        self._context, self._stopped = context, threading.Event()
        self._listener = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((ip, port))
        self._listener.listen(16)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._stopped.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with suppress(OSError), closing(connection):
            if self._context:
                connection = self._context.wrap_socket(connection, server_side=True)
            with closing(connection):
                self._send(connection, self._request(connection))
                connection.shutdown(socket.SHUT_WR)  # and not a reset, which could take what was sent along
                while connection.recv(1 << 16):
                    pass

    def _request(self, connection: socket.socket) -> str:
        data = b""
        while b"\r\n\r\n" not in data:
            part = connection.recv(1 << 16)
            if not part or part[0] == _TLS:
                raise ConnectionError
            data += part
        self.requests.append(data.decode())
        return self.requests[-1].split(" ")[1]

    def _send(self, connection: socket.socket, path: str) -> None:
        for part in self.pages.get(path, self.other)():
            if self._stopped.is_set():
                return
            connection.sendall(part)


class Stuck(Server):
    """Accepts, and never says a word."""

    def _answer(self, connection: socket.socket) -> None:
        with closing(connection):
            self._stopped.wait(60)


@dataclass
class Names:
    """A DNS whose answers are lists: the first for the first question, the last for all that follow."""

    answers: dict[str, list[list[str]]]
    asked: Counter[str] = field(default_factory=Counter)

    def __call__(self, host: str, port: int) -> list[str]:
        if host == "slow-dns.test":
            time.sleep(3)
        answers = self.answers.get(host)
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        self.asked[host] += 1
        return answers[min(self.asked[host], len(answers)) - 1]


@dataclass
class World:
    """All servers. ``secret`` is the internal one that must never hear anything; ``photos`` the public one."""

    photos: Server
    secret: Server
    secure: Server
    ports: dict[str, int]
    ca_file: str

    def url(self, case: Case) -> str:
        url = case.url
        for name, port in self.ports.items():
            url = url.replace(f"{{{name}}}", str(port))
        return url

    @property
    def allow(self) -> list[str]:
        """VISEARCH_FETCH_ALLOW for it."""
        return _allowed(self.ports)

    def rules(self, seconds: float = 20.0, names: Names | None = None) -> Rules:
        return Rules(
            allowed=tuple(map(read_allowed, self.allow)),
            user_agent="visearch/test (+https://example.org/bot)",
            bytes=BYTES,
            header_bytes=16_384,
            seconds=seconds,
            connect_seconds=seconds,
            silence=seconds / 2,
            ca_file=self.ca_file,
            resolve=names or new_names(),
        )


def new_names() -> Names:
    public = ("photos", "xn--bcher-kva", "secure", "other-name", "expired", "untrusted", "stuck", "other", "slow-dns")
    return Names(
        {f"{name}.test": [["127.0.0.2"]] for name in public}
        | {
            "localhost": [["127.0.0.1", "::1"]],
            "intranet.test": [["10.0.0.1"]],
            "mixed.test": [["8.8.8.8", "10.0.0.1"]],
            "moved.test": [["127.0.0.1"]],
            "cloud.test": [["169.254.169.254"]],
            "images.internal": [["127.0.0.3"]],
            "two.test": [["127.0.0.4", "127.0.0.2"]],
            "empty.test": [[]],
            "rebind.test": [["127.0.0.2"], ["127.0.0.1"]],
            "rebound.test": [["127.0.0.2"], ["127.0.0.1"]],
        }
    )


def _allowed(ports: dict[str, int]) -> list[str]:
    plain = ("photos", "bücher", "moved", "rebind", "rebound")
    return [
        *(f"{name}.test:{ports['http']}=127.0.0.2/32" for name in plain),
        f"two.test:{ports['http']}=127.0.0.0/29",
        f"cloud.test:{ports['http']}=169.254.0.0/16",
        f"photos.test:{ports['closed']}=127.0.0.2/32",
        f"images.internal:{ports['internal']}=127.0.0.3/32",
        f"secure.test:{ports['tls']}=127.0.0.2/32",
        f"other-name.test:{ports['tls']}=127.0.0.2/32",
        f"expired.test:{ports['expired']}=127.0.0.2/32",
        f"untrusted.test:{ports['untrusted']}=127.0.0.2/32",
        f"stuck.test:{ports['stuck']}=127.0.0.2/32",
    ]


@contextmanager
def hostile_world(folder: Path) -> Iterator[World]:
    """``folder``: for the certificate authority's file."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    over = datetime.now(UTC) - timedelta(days=1)
    with ExitStack() as stack:

        def start(server: Server) -> Server:
            return stack.enter_context(closing(server))

        photos, secret = map(start, _twins())
        secure = start(Server("127.0.0.2", context=_context(authority.issue_cert("secure.test"))))
        expired = authority.issue_cert("expired.test", not_before=over - timedelta(days=1), not_after=over)
        others = {
            "expired": start(Server("127.0.0.2", context=_context(expired))),
            "untrusted": start(Server("127.0.0.2", context=_context(trustme.CA().issue_cert("untrusted.test")))),
            "stuck": start(Stuck("127.0.0.2")),
            "internal": start(Server("127.0.0.3")),
        }
        ports = {"http": photos.port, "tls": secure.port, "closed": _closed_port()}
        ports |= {name: server.port for name, server in others.items()}
        photos.pages = secure.pages = _pages(ports)
        secret.other = _answer(SECRET)
        yield World(photos, secret, secure, ports, str(folder / "ca.pem"))


def _twins() -> tuple[Server, Server]:
    """A public server and an internal one at the same port."""
    while True:
        public = Server("127.0.0.2")
        try:
            return public, Server("127.0.0.1", public.port)
        except OSError:
            public.close()


def _context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def _closed_port() -> int:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.2", 0))
        port: int = free.getsockname()[1]
        return port
