"""A web server on this machine that says by its paths what it is to answer, and by whom it was asked."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.file_server import running

Answer = tuple[int, dict[str, str], bytes]
JPEG = {"Content-Type": "image/jpeg"}


@dataclass
class Web:
    """``pages``: by path, what the next requests get, the last one for good. ``gate``: closed, no answer goes out.

    ``passes``: after so many requests the gate closes by itself. ``drips``: while it is closed a body goes out all the
    same, a byte at a time. ``asked``: how often for each path; ``most_at_once``: how many requests were under way at
    the same time.
    """

    port: int = 0
    pages: dict[str, list[Answer]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    gate: threading.Event = field(default_factory=threading.Event)
    passes: float = math.inf
    drips: bool = False
    at_once: int = 0
    most_at_once: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def allow(self) -> str:
        """The entry of VISEARCH_FETCH_ALLOW for it."""
        return f"127.0.0.1:{self.port}=127.0.0.0/8"

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def put(self, path: str, *answers: Answer | bytes) -> str:
        """The address of this path, which answers so."""
        self.pages[path] = [(200, JPEG, each) if isinstance(each, bytes) else each for each in answers]
        return f"http://{self.host}{path}"

    def answer(self, path: str) -> tuple[Answer, bool]:
        """And whether it goes out whole, whoever closes the gate meanwhile."""
        with self._lock:
            self.asked[path] += 1
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            if sum(self.asked.values()) > self.passes:
                self.gate.clear()
            is_whole = self.gate.is_set()
        if not is_whole:
            self.gate.wait(0 if self.drips else 30)
        time.sleep(0.01)  # long enough that others can be seen beside it
        with self._lock:
            self.at_once -= 1
            left = self.pages.get(path, [(404, {}, b"")])
            return left.pop(0) if len(left) > 1 else left[0], is_whole

    def open(self) -> None:
        """Everything goes out, and the gate stays open."""
        self.passes = math.inf
        self.gate.set()

    def parts(self, body: bytes, is_whole: bool) -> Iterator[bytes]:
        sent = 0
        while self.drips and not is_whole and sent < len(body) and not self.gate.wait(1):
            yield body[sent : sent + 1]
            sent += 1
        yield body[sent:]


@contextmanager
def serving() -> Iterator[Web]:
    web = Web()
    web.gate.set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            (status, headers, body), is_whole = web.answer(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            for part in web.parts(body, is_whole):
                self.wfile.write(part)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """Whoever asked was killed."""

    with running(Server(("127.0.0.1", 0), Handler)) as web.port:
        try:
            yield web
        finally:
            web.gate.set()
