"""Runs a command that dies with its parent: `tether.py --parent PID [--death SIGNAL] [--account UID:GID] -- COMMAND`.

1. Becomes the unprivileged account, when one is named, with an environment that holds no secret.
2. Asks the kernel for SIGNAL when the parent dies (prctl PR_SET_PDEATHSIG; Linux, elsewhere nothing happens).
3. Ends at once if the parent is gone already.
4. Replaces itself by the command, which thereby keeps the process id.

A change of user clears the request of step 2, hence the order, and hence a supervisor cannot change the user by itself.
Only the standard library, run by path with `-I -S`: a tether costs 20 ms and reads nothing of the site.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h
HARMLESS = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "VISEARCH_TREE")
PID_VARIABLE = "VISEARCH_TETHER_PID"  # for the command's own children: their --parent


def command_line(
    command: list[str], *, parent: int | str, death: signal.Signals = signal.SIGTERM, account: str = ""
) -> list[str]:
    """What to run instead of `command`, so that it gets the signal `death` when the process `parent` dies."""
    tether = [sys.executable, "-I", "-S", os.path.abspath(__file__), "--parent", str(parent), "--death", death.name]  # noqa: PTH100
    return [*tether, *(["--account", account] if account else []), "--", *command]


def become(account: str) -> None:
    """Changes to the user and group of "UID:GID", for good."""
    uid, gid = (int(part) for part in account.split(":"))
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def die_with_parent(death: signal.Signals) -> None:
    """Asks the kernel to send `death` to this process when the thread that started it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(death), 0, 0, 0)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--death", type=signal.Signals.__getitem__, default=signal.SIGTERM)
    parser.add_argument("--account", default="")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    environment = dict(os.environ)
    if options.account:
        become(options.account)
        environment = {name: value for name, value in environment.items() if name in HARMLESS}
    die_with_parent(options.death)
    if os.getppid() != options.parent:
        sys.exit("tether: the parent is gone")
    environment[PID_VARIABLE] = str(os.getpid())
    os.execve(options.command[0], options.command, environment)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
