"""Web servers in a thread; one of them serves one file, as badly as a test wants."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Served:
    """What it does, and what it was asked (the headers of each request).

    ``breaks``: after how many bytes each of the next answers ends too early. ``statuses``: what the next requests get
    instead of the file. ``ranges``: knows Range and If-Range. ``obeys_if_range``: off, it gives parts of whatever it
    has. ``silent``: sends nothing until the server is closed.
    """

    content: bytes
    mark: str = '"first"'
    ranges: bool = True
    obeys_if_range: bool = True
    length: bool = True
    silent: bool = False
    moved_to: str = ""
    breaks: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    @property
    def asked_ranges(self) -> list[str]:
        return [headers.get("Range", "") for headers in self.asked]


@contextmanager
def running(server: ThreadingHTTPServer) -> Iterator[int]:
    """In a thread of its own; its port."""
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def serving(content: bytes, **options: Any) -> Iterator[Served]:
    served = Served(content, **options)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append(dict(self.headers))
            _answer(self, served)

        def log_message(self, *_: Any) -> None:
            pass

    with running(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        served.url = f"http://127.0.0.1:{port}/weights.h5"
        try:
            yield served
        finally:
            served.closing.set()


def _answer(request: BaseHTTPRequestHandler, served: Served) -> None:
    if served.silent:
        served.closing.wait(60)
        return
    if served.statuses or served.moved_to:
        request.send_response(served.statuses.pop(0) if served.statuses else 302)
        request.send_header("Location", served.moved_to)
        request.send_header("Content-Length", "0")
        request.end_headers()
        return
    start = _start(request, served)
    if start and start >= len(served.content):
        request.send_response(416)
        request.send_header("Content-Range", f"bytes */{len(served.content)}")
        request.end_headers()
        return
    body = served.content[start:]
    request.send_response(206 if start else 200)
    if start:
        request.send_header("Content-Range", f"bytes {start}-{len(served.content) - 1}/{len(served.content)}")
    if served.mark:
        request.send_header("ETag", served.mark)
    if served.length:
        request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body[: served.breaks.pop(0)] if served.breaks else body)
    request.close_connection = True


def _start(request: BaseHTTPRequestHandler, served: Served) -> int:
    asked = request.headers.get("Range", "")
    same = not served.obeys_if_range or request.headers.get("If-Range", served.mark) == served.mark
    return int(asked.removeprefix("bytes=").rstrip("-")) if asked and served.ranges and same else 0
