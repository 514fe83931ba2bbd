"""The processes that decode, really killed, stopped, starved and forked around: the file pays for it, nobody else."""

from __future__ import annotations

import io
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from catalog.vision import helper
from catalog.vision.decode import MOST_MEMORY, Limits
from catalog.vision.errors import DecoderUnavailable, ImageRefused
from catalog.vision.helper import children, client
from catalog.vision.helper.children import Child
from catalog.vision.helper.messages import SHARED_BYTES
from tests.drawn import photo
from tests.hostile import jpeg_of_many_scans, tiff_in_one_strip
from tests.library import InThread
from tests.stack import ROOT, wait_for

LIMITS = Limits()
GOOD = photo(size=(200, 150))


@pytest.fixture(autouse=True)
def _no_child_of_others() -> Iterator[None]:
    children.end_all()
    yield
    children.end_all()


@pytest.fixture
def long_work() -> bytes:
    """A few kilobytes that keep a child busy for seconds."""
    return jpeg_of_many_scans(2000, 4000)


def asked_child(but: tuple[int, ...] = ()) -> Child:
    """The child that has a file in hand."""
    found: list[Child] = []

    def is_there() -> bool:
        found[:] = [each for each in list(children._all) if each.asked and each.is_alive and each.pid not in but]
        return bool(found)

    wait_for("a child that reads", is_there)
    return found[0]


def assert_next_file_is_read() -> None:
    assert helper.read_image(io.BytesIO(GOOD), "a.jpg", LIMITS).pixels.size == (200, 150)


def is_gone(pid: int) -> bool:
    """Ended, whether or not somebody has taken note."""
    try:
        return "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True


# --- Killed -----------------------------------------------------------------------------------------------------------


def test_a_file_whose_child_is_killed_is_read_by_another() -> None:
    work = InThread(lambda: helper.inspect(io.BytesIO(jpeg_of_many_scans(2000, 300)), "a.jpg", LIMITS))
    os.kill(asked_child().pid, signal.SIGKILL)
    assert work.outcome().header.width == 2000


def test_a_file_that_ends_two_children_is_refused_and_the_next_one_is_read(long_work: bytes) -> None:
    work = InThread(lambda: helper.inspect(io.BytesIO(long_work), "a.jpg", LIMITS))
    first = asked_child().pid
    os.kill(first, signal.SIGKILL)
    os.kill(asked_child(but=(first,)).pid, signal.SIGSEGV)
    with pytest.raises(ImageRefused, match="broke off twice") as refused:
        work.outcome()
    assert refused.value.code == "decoder-died"
    assert_next_file_is_read()


def test_a_child_that_dies_between_two_files_is_replaced() -> None:
    assert_next_file_is_read()
    pid = asked_child().pid
    os.kill(pid, signal.SIGKILL)
    assert_next_file_is_read()
    assert asked_child().pid != pid


# --- Time -------------------------------------------------------------------------------------------------------------


def test_a_file_that_takes_too_long_is_refused_and_the_next_one_is_read(
    monkeypatch: pytest.MonkeyPatch, long_work: bytes
) -> None:
    """The real limit is run into by benchmarks/hostile.py; here a shorter one is."""
    monkeypatch.setattr(children, "SECONDS", 0.5)
    with pytest.raises(ImageRefused) as refused:
        helper.read_image(io.BytesIO(long_work), "a.jpg", LIMITS)
    assert refused.value.code == "too-slow"
    monkeypatch.undo()
    assert_next_file_is_read()


def test_a_child_that_gets_no_time_is_no_fault_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert_next_file_is_read()
    pid = asked_child().pid
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(children, "SECONDS", 0.3)
    monkeypatch.setattr(children, "_PATIENCE", 0.5)
    with pytest.raises(DecoderUnavailable, match="had a processor for"):
        helper.read_image(io.BytesIO(GOOD), "a.jpg", LIMITS)
    monkeypatch.undo()
    assert is_gone(pid)
    assert_next_file_is_read()


# --- What is left of them ---------------------------------------------------------------------------------------------

SAYS_NONSENSE = """
import socket, sys, time
sock = socket.socket(fileno=int(sys.argv[1]))
sock.send(b"ready")
sock.recv(1 << 16)
sock.send(b'{"header": {"format": "JPEG", "width": -1}}')
time.sleep(120)
"""
DIES = """
import os, signal, socket, sys
sock = socket.socket(fileno=int(sys.argv[1]))
sock.send(b"ready")
sock.recv(1 << 16)
os.kill(os.getpid(), signal.SIGSEGV)
"""
NEVER_ANSWERS = """
import socket, sys
sock = socket.socket(fileno=int(sys.argv[1]))
sock.send(b"ready")
while True: pass
"""


def descriptors() -> list[str]:
    """What this process has open, but for plain files."""
    found = []
    for each in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # that of this very look
            found.append(str(each.readlink()))
    return sorted(name for name in found if name.startswith(("/memfd:visearch", "socket:", "pipe:")))


def descriptors_and_children() -> tuple[list[str], list[str]]:
    return descriptors(), _children_of(os.getpid())


@pytest.mark.parametrize(
    ("program", "code"), [(SAYS_NONSENSE, "decoder-died"), (DIES, "decoder-died"), (NEVER_ANSWERS, "too-slow")]
)
def test_of_a_child_that_fails_nothing_is_left(monkeypatch: pytest.MonkeyPatch, program: str, code: str) -> None:
    """Neither a descriptor nor a process, whatever somebody who took it over lets it do."""
    before = descriptors_and_children()
    monkeypatch.setattr(children, "_COMMAND", (sys.executable, "-c", program))
    monkeypatch.setattr(children, "SECONDS", 0.2)
    for _ in range(2):
        with pytest.raises(ImageRefused) as refused:
            helper.inspect(io.BytesIO(GOOD), "a.jpg", LIMITS)
        assert refused.value.code == code
    assert descriptors_and_children() == before
    monkeypatch.undo()
    assert_next_file_is_read()


def test_of_files_that_are_read_or_refused_no_descriptor_is_left() -> None:
    def read_and_refused() -> None:
        helper.inspect(io.BytesIO(GOOD), "a.jpg", LIMITS)
        with pytest.raises(ImageRefused):
            helper.inspect(io.BytesIO(GOOD[:-900]), "a.jpg", LIMITS)

    read_and_refused()
    before = descriptors_and_children()
    for _ in range(3):
        read_and_refused()
    assert descriptors_and_children() == before


def test_the_last_image_is_not_kept_until_the_next_one() -> None:
    assert_next_file_is_read()
    child = asked_child()
    wait_for("the image to be forgotten", lambda: not any(child.shared(SHARED_BYTES)[: 200 * 150 * 3]))
    maps = Path(f"/proc/{child.pid}/smaps").read_text().partition("visearch-pixels")[2]
    resident = next(line.split()[1] for line in maps.splitlines() if line.startswith("Rss:"))
    assert resident == "0"
    assert_next_file_is_read()


def test_whoever_waits_for_a_turn_holds_no_copy_of_its_file(monkeypatch: pytest.MonkeyPatch, long_work: bytes) -> None:
    """Many that send large files at once would fill the memory with them."""
    monkeypatch.setattr(client._pool, "turns", threading.BoundedSemaphore(1))
    monkeypatch.setattr(children, "SECONDS", 0.3)
    works = [InThread(lambda: helper.inspect(io.BytesIO(long_work), "a.jpg", LIMITS)) for _ in range(2)]
    most = 0
    while any(work.is_alive() for work in works):
        most = max(most, len([name for name in descriptors() if "visearch-file" in name]))
        time.sleep(0.01)
    for work in works:
        with pytest.raises(ImageRefused, match="took longer"):
            work.outcome()
    assert most == 1


# --- Memory -----------------------------------------------------------------------------------------------------------


def test_a_file_that_needs_too_much_memory_is_refused_and_the_next_one_is_read() -> None:
    """It has as many pixels as are allowed."""
    file = io.BytesIO(tiff_in_one_strip())
    with pytest.raises(ImageRefused, match="512 MB") as refused:
        helper.inspect(file, "a.tiff", LIMITS)
    assert refused.value.code == "too-much-memory"
    assert_next_file_is_read()


def test_a_child_has_limits_and_nothing_of_ours() -> None:
    """Neither the environment with its passwords, nor what the site or the networks are made of."""
    assert_next_file_is_read()
    pid = asked_child().pid
    assert 0 < resource.prlimit(pid, resource.RLIMIT_DATA)[0] < 1.2 * MOST_MEMORY
    assert resource.prlimit(pid, resource.RLIMIT_NOFILE)[1] <= 64
    assert resource.prlimit(pid, resource.RLIMIT_FSIZE) == resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)
    assert 0 < resource.prlimit(pid, resource.RLIMIT_CPU)[0] < 60
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    assert os.environ["SECRET_KEY"].encode() not in environment
    assert b"DATABASE_URL" not in environment
    loaded = Path(f"/proc/{pid}/maps").read_text()
    assert "PIL/_imaging" in loaded
    assert not [name for name in ("/cv2/", "/onnxruntime/", "/psycopg", "/scipy/") if name in loaded]


def test_the_program_of_a_child_imports_neither_the_site_nor_networks() -> None:
    program = "import sys, catalog.vision.helper.child, catalog.vision.likeness; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert {"PIL", "numpy", "pi_heif", "imagehash"} <= loaded
    assert not loaded & {"django", "cv2", "onnxruntime", "onnx", "search", "celery"}


# --- Starting ---------------------------------------------------------------------------------------------------------


def test_where_no_child_can_be_started_the_file_is_not_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "_COMMAND", ("/nowhere/python",))
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(DecoderUnavailable, match="cannot be started: No such file"):
            helper.inspect(io.BytesIO(GOOD), "a.jpg", LIMITS)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
    monkeypatch.undo()
    assert_next_file_is_read()


def test_a_child_is_replaced_after_many_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FILES_OF_A_CHILD", 2)
    pids = []
    for _ in range(4):
        assert_next_file_is_read()
        pids += [each.pid for each in list(children._all) if each.is_alive]
    assert len(set(pids)) == 2


FORKED = """
import io, os, sys, time
from catalog.vision import helper
from catalog.vision.decode import Limits
from catalog.vision.helper import children
from tests.drawn import photo

def child_of(who):
    assert helper.read_image(io.BytesIO(photo()), "a.jpg", Limits()).pixels.size == (400, 300)
    [pid] = [each.pid for each in list(children._all) if each.is_alive]
    print(who, os.getpid(), pid, flush=True)

child_of("parent")
if os.fork() == 0:
    child_of("forked")
    time.sleep(120)
    os._exit(0)
time.sleep(1)
child_of("parent")
time.sleep(120)
"""


def test_after_a_fork_each_has_its_own_child_and_a_child_ends_with_the_one_it_serves() -> None:
    """As celery and gunicorn do it; and killed, as the system does it to whoever takes too much memory."""
    with subprocess.Popen([sys.executable, "-c", FORKED], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().split() for _ in range(3)]
        served = {who: (int(pid), int(child)) for who, pid, child in lines}
        forked, childs = served["forked"]
        try:
            parents = [line for line in lines if line[0] == "parent"]
            assert len(parents) == 2
            assert parents[0] == parents[1]  # the fork took nothing from it
            assert served["parent"][1] != childs
            process.kill()
            wait_for("the parent's child to end", lambda: is_gone(served["parent"][1]))
            assert not is_gone(childs)
        finally:
            os.kill(forked, signal.SIGKILL)
    wait_for("the other child to end", lambda: is_gone(childs))


def test_a_child_at_work_ends_when_nobody_waits_for_it_any_more(long_work: bytes, tmp_path: Path) -> None:
    path = tmp_path / "slow.jpg"
    path.write_bytes(long_work)
    program = (
        "import sys; from catalog.vision import helper; from catalog.vision.decode import Limits\n"
        "print('begun', flush=True); helper.inspect(open(sys.argv[1], 'rb'), None, Limits())\n"
    )
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        found: list[int] = []

        def is_at_work() -> bool:
            found[:] = [int(each) for each in _children_of(process.pid) if children._processor_seconds(int(each)) > 1]
            return bool(found)

        wait_for("its child to be at work", is_at_work)
        process.kill()
    wait_for("its child to end", lambda: is_gone(found[0]))


def _children_of(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []


def test_nothing_is_waited_for_at_the_end() -> None:
    """A process that has read an image ends as any other does, and its child with it."""
    program = (
        "import io; from catalog.vision import helper; from catalog.vision.decode import Limits\n"
        "from catalog.vision.helper import children; from tests.drawn import photo\n"
        "helper.read_image(io.BytesIO(photo()), None, Limits()); print([each.pid for each in children._all][0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
    wait_for("its child to end", lambda: is_gone(int(done.stdout)))


# --- Before the first file --------------------------------------------------------------------------------------------


def running() -> set[int]:
    return {each.pid for each in list(children._all) if each.is_alive}


def test_a_child_is_there_before_the_first_file_and_reads_it() -> None:
    helper.prepare(1)
    there = running()
    assert len(there) == 1
    assert_next_file_is_read()
    assert running() == there


def test_no_more_children_are_prepared_than_are_asked_at_once() -> None:
    helper.prepare(50)
    helper.prepare(50)
    assert len(running()) == client._pool._most


def test_the_first_file_waits_for_a_child_that_is_being_started() -> None:
    helper.prepare_to_inspect()
    helper.prepare_to_inspect()
    assert helper.inspect(io.BytesIO(GOOD), "a.jpg", LIMITS).header.width == 200
    assert len(running()) == 1


def test_a_child_that_cannot_be_started_ahead_is_told_of_by_the_first_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "_COMMAND", ("/nowhere/python",))
    helper.prepare_to_inspect()
    with pytest.raises(DecoderUnavailable, match="cannot be started"):
        helper.inspect(io.BytesIO(GOOD), "a.jpg", LIMITS)
    with pytest.raises(DecoderUnavailable, match="cannot be started"):
        helper.prepare(1)


def test_an_image_is_forgotten_also_where_another_file_followed_at_once() -> None:
    helper.read_image(io.BytesIO(GOOD), "a.jpg", LIMITS)
    helper.inspect(io.BytesIO(GOOD), "a.jpg", LIMITS)  # of which nothing is shared
    [child] = [each for each in list(children._all) if each.asked == 2]
    assert child._shared is not None
    wait_for("the image to be forgotten", lambda: not any(child._shared[: 200 * 150 * 3]))


def test_a_process_that_ends_while_one_is_started_ahead_says_nothing() -> None:
    ahead = "from catalog.vision import helper; helper.prepare_to_inspect()"
    ended = subprocess.run([sys.executable, "-c", ahead], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stderr == ""
