"""A site as small as can be, launched as the real one is: `PYTHONPATH=. python .../small_site.py PORT`.

Its web program answers the health pages and leaves a child behind when it is killed; its other programs only wait.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from visearch_site.local.errors import LocalError
from visearch_site.local.launch import run
from visearch_site.local.site import Load, Site
from visearch_site.local.supervision import APP, Program

HERE = Path(__file__).resolve()
FOLDER = HERE.parents[3]


class Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")


def serve(port: int) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])

    def end(*_: object) -> None:
        child.kill()
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    ThreadingHTTPServer(("127.0.0.1", port), Health).serve_forever()


def wait() -> None:
    threading.Event().wait()


def small_site(port: int) -> Site:
    def program(name: str, *arguments: str) -> Program:
        return Program(name, APP, [sys.executable, str(HERE), *arguments], FOLDER)

    programs = [program("web", "serve", str(port)), program("worker", "wait"), program("beat", "wait")]
    load = Load("one folder", [sys.executable, "-c", "print('a folder is read')"], once=True)
    return Site("127.0.0.1", port, programs, [sys.executable, "-c", "print('prepared')"], [load], FOLDER)


def main(arguments: list[str]) -> int:
    if arguments[0] == "serve":
        serve(int(arguments[1]))
    if arguments[0] == "wait":
        wait()
    try:
        return run(small_site(int(arguments[0])))
    except LocalError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
