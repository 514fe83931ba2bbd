"""`make up`: from nothing to a serving site, and back to nothing."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from visearch_site.local import tether
from visearch_site.local.account import Account, servers_account
from visearch_site.local.environment import write_env
from visearch_site.local.errors import LocalError
from visearch_site.local.files import State
from visearch_site.local.lock import AlreadyRunning, only_one
from visearch_site.local.own_servers import own_servers
from visearch_site.local.places import make_folder, servers_home, socket_folder, var_dir
from visearch_site.local.probe import compact, fetch, require_free_port
from visearch_site.local.process import last_lines
from visearch_site.local.site import Load, Site
from visearch_site.local.supervision import ProgramState, Supervisor
from visearch_site.local.terminal import say
from visearch_site.local.tree import MARK, Tree
from visearch_site.local.watch import FATAL, Watch

START_SECONDS = 120  # for the servers (Postgres may have to recover), and again for the site
READY_SECONDS = 30
LEFTOVER_SECONDS = 12  # an earlier start that was killed is still ending its programs in order
STOP_SECONDS = 8
POLL_SECONDS = 0.3
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
HTTP_ERRORS = 500  # the first status by which a server says that it is at fault


def run(site: Site) -> int:
    """Serves until a signal (SIGINT, SIGTERM, SIGHUP) and returns the exit status. One that runs already is left alone.

    Raises LocalError saying what to do when something cannot be started; what was started is ended before.
    """
    local = make_folder(var_dir() / "local")
    try:
        with only_one(local / "lock", site.address):
            return Launch(site, local).run()
    except AlreadyRunning as other:
        say(str(other))
        return 0


class Launch:
    """One start of the site; the lock is held while it runs."""

    def __init__(self, site: Site, local: Path) -> None:
        self.site = site
        self.local = local
        self.logs = make_folder(local / "log")
        self.state = State(local / "state.json")
        self.account = servers_account()
        self.home = servers_home(local, self.account)
        self.tree = Tree(local, self.home)
        self.environment: dict[str, str] = {}
        self.folders: list[Path] = []
        self.supervisor: Supervisor | None = None
        self.child: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        """1. Servers. 2. Database, static files, models. 3. Web, worker, beat. 4. Watches and loads until a signal."""
        for number in SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
                signal.signal(number, signal.default_int_handler)
        try:
            self._clear_the_way()
            supervisor = self._start_servers()
            self._prepare()
            self._start_app(supervisor)
            self._watch(supervisor)
        except KeyboardInterrupt:
            say("\nStopping ...")
        finally:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            self._end()
        say("Stopped.")
        return 0

    # --- Before -------------------------------------------------------------------------------------------------------

    def _clear_the_way(self) -> None:
        """Ends what an earlier start that was killed left over, then checks that the address is free."""
        if self.tree.end(LEFTOVER_SECONDS):
            say("Ended what an earlier start had left running.")
        require_free_port(self.site.host, self.site.port)
        if self.account is not None:
            say(f"As root: Postgres and Redis run as the user {self.account.name}, with their data in {self.home}.")

    def _socket_folder(self, name: str, account: Account | None) -> Path:
        """The folder of this name of an earlier start that was killed, emptied, or a new one; removed at the end."""
        folder = socket_folder(account, self.state.folder(name))
        for stale in folder.iterdir():
            stale.unlink()
        self.state.put(name, str(folder))
        self.folders.append(folder)
        return folder

    # --- Up -----------------------------------------------------------------------------------------------------------

    def _start_servers(self) -> Supervisor:
        sockets = self._socket_folder("sockets", self.account)
        control = self._socket_folder("control", None)
        servers = own_servers(self.home, sockets, self.account)
        urls = {server.variable: server.url for server in servers}
        self.environment = write_env(self.local / "env", os.environ, host=self.site.host, own=urls) | {
            MARK: str(self.local)
        }
        self.supervisor = Supervisor(self.local, control / "supervisor.sock")
        self.supervisor.start([*(server.program for server in servers), *self.site.programs], self.environment)
        names = [server.program.name for server in servers]
        self._wait(self.supervisor, names, lambda: all(server.answers() for server in servers))
        return self.supervisor

    def _prepare(self) -> None:
        log = self.logs / "prepare.log"
        with log.open("wb") as file:
            self.child = self._start_child(self.site.prepare, stderr=file.fileno())
            status = self.child.wait()
        if status != 0:
            raise LocalError(f"The site could not be prepared. The end of {log}:\n{last_lines(log)}")

    def _start_app(self, supervisor: Supervisor) -> None:
        """The web program alone, so that it has the cores to itself until it answers; then the others."""
        web = self.site.programs[0].name
        health, ready = f"{self.site.address}/healthz", f"{self.site.address}/readyz"
        self._wait(supervisor, [], lambda: bool(supervisor.states()))
        supervisor.start_program(web)
        self._wait(supervisor, [web], lambda: 0 < fetch(health)[0] < HTTP_ERRORS)
        supervisor.start_app()
        deadline = time.monotonic() + READY_SECONDS
        while (answer := fetch(ready))[0] >= HTTP_ERRORS and time.monotonic() < deadline:
            supervisor.check()
            time.sleep(POLL_SECONDS)
        if answer[0] >= HTTP_ERRORS:
            say(f"Serving, but not ready: {compact(answer[1])}")
        self._say_addresses()

    def _say_addresses(self) -> None:
        address = self.site.address
        say(f"\n  visearch   {address}/\n  API docs   {address}/api/docs/\n  admin      {address}/admin/")
        say(f"  logs       {self.logs}\n\nCtrl-C ends it.\n")

    def _wait(self, supervisor: Supervisor, names: Iterable[str], done: Callable[[], bool]) -> None:
        """Returns when `done`. Raises LocalError with the end of the log of one of `names` that does not start."""
        deadline = time.monotonic() + START_SECONDS
        while not done():
            states = supervisor.states()
            late = time.monotonic() > deadline
            for name in names:
                if late or states.get(name, ProgramState("", 0, 0)).state == FATAL:
                    log = self.logs / f"{name}.log"
                    raise LocalError(f"{name} does not start. The end of {log}:\n{last_lines(log)}")
            time.sleep(POLL_SECONDS)

    # --- While it serves ----------------------------------------------------------------------------------------------

    def _watch(self, supervisor: Supervisor) -> None:
        """Says what dies and comes back, ends what a dead program left, and loads images one folder after the other."""
        loads = [load for load in self.site.loads if not (load.once and self._is_loaded(load))]
        running: Load | None = None
        watch = Watch(self.logs)
        while True:
            changes = watch.look(supervisor.states())
            for message in changes.messages:
                say(message)
            for group in changes.died:
                self.tree.end_group(group)
            running = self._advance(running, loads)
            time.sleep(POLL_SECONDS)

    def _advance(self, running: Load | None, loads: list[Load]) -> Load | None:
        """The folder that is being loaded: still `running`, or the next of `loads`, or None."""
        if running is not None:
            status = None if self.child is None else self.child.poll()
            if status is None:
                return running
            self._finish(running, status)
        if not loads:
            return None
        say(f"Loading {loads[0].title} ...")
        self.child = self._start_child(loads[0].command)
        return loads.pop(0)

    def _finish(self, load: Load, status: int) -> None:
        if status != 0:
            say(f"Loading {load.title} ended with status {status}. To try again: {' '.join(load.command)}")
            return
        say(f"Loaded {load.title}.")
        self.state.put(f"loaded {load.title}", self._database())

    def _is_loaded(self, load: Load) -> bool:
        return self.state.get(f"loaded {load.title}") == self._database()

    def _database(self) -> str:
        """What tells this database from another: a hash of its address without the place of the socket."""
        return hashlib.sha256(self.environment["DATABASE_URL"].partition("?")[0].encode()).hexdigest()

    def _start_child(self, command: list[str], stderr: int | None = None) -> subprocess.Popen[bytes]:
        """A command of the site's own, in a session of its own, so that Ctrl-C reaches us alone and we end it."""
        tethered = tether.command_line(command, parent=os.getpid())
        return subprocess.Popen(  # noqa: S603
            tethered,
            cwd=self.site.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )

    # --- After --------------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """Ends the running command, the site, the servers, then what is left of them; removes the socket folders."""
        if self.child is not None and self.child.poll() is None:
            self.child.terminate()
        if self.supervisor is not None:
            self.supervisor.stop(STOP_SECONDS)
        self.tree.end(0)
        if self.child is not None:
            self.child.wait()
        for folder in self.folders:
            shutil.rmtree(folder, ignore_errors=True)
