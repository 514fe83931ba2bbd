"""Addresses that mean harm, and good ones beside them, each with the verdict that it must get.

Their servers are in hostile_servers.py. `benchmarks.addresses` prints the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.drawn import padded, photo

BYTES = 200_000  # that a file may have here
PHOTO = padded(photo(6, (150, 100)), 30_000)
LARGEST = padded(photo(7, (500, 300)), BYTES)
SECRET = b"\xff\xd8 what nobody outside may see " * 10
FETCHED = "fetched"
TRIED_AGAIN = frozenset(  # verdicts that may be others a little later: an intake asks again
    {"timed-out", "name-not-resolved", "no-connection", "cut-off", "bad-answer", "server-error", "slow-down"}
)
WRITTEN_SO = frozenset({"address-malformed", "scheme-not-allowed", "userinfo-in-address", "ip-ambiguous"})


@dataclass(frozen=True)
class Case:
    """``url`` with ports by name in braces; ``verdict``: FETCHED, or the code of the refusal or failure.

    ``says``: words of its reason; ``seconds``: its budget of time; ``retry_after``: seconds, at least and at most.
    """

    name: str
    url: str
    verdict: str
    says: str = ""
    seconds: float = 20.0
    retry_after: tuple[float, float] | None = None
    body: bytes = PHOTO
    file_name: str | None = None

    @property
    def reaches_a_line(self) -> bool:
        """Whether a list that names it is taken: how it is written says nothing against it."""
        return self.verdict not in WRITTEN_SO or "leads to another" in self.says


def _forms() -> Iterator[Case]:
    """What is refused for how it is written, or for the IP address that it means."""
    for name, host in (
        ("octal", "0177.0.0.1"),
        ("hexadecimal", "0x7f000001"),
        ("hexadecimal parts", "0x7f.0x0.0x0.0x1"),
        ("decimal", "2130706433"),
        ("short", "127.1"),
        ("leading zeros", "010.0.0.1"),
        ("too large a part", "127.0.0.257"),
        ("a public one in octal", "010.8.8.8"),
    ):
        yield Case(f"number, {name}", f"http://{host}:{{http}}/secret.jpg", "ip-ambiguous", "four decimal numbers")
    for name, host in (
        ("loopback", "127.0.0.1"),
        ("loopback, final dot", "127.0.0.1."),
        ("loopback, digits in circles", "①②⑦.⓪.⓪.①"),
        ("loopback, Chinese dots", "127。0。0。1"),
        ("loopback by name", "localhost"),
        ("unspecified", "0.0.0.0"),
        ("private, 10", "10.1.2.3"),
        ("private, 172", "172.31.255.254"),
        ("private, 192", "192.168.0.1"),
        ("private by name", "intranet.test"),
        ("one public answer, one private", "mixed.test"),
        ("behind a provider", "100.64.0.1"),
        ("link-local", "169.254.1.1"),
        ("metadata", "169.254.169.254"),
        ("metadata of Alibaba", "100.100.100.200"),
        ("metadata of Azure", "168.63.129.16"),
        ("metadata by IPv6", "[fd00:ec2::254]"),
        ("multicast", "224.0.0.251"),
        ("broadcast", "255.255.255.255"),
        ("documentation", "203.0.113.7"),
        ("IPv6, loopback", "[::1]"),
        ("IPv6, unspecified", "[::]"),
        ("IPv6, mapped", "[::ffff:127.0.0.1]"),
        ("IPv6, mapped in hexadecimal", "[::ffff:7f00:1]"),
        ("IPv6, compatible", "[::127.0.0.1]"),
        ("IPv6, NAT64", "[64:ff9b::7f00:1]"),
        ("IPv6, 6to4", "[2002:7f00:1::]"),
        ("IPv6, Teredo", "[2001:0:7f00:1::]"),
        ("IPv6, ISATAP", "[2606:4700::5efe:7f00:1]"),
        ("IPv6, local", "[fd12:3456::1]"),
        ("IPv6, link-local", "[fe80::1]"),
        ("IPv6, not given out", "[4000::1]"),
    ):
        yield Case(f"IP, {name}", f"http://{host}/secret.jpg", "address-not-public", "not on the public internet")
    yield Case("userinfo", "http://photos.test@127.0.0.1/", "userinfo-in-address", "Leave them out")
    yield Case("userinfo with a password", "http://photos.test:{http}@127.0.0.1:{http}/", "userinfo-in-address")
    yield Case("userinfo twice", "http://a@b@c/", "userinfo-in-address")
    yield Case("backslash", "http://photos.test:{http}\\@127.0.0.1:{http}/", "address-malformed", "backslash")
    yield Case("tab", "http://photos.test:{http}/a\t.jpg", "address-malformed", "control character")
    yield Case("line break", "http://photos.test:{http}/a\r\nX-Evil:1", "address-malformed", "control character")
    yield Case("NUL", "http://photos.test\x00.evil.test/", "address-malformed", "control character")
    yield Case("percent signs in the host", "http://127%2e0%2e0%2e1%2f/", "address-malformed", "no name that DNS knows")
    yield Case("interface", "http://[fe80::1%25eth0]/", "address-malformed", "interface")
    yield Case("no host", "http:///etc/passwd", "address-malformed", "names no host")
    yield Case("no scheme", "photos.test/photo.jpg", "address-malformed", "http")
    yield Case("two ports", "http://photos.test:80:{http}/", "address-malformed", "port")
    yield Case("a port that is none", "http://photos.test:65536/", "address-malformed", "port")
    yield Case("too long", "http://photos.test/" + "a" * 2000, "address-malformed", "shorter")
    for scheme in ("file:///etc/passwd", "ftp://photos.test/a.jpg", "gopher://127.0.0.1:6379/_INFO", "data:image/png,"):
        yield Case(scheme.partition(":")[0], scheme, "scheme-not-allowed", "Only http and https")
    yield Case("SSH's port", "http://photos.test:22/", "port-not-allowed", "Port 22")
    yield Case("a listed port of another host", "http://other.test:{http}/photo.jpg", "port-not-allowed")
    yield Case("a listed host by its number", "http://127.0.0.2:{http}/photo.jpg", "port-not-allowed")
    yield Case(
        "a listed host elsewhere", "http://moved.test:{http}/photo.jpg", "address-not-public", "not on the public"
    )
    yield Case("a listed host that is metadata", "http://cloud.test:{http}/", "address-not-public", "not on the public")


def _redirects() -> Iterator[Case]:
    for name, path, verdict in (
        ("an unlisted port", "to-port", "port-not-allowed"),
        ("an internal server", "to-secret", "port-not-allowed"),
        ("loopback", "to-loopback", "address-not-public"),
        ("a private range", "to-private", "address-not-public"),
        ("a name of a private range", "to-intranet", "address-not-public"),
        ("metadata", "to-metadata", "address-not-public"),
        ("an octal number", "to-octal", "ip-ambiguous"),
        ("userinfo", "to-userinfo", "userinfo-in-address"),
        ("file:", "to-file", "scheme-not-allowed"),
        ("ftp:", "to-ftp", "scheme-not-allowed"),
        ("data:", "to-data", "scheme-not-allowed"),
        ("what is no address", "to-nowhere", "address-malformed"),
    ):
        yield Case(f"redirect to {name}", f"http://photos.test:{{http}}/{path}", verdict, "leads to another one")
    yield Case("four redirects", "http://photos.test:{http}/hop4", "too-many-redirects", "more than 3 times")
    yield Case("redirects in a circle", "http://photos.test:{http}/circle", "too-many-redirects")
    yield Case("redirect from https to http", "https://secure.test:{tls}/down", "redirect-to-http", "stays with https")
    yield Case("DNS that changes for a redirect", "http://rebound.test:{http}/again", "address-not-public")


def _time() -> Iterator[Case]:
    for name, url in (
        ("slow body", "http://photos.test:{http}/drip"),
        ("slow headers", "http://photos.test:{http}/drip-headers"),
        ("slow chunks", "http://photos.test:{http}/drip-chunks"),
        ("no answer", "http://photos.test:{http}/silence"),
        ("TLS that never begins", "https://stuck.test:{stuck}/"),
        ("slow DNS", "http://slow-dns.test/"),
    ):
        yield Case(name, url, "timed-out", "took too long", seconds=0.5)


def _sizes() -> Iterator[Case]:
    for name, path in (
        ("endless body", "endless"),
        ("endless chunks", "endless-chunks"),
        ("endless tiny chunks", "endless-tiny-chunks"),
        ("gzip bomb", "bomb"),
        ("gzip bomb in chunks", "bomb-chunks"),
        ("deflate bomb", "bomb-deflate"),
        ("announced as too large", "announced"),
        ("endless trailers", "endless-trailers"),
    ):
        yield Case(name, f"http://photos.test:{{http}}/{path}", "too-many-bytes", f"{BYTES:,} bytes")
    for name, path in (("endless headers", "endless-headers"), ("endless 100 Continue", "endless-continue")):
        yield Case(name, f"http://photos.test:{{http}}/{path}", "headers-too-large", "headers")
    yield Case("compressed twice", "http://photos.test:{http}/twice", "encoding-not-supported", "compression")
    yield Case("compressed by brotli", "http://photos.test:{http}/brotli", "encoding-not-supported", "compression")
    yield Case("empty", "http://photos.test:{http}/empty", "empty-file", "empty")
    yield Case("empty, in chunks", "http://photos.test:{http}/empty-chunks", "empty-file", "empty")


def _answers() -> Iterator[Case]:
    yield Case("a page", "http://photos.test:{http}/page", "wrong-type", "text/html")
    yield Case("a type that is markup", "http://photos.test:{http}/odd-type", "wrong-type", "something else")
    for status, verdict in (
        (404, "not-found"),
        (410, "not-found"),
        (401, "access-denied"),
        (403, "access-denied"),
        (418, "request-refused"),
        (204, "unexpected-status"),
        (304, "unexpected-status"),
        (500, "server-error"),
        (503, "server-error"),
    ):
        yield Case(f"status {status}", f"http://photos.test:{{http}}/{status}", verdict, f"answers {status}")
    limited = "http://photos.test:{http}/429"
    yield Case("429, seconds", f"{limited}-seconds", "slow-down", "7 seconds", retry_after=(7, 7))
    yield Case("429, a date", f"{limited}-date", "slow-down", "left alone", retry_after=(1, 120))
    yield Case("429, a date that is over", f"{limited}-past", "slow-down", "left alone", retry_after=(0, 0))
    yield Case("429, a year", f"{limited}-year", "slow-down", "left alone", retry_after=(3600, 3600))
    yield Case("429, nonsense", f"{limited}-nonsense", "slow-down", "left alone")
    yield Case("503 with Retry-After", "http://photos.test:{http}/503-seconds", "slow-down", retry_after=(9, 9))
    yield Case("cut off", "http://photos.test:{http}/cut", "cut-off", "broke")
    yield Case("cut off in a chunk", "http://photos.test:{http}/cut-chunk", "cut-off", "broke")
    yield Case("cut off between chunks", "http://photos.test:{http}/cut-chunks", "cut-off", "broke")
    yield Case("cut off before the status", "http://photos.test:{http}/cut-status", "cut-off", "broke")
    yield Case("another protocol", "http://photos.test:{http}/ssh", "bad-answer", "no HTTP")
    yield Case("a chunk below zero", "http://photos.test:{http}/negative-chunk", "bad-answer", "no HTTP")
    yield Case("two lengths", "http://photos.test:{http}/two-lengths", "bad-answer", "no HTTP")
    yield Case("no gzip in spite of its header", "http://photos.test:{http}/false-gzip", "bad-answer", "no HTTP")
    yield Case("name unknown", "http://nobody.test/", "name-not-resolved", "not known")
    yield Case("name without addresses", "http://empty.test/", "name-not-resolved", "not known")
    yield Case("nobody listens", "http://photos.test:{closed}/", "no-connection", "No connection")
    yield Case("no TLS", "https://photos.test:{http}/photo.jpg", "no-connection", "No connection")
    yield Case("certificate of another host", "https://other-name.test:{tls}/photo.jpg", "certificate-invalid")
    yield Case("expired certificate", "https://expired.test:{expired}/photo.jpg", "certificate-invalid")
    yield Case("certificate of nobody", "https://untrusted.test:{untrusted}/photo.jpg", "certificate-invalid")


def _good() -> Iterator[Case]:
    yield Case("good, plain", "http://photos.test:{http}/photo.jpg", FETCHED, file_name="photo.jpg")
    yield Case("good, spaces around it", " HTTP://Photos.TEST:{http}/photo.jpg#part\r\n", FETCHED)
    yield Case("good, one redirect", "http://photos.test:{http}/hop1", FETCHED, file_name="photo.jpg")
    yield Case("good, three redirects", "http://photos.test:{http}/hop3", FETCHED)
    yield Case(
        "good, redirect with a name in UTF-8", "http://photos.test:{http}/to-utf8", FETCHED, file_name="grün ü.jpg"
    )
    yield Case("good, https", "https://secure.test:{tls}/photo.jpg", FETCHED)
    yield Case("good, from http to https", "http://photos.test:{http}/up", FETCHED)
    yield Case("good, a listed internal host", "http://images.internal:{internal}/photo.jpg", FETCHED)
    yield Case("good, a name in Unicode", "http://bücher.test:{http}/größe.jpg", FETCHED, file_name="größe.jpg")
    yield Case("good, no name", "http://photos.test:{http}", FETCHED, file_name="")
    yield Case(
        "good, a name with tricks", "http://photos.test:{http}/..%2f%00a%E2%80%AEgpj.jpg", FETCHED, file_name="agpj.jpg"
    )
    yield Case("good, no type", "http://photos.test:{http}/no-type", FETCHED)
    yield Case("good, any bytes", "http://photos.test:{http}/octets", FETCHED)
    yield Case("good, chunks", "http://photos.test:{http}/chunks", FETCHED)
    yield Case("good, no length", "http://photos.test:{http}/no-length", FETCHED)
    yield Case("good, compressed although not asked for", "http://photos.test:{http}/gzip", FETCHED)
    yield Case("good, as large as may be", "http://photos.test:{http}/largest", FETCHED, body=LARGEST)
    yield Case("good, the second of its addresses", "http://two.test:{http}/photo.jpg", FETCHED)
    yield Case("good, DNS that changes after the look", "http://rebind.test:{http}/photo.jpg", FETCHED)


CASES = [*_forms(), *_redirects(), *_time(), *_sizes(), *_answers(), *_good()]
