"""Originals in processes of their own: what they answer, and what becomes of us when they do not."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from catalog.vision.errors import ModelFailed, ModelUnavailable
from catalog.vision.originals import messages
from catalog.vision.originals.client import Original, checked
from tests.fake_original import NAME
from tests.stack import ROOT, wait_for


@pytest.fixture
def fake() -> Iterator[Original]:
    original = Original("fake", NAME, stateless=True)
    yield original
    original.close()


def pid(original: Original) -> int:
    return int(original.ask("who")["pid"])


def ended(process_id: int) -> bool:
    """With all its threads: a zombie whose others are still ending is not yet to be waited for."""
    try:
        if os.waitid(os.P_PID, process_id, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return False
    except ChildProcessError:  # nobody's child of ours, or waited for
        pass
    try:
        return psutil.Process(process_id).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# --- What goes well ---------------------------------------------------------------------------------------------------


def test_arrays_come_back_as_they_went(fake: Original) -> None:
    large = np.random.default_rng(1).integers(0, 256, (640, 480, 3), dtype=np.uint8)
    sent = {"large": large, "none": np.empty((0, 10)), "number": np.array(0.709), "word": np.array("péché")}
    got = fake.ask("echo", **sent)
    assert got.keys() == sent.keys()
    for name, values in sent.items():
        assert got[name].dtype == values.dtype
        np.testing.assert_array_equal(got[name], values)


def test_one_process_answers_all_threads_and_outlives_the_one_that_started_it(fake: Original) -> None:
    found: list[int] = []
    starter = threading.Thread(target=lambda: found.append(pid(fake)))
    starter.start()
    starter.join()
    threads = [threading.Thread(target=lambda: found.append(pid(fake))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 5 and len(set(found)) == 1 and found[0] != os.getpid()


def test_what_libraries_print_is_no_answer(fake: Original) -> None:
    assert fake.ask("babble")["done"]
    assert fake.ask("echo", x=np.arange(3))["x"].tolist() == [0, 1, 2]


def test_it_is_not_told_the_secrets_of_the_site(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {"SECRET_KEY", "DATABASE_URL", "VISEARCH_ORIGINALS_OPTIONS", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD"}
    harmless = {"LC_MESSAGES", "TF_XLA_FLAGS", "PYTHONUTF8"}
    for name in secrets | harmless:
        monkeypatch.setenv(name, "0")
    with closing(Original("fake", NAME, stateless=True)) as original:
        told = set(original.ask("who")["environment"].tolist())
    assert not told & secrets
    assert harmless | {"PATH"} <= told


def test_it_is_kept_from_the_graphics_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where TensorFlow computes in TF32, a hundred times less exact than networks are held to."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with closing(Original("fake", NAME, stateless=True)) as original:
        assert original.ask("who")["cuda"] == "-1"


# --- What goes wrong --------------------------------------------------------------------------------------------------


def test_an_error_is_told_in_one_line_and_the_process_lives_on(fake: Original) -> None:
    before = pid(fake)
    with pytest.raises(ModelFailed, match=r"fake.* an error: ValueError: the weights are of another network$"):
        fake.ask("fail")
    assert pid(fake) == before


def test_the_log_has_the_traceback_of_an_error_and_what_is_printed_takes_no_room(
    fake: Original, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        fake.ask("babble")
        with pytest.raises(ModelFailed):
            fake.ask("fail")
    assert caplog.text.count("Traceback") == 3
    assert "in fail" in caplog.text and "[====" not in caplog.text
    kept = Path(f"/proc/{pid(fake)}/fd/2").stat().st_size
    assert kept == 0


def test_a_process_that_dies_is_told_with_its_last_words_and_replaced(fake: Original) -> None:
    before = pid(fake)
    with pytest.raises(ModelFailed, match=r"ended with status 3, after it had said 'out of patience'"):
        fake.ask("die", status=np.array(3))
    assert pid(fake) != before


def test_a_process_that_was_killed_between_two_requests_is_replaced(fake: Original) -> None:
    before = pid(fake)
    os.kill(before, signal.SIGKILL)
    wait_for("its end", lambda: ended(before))
    assert pid(fake) != before


def test_a_process_that_is_killed_while_it_works_is_told(fake: Original) -> None:
    victim = pid(fake)
    killer = threading.Timer(0.2, os.kill, (victim, signal.SIGKILL))
    killer.start()
    with pytest.raises(ModelFailed, match="was ended by SIGKILL without a word"):
        fake.ask("hang")


def test_a_process_that_hangs_is_ended() -> None:
    original = Original("fake", NAME, answer_seconds=0.5, stateless=True)
    before = pid(original)
    with pytest.raises(ModelFailed, match=r"did not answer within 0\.5 s"):
        original.ask("hang")
    assert ended(before)
    assert pid(original) != before
    original.close()


def refused(original: Original, says: str) -> ModelUnavailable:
    """What a request raises: the model cannot be used at all, whatever is asked."""
    with pytest.raises(ModelUnavailable, match=says) as raised:
        original.ask("who")
    assert not isinstance(raised.value, ModelFailed)
    return raised.value


def test_a_program_that_does_not_load_says_why() -> None:
    refused(Original("fake", NAME, ["broken"]), r"could not start: ImportError: no module of that name$")


def test_a_program_that_never_finishes_loading_is_ended() -> None:
    refused(Original("fake", NAME, ["slow"], start_seconds=1), "did not answer within 1 s")


def test_a_program_that_does_not_load_is_not_tried_at_every_request(tmp_path: Path) -> None:
    note = tmp_path / "starts"
    original = Original("fake", NAME, ["broken", str(note)], stateless=True)
    first, second = (refused(original, "no module of that name") for _ in range(2))
    assert str(first) == str(second)
    assert note.read_text() == "started\n"
    patient = Original("fake", NAME, ["broken", str(note)], stateless=True, rest_seconds=0)
    for _ in range(2):
        refused(patient, "no module of that name")
    assert note.read_text() == "started\n" * 3


def test_nobody_waits_for_others_without_end() -> None:
    original = Original("fake", NAME, answer_seconds=1, stateless=True)
    pid(original)
    with original._turn():  # as in the middle of another thread's request, whose own time is not over yet
        refused(original, "was busy with other requests for 1 s")
    assert pid(original)
    original.close()


def test_what_keeps_what_it_was_told_is_not_started_again() -> None:
    """Another process would know nothing of it."""
    training = Original("training", NAME)
    with pytest.raises(ModelFailed, match=r"The process of training ended with status 3"):
        training.ask("die", status=np.array(3))
    refused(training, "The process of training has ended, and what it was told with it")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({}, "gave nothing for vectors"),
        ({"vectors": np.zeros((2, 5))}, r"gave float64 of shape \(2, 5\) for vectors, not numbers of shape \(2, 4\)"),
        ({"vectors": np.zeros(8)}, r"of shape \(8,\)"),
        ({"vectors": np.array([["a"] * 4] * 2)}, "for vectors, not numbers"),
        ({"vectors": np.full((2, 4), np.nan)}, "not finite"),
    ],
)
def test_an_answer_of_another_form_is_refused(answer: dict[str, NDArray[np.generic]], says: str) -> None:
    with pytest.raises(ModelFailed, match=says):
        checked("fake", answer, {"vectors": (2, 4)})


# --- Ends and forks ---------------------------------------------------------------------------------------------------

PARENT = f"""
import os, sys, time
from catalog.vision.originals.client import Original
original = Original("fake", {NAME!r})
print(int(original.ask("who")["pid"]), flush=True)
if sys.argv[1] == "working":
    original.ask("hang")
time.sleep(600)
"""


@pytest.mark.parametrize("doing", ["waiting", "working"])
def test_it_ends_with_a_parent_that_was_killed(doing: str) -> None:
    command = [sys.executable, "-c", PARENT, doing]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        assert not ended(child)
        parent.kill()
    wait_for("its end", lambda: ended(child))


def test_it_ends_with_whoever_asked() -> None:
    original = Original("fake", NAME, stateless=True)
    process_id = pid(original)
    del original
    assert ended(process_id)


def _in_a_fork(original: Original, answers: multiprocessing.Queue[int]) -> None:
    answers.put(pid(original))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forking with threads is what is tested
def test_a_fork_starts_a_process_of_its_own_and_leaves_ours_alone(fake: Original) -> None:
    before = pid(fake)
    fork = multiprocessing.get_context("fork")
    answers = fork.Queue()
    child = fork.Process(target=_in_a_fork, args=(fake, answers))
    child.start()
    assert answers.get(timeout=60) != before
    child.join(60)
    assert child.exitcode == 0
    assert pid(fake) == before


# --- Messages ---------------------------------------------------------------------------------------------------------


def test_a_message_that_breaks_off_is_none() -> None:
    pipe = io.BytesIO()
    messages.send(pipe, {"x": np.arange(100)})
    for length in (0, 4, 8, 60, len(pipe.getvalue()) - 1):
        with pytest.raises(messages.Ended):
            messages.receive(io.BytesIO(pipe.getvalue()[:length]))


def test_a_length_that_none_can_have_is_refused_before_reading() -> None:
    with pytest.raises(messages.Ended, match="bytes was announced"):
        messages.receive(io.BytesIO(b"Traceback (most recent call last)"))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    trap = tmp_path / "made"

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str, int]]:
            return os.open, (str(trap), os.O_CREAT)

    content = io.BytesIO()
    np.savez(content, x=np.array([Trap()], dtype=object), allow_pickle=True)
    data = content.getvalue()
    with pytest.raises(messages.Ended, match="could not be read"):
        messages.receive(io.BytesIO(len(data).to_bytes(8, "big") + data))
    assert not trap.exists()
