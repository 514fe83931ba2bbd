"""supervisord as a child: its configuration, its start and end, and what it knows about its programs."""

from __future__ import annotations

import http.client
import os
import shlex
import signal
import subprocess
import sys
import xmlrpc.client
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from supervisor.xmlrpc import SupervisorTransport

from visearch_site.local import tether
from visearch_site.local.errors import LocalError
from visearch_site.local.process import last_lines

SERVERS = "servers"  # started first, stopped last
APP = "app"  # started by us, once the servers answer and the database is migrated
# A program that ends before has failed to start. Python needs a second to load the site.
START_SECONDS = {SERVERS: 1, APP: 3}
# A program that takes longer is killed. The groups stop one after the other, together in less than ten seconds.
STOP_SECONDS = {SERVERS: 3, APP: 4}
LOG_BYTES = "10MB"
LOG_BACKUPS = 3
RETRIES = 10  # each comes a second later than the one before


@dataclass(frozen=True)
class Program:
    """A command that supervisord keeps running in `folder`; `death` is what it gets when that is killed."""

    name: str
    group: str
    command: list[str]
    folder: Path
    stop: signal.Signals = signal.SIGTERM
    death: signal.Signals = signal.SIGTERM
    account: str = ""  # "UID:GID", else ours


@dataclass(frozen=True)
class ProgramState:
    """What supervisord says about a program; `state` is its word: STARTING, RUNNING, BACKOFF, EXITED, FATAL."""

    state: str
    pid: int
    exit_status: int


def configuration(programs: list[Program], local: Path, control: Path) -> str:
    """The text of supervisord.conf. It holds no secret: programs inherit the environment."""
    head = f"""\
[supervisord]
nodaemon=true
silent=true
logfile={_literal(local / "log" / "supervisord.log")}
logfile_maxbytes={LOG_BYTES}
logfile_backups={LOG_BACKUPS}
pidfile={_literal(local / "supervisord.pid")}
{"user=root" if os.geteuid() == 0 else ""}

[unix_http_server]
file={_literal(control)}
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""
    groups = "".join(_group(name, programs, priority) for priority, name in enumerate((SERVERS, APP), start=1))
    return head + groups + "".join(_program(program, local) for program in programs)


class Supervisor:
    """A running supervisord."""

    def __init__(self, local: Path, control: Path) -> None:
        self.local = local
        self.control = control
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, programs: list[Program], environment: Mapping[str, str]) -> None:
        """Starts supervisord, which starts the servers. Raises LocalError when it does not come up."""
        path = self.local / "supervisord.conf"
        path.write_text(configuration(programs, self.local, self.control))
        command = [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(path)]
        tethered = tether.command_line(command, parent=os.getpid())
        with (self.local / "log" / "supervisord.out").open("wb") as output:
            self.process = subprocess.Popen(  # noqa: S603
                tethered,
                cwd=self.local,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def check(self) -> None:
        """Raises LocalError when supervisord has ended without being asked to."""
        if self.process is None or self.process.poll() is not None:
            said = last_lines(self.local / "log" / "supervisord.out") or last_lines(
                self.local / "log" / "supervisord.log"
            )
            raise LocalError(f"supervisord has ended:\n{said}")

    def states(self) -> dict[str, ProgramState]:
        """Each program's state by its name; none while supervisord does not answer yet."""
        self.check()
        try:
            answer = cast("list[dict[str, Any]]", self._ask("getAllProcessInfo"))
        except (OSError, http.client.HTTPException):
            return {}
        return {item["name"]: ProgramState(item["statename"], item["pid"], item["exitstatus"]) for item in answer}

    def start_program(self, name: str) -> None:
        """Starts one program of the site without waiting for it."""
        self._ask("startProcess", f"{APP}:{name}", False)

    def start_app(self) -> None:
        """Starts the programs of the site that do not run yet, without waiting for them."""
        self._ask("startProcessGroup", APP, False)

    def stop(self, patience: float) -> None:
        """Ends the programs of the site, then the servers, then supervisord; kills it after `patience` seconds."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _ask(self, method: str, *arguments: object) -> object:
        transport = SupervisorTransport(None, None, f"unix://{self.control}")
        with xmlrpc.client.ServerProxy("http://localhost", transport=transport) as proxy:
            return getattr(proxy.supervisor, method)(*arguments)


def _literal(value: object, expanded: int = 1) -> str:
    """supervisord expands %(name)s in values, and `expanded` times in names of log files."""
    return str(value).replace("%", "%" * 2**expanded)


def _group(name: str, programs: list[Program], priority: int) -> str:
    members = ",".join(program.name for program in programs if program.group == name)
    return f"\n[group:{name}]\nprograms={members}\npriority={priority}\n" if members else ""


def _program(program: Program, local: Path) -> str:
    parent = "PARENT"  # put in after escaping
    command = tether.command_line(program.command, parent=parent, death=program.death, account=program.account)
    line = _literal(shlex.join(command)).replace(f"--parent {parent}", f"--parent %(ENV_{tether.PID_VARIABLE})s", 1)
    return f"""
[program:{program.name}]
command={line}
directory={_literal(program.folder)}
autostart={"true" if program.group == SERVERS else "false"}
autorestart=true
startsecs={START_SECONDS[program.group]}
startretries={RETRIES}
stopsignal={program.stop.name.removeprefix("SIG")}
stopwaitsecs={STOP_SECONDS[program.group]}
killasgroup=true
redirect_stderr=true
stdout_logfile={_literal(local / "log" / f"{program.name}.log", expanded=2)}
stdout_logfile_maxbytes={LOG_BYTES}
stdout_logfile_backups={LOG_BACKUPS}
"""
