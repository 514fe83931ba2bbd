"""The NMSLIB engine keeps the contract; what its library does with interrupts, kills and `post` is tried besides."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from search.engines.errors import BuildFailed
from search.engines.nmslib_hnsw import NmslibHnsw
from tests.search.engines.contract import Stored, clustered
from tests.search.engines.graph_contract import GraphContract

CHILD = "search.engines.graph_build"
BUILDER = """
import signal, sys
from pathlib import Path
import numpy as np
from search.engines.nmslib_hnsw import NmslibHnsw
from search.engines.types import IndexSpec, Metric

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes inherit that it is ignored
spec = IndexSpec(Path(sys.argv[1]), "ab" * 32, 24, Metric.L2, NmslibHnsw.check_options({"ef_construction": 2000}))
writer = NmslibHnsw().start(spec)
writer.add(np.arange(60_000), np.random.default_rng(0).normal(size=(60_000, 24)), np.zeros(60_000, dtype=np.int64))
try:
    writer.publish(lambda step, done, total: print(step, flush=True))
except KeyboardInterrupt:
    writer.discard()
    sys.exit("interrupted")
"""


class TestNmslibHnsw(GraphContract):
    engine = NmslibHnsw()

    def test_post_2_keeps_the_promises(self, tmp_path: Path) -> None:
        """The article's setting."""
        spec = self.spec(tmp_path / "index", options=self.engine.check_options({"post": 2}))
        stored = self.publish(spec, Stored.of(clustered(2_000)))
        assert stored.reader.manifest.options["post"] == 2
        assert stored.reader.manifest.measured["recall"] >= 0.98
        firsts = [int(stored.reader.search(vector, 1).ids[0]) for vector in stored.vectors[:200]]
        assert firsts == stored.ids[:200].tolist()

    def test_an_interrupt_ends_a_build_at_once(self, tmp_path: Path) -> None:
        """NMSLIB loses it: createIndex runs to its end. So a process of its own builds, and is ended."""
        builder = psutil.Popen([sys.executable, "-c", BUILDER, str(tmp_path)], stdout=subprocess.PIPE, stderr=-1)
        assert builder.stdout is not None
        while builder.stdout.readline() != b"building\n":
            assert builder.poll() is None
        children = builder.children()
        assert any(CHILD in child.cmdline() for child in children)
        builder.send_signal(signal.SIGINT)
        _, said = builder.communicate()
        assert said.splitlines()[-1] == b"interrupted"
        _, alive = psutil.wait_procs(children, timeout=30)
        assert not alive
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]

    def test_the_builder_process_is_killed(self, tmp_path: Path) -> None:
        """As the kernel does when memory runs out: a clear reason, and the generation before goes on serving."""
        spec = self.spec(tmp_path / "index")
        served = self.publish(spec, Stored.of(clustered(50))).reader.generation
        writer = self.write(spec, Stored.of(clustered(40_000)), chunk=10_000)
        killer = threading.Thread(target=_kill_first_child)
        killer.start()
        with pytest.raises(BuildFailed, match="killed by signal 9"):
            writer.publish()
        killer.join()
        writer.discard()
        assert self.engine.open(spec).generation == served


def _kill_first_child() -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for child in psutil.Process().children():
            if CHILD in child.cmdline():
                child.kill()
                return
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"m": 1}, "m is"),
        ({"m": "16"}, "m is"),
        ({"m": True}, "m is"),
        ({"ef_construction": 5}, "ef_construction"),
        ({"post": 3}, "post"),
        ({"target_recall": 1.5}, "target_recall"),
        ({"M": 16}, "unknown option M"),
    ],
)
def test_bad_options_are_refused_by_name(options: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        NmslibHnsw.check_options(options)
