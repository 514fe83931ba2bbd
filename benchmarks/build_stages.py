"""Seeing from outside where a build is, so that it can be killed there. Production code has no part in it.

Python loads a module ``sitecustomize`` from PYTHONPATH in every process; ours adds an audit hook (PEP 578), which sees
each file that is opened or renamed, writes down what stage of a build that means, and where it is told to stays there
until the process is killed.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

# In the order of a build. "save" is seen by nobody, as NMSLIB writes the file itself: a pipe is put in its place,
# which takes the first 64 kB and no more, so that the process is killed in the middle of it.
STAGES = ("stream", "add", "build", "save", "flush", "self-test", "before the rename", "before the pointer", "after it")
HELD = {"flush", "before the rename", "before the pointer", "after it"}  # moments; the others last for a while
GRAPH = "index.hnsw"

HOOK = """
import os, sys, time

report = os.open(os.environ["BUILD_STAGES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
held = os.environ.get("BUILD_HELD_AT", "")
module = next((word.rpartition(".")[2] for word in sys.orig_argv if word.startswith("search.engines.")), "")
seen, moved = set(), False

def stage_of(event, args):
    global moved
    if event == "os.rename":
        source, target = os.fspath(args[0]), os.fspath(args[1])
        if "/building-" in source and "/building-" not in target:
            return "before the rename"
        if target.endswith("/current"):
            moved = True
            return "before the pointer"
        return None
    path, mode = args[0], args[1]
    if not isinstance(path, (str, os.PathLike)):
        return None
    path = os.fspath(path)
    if not isinstance(path, str):
        return None
    name = path.rpartition("/")[2]
    if not module:
        if name == "vectors.npy" and mode is not None and mode.startswith("x"):
            return "stream"
        return "after it" if moved and mode is None and os.path.exists(path + "/current") else None
    if module == "graph_build":
        if name == "vectors.npy":
            return "add"
        if name == "nodes.npy":
            return "build" if mode is not None else "flush"
    if module == "self_test" and name == "manifest.json":
        return "self-test"
    return None

def hook(event, args):
    if event != "open" and event != "os.rename":
        return
    stage = stage_of(event, args)
    if stage is None or stage in seen:
        return
    seen.add(stage)
    os.write(report, (stage + "\\n").encode())
    if stage == held:
        time.sleep(300)

sys.addaudithook(hook)
"""


class WatchedBuild:
    """A process that builds an index, and the stages it has come to. ``folder`` is empty and its own."""

    def __init__(self, command: Sequence[str], folder: Path, env: Mapping[str, str], stage: str) -> None:
        self._report = folder / "stages"
        self._report.touch()
        self._pipe, self._saving = -1, False
        (folder / "sitecustomize.py").write_text(HOOK)
        path = os.pathsep.join([str(folder), env.get("PYTHONPATH", str(Path.cwd()))])
        own = {"PYTHONPATH": path, "BUILD_STAGES": str(self._report)}
        if stage in HELD:
            own["BUILD_HELD_AT"] = stage
        self.process = psutil.Popen(
            list(command), env={**env, **own}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def stages(self) -> list[str]:
        return self._report.read_text().splitlines()

    def wait_for(self, stage: str, indexes: Path, seconds: float = 300.0) -> bool:
        """Whether it came there; False where the build was over, or had gone past it, before."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.process.poll() is None:
            stages = self.stages()
            if stage in stages or (stage == "save" and "build" in stages and self._is_saving(indexes)):
                return True
            time.sleep(0.001)
        return False

    def _is_saving(self, indexes: Path) -> bool:
        """There is one draft: a build removes those of dead builders before it begins."""
        if self._pipe < 0:
            pipe = next(indexes.glob("**/building-*")) / GRAPH
            os.mkfifo(pipe)
            self._pipe = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        try:
            self._saving = bool(os.read(self._pipe, 1))
        except BlockingIOError:  # opened, nothing written yet
            self._saving = False
        return self._saving

    def kill(self) -> tuple[str, int]:
        """SIGKILL; the stage it was in and the return code. Its children have ended when this returns."""
        children = []
        with suppress(psutil.NoSuchProcess):  # it was over
            children = self.process.children(recursive=True)
            self.process.kill()
        stages = self.stages()
        code = self.process.wait(timeout=30)
        if self._pipe >= 0:
            os.close(self._pipe)  # or a child might wait for ever to write on
        psutil.wait_procs(children, timeout=30)
        return "save" if self._saving else stages[-1] if stages else "start", code
