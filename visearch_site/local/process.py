"""A server running as a child of this process: started so that it dies with us, waited for, and stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from visearch_site.local import tether
from visearch_site.local.account import Account
from visearch_site.local.errors import LocalError

START_SECONDS = 60
STOP_SECONDS = 10


@dataclass
class ServerProcess:
    """A running server. `stop` ends it in order, `kill` as a power cut would; both may be called twice."""

    name: str
    stop_signal: signal.Signals
    log_file: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def pid(self) -> int:
        return self.process.pid

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def wait_until(self, is_ready: Callable[[], bool]) -> None:
        """Returns when `is_ready`. Raises LocalError, with the end of the log, when that is not to be."""
        deadline = time.monotonic() + START_SECONDS
        while not is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise LocalError(f"{self.name} did not start. The end of {self.log_file}:\n{last_lines(self.log_file)}")
            time.sleep(0.05)


def start(
    name: str, command: list[str], *, folder: Path, account: Account | None, death: signal.Signals, stop: signal.Signals
) -> ServerProcess:
    """Starts a server working in `folder`, in a session of its own; what it says goes to `folder`.log."""
    log_file = folder.with_name(f"{folder.name}.log")
    tethered = tether.command_line(command, parent=os.getpid(), death=death, account=tether_account(account))
    with log_file.open("ab") as log:
        process = subprocess.Popen(  # noqa: S603
            tethered, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    return ServerProcess(name, stop, log_file, process)


def tether_account(account: Account | None) -> str:
    return "" if account is None else f"{account.uid}:{account.gid}"


def last_lines(path: Path, count: int = 15) -> str:
    """The last lines of a log, or "" when there is none."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-count:])
    except OSError:
        return ""
