"""Networks: ONNX files built once from pinned sources, kept with a record of what they are, and checked at every load.

Building happens in `manage.py models build` and in tests. Loading never builds.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from catalog.vision import weights
from catalog.vision.errors import ModelUnavailable
from catalog.vision.onnx_options import OnnxOptions
from catalog.vision.readers.errors import UnreadableWeights
from catalog.vision.weights import LocalFile, Source

REMEDY = "run `manage.py models build`"


@dataclass(frozen=True, slots=True)
class Network:
    """One ONNX graph. ``builder`` is the dotted path of a function from the sources' bytes to the file's bytes."""

    name: str
    sources: tuple[Source, ...]
    builder: str
    version: str  # changes when the builder's graph changes
    proof: str = field(default="", kw_only=True)  # dotted path of a function that a built graph must pass (`_built`)

    @property
    def fingerprint(self) -> str:
        """sha256 over all that decides what the graph computes; the ONNX package's version is not part of it."""
        return digest({"name": self.name, "version": self.version, "sources": [item.sha256 for item in self.sources]})

    @property
    def remedy(self) -> str:
        """What to do about a file that is missing or altered, as the end of a sentence."""
        return REMEDY

    @property
    def arguments(self) -> Mapping[str, Any]:
        """What the builder takes besides the sources' bytes, by keyword."""
        return {}

    def path(self, directory: Path) -> Path:
        return directory / f"{self.name}-{self.fingerprint[:12]}.onnx"


@dataclass(frozen=True, slots=True)
class StatedNetwork(Network):
    """A network whose graph somebody else made: ``stated`` is what the settings say of it, for its builder to prove."""

    stated: tuple[tuple[str, Any], ...]

    @property
    def fingerprint(self) -> str:
        sources = [item.sha256 for item in self.sources]
        return digest({"name": self.name, "version": self.version, "sources": sources, "stated": self.stated})

    @property
    def arguments(self) -> Mapping[str, Any]:
        return dict(self.stated)


@dataclass(frozen=True, slots=True)
class Record:
    """What is written beside a built file: the file's own hash and size, and where it came from."""

    name: str
    fingerprint: str
    sha256: str
    size: int
    sources: dict[str, str]
    licence: str
    builder: str
    version: str
    onnx: str
    built_at: str


def digest(content: Any) -> str:
    """sha256 (hexadecimal) of ``content`` as canonical JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


# --- Building ---------------------------------------------------------------------------------------------------------


def build(network: Network, directory: Path, *, force: bool = False) -> bool:
    """Builds the network's file unless it is there and whole; True where it was built.

    1. lock the network, so that of two processes one builds and the other finds it built
    2. read the sources, each checked against its pinned sha256
    3. write the graph aside, flush it, rename it; then its record likewise

    Raises ModelUnavailable where a source is missing, altered or not what the builder takes, which is noted beside the
    place of the file so that `problem` can say why it is not there; OSError where the folder cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory / f".{network.name}.lock"):
        _remove_leftovers(network, directory)
        if not force and problem(network, directory) is None:
            return False
        data = _built(network, directory)
        write_aside(network.path(directory), data)
        record = json.dumps(asdict(_record(network, data)), indent=2) + "\n"
        write_aside(_record_path(network.path(directory)), record.encode())
    return True


def _built(network: Network, directory: Path) -> bytes:
    try:
        contents = [source.read() for source in network.sources]
        data: bytes = _load(network.builder)(*contents, **network.arguments)
        if network.proof:
            _load(network.proof)(network.path(directory), data, *contents)
    except (ModelUnavailable, UnreadableWeights) as error:
        files = ", ".join(source.name for source in network.sources)
        said = str(error) if isinstance(error, ModelUnavailable) else f"{files} cannot be used: {error}"
        said = said.rstrip(".") + "."
        _refusal_path(network, directory).write_text(said)
        raise ModelUnavailable(network.name, said) from error
    _refusal_path(network, directory).unlink(missing_ok=True)
    return data


def _refusal_path(network: Network, directory: Path) -> Path:
    """Why the last build was refused."""
    return network.path(directory).with_suffix(".refused")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """An exclusive lock that the system gives back when its holder dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remove_leftovers(network: Network, directory: Path) -> None:
    """What a killed build left. Only under the lock, so nobody is writing them."""
    for ending in ("tmp", "h5"):  # h5: see catalog.vision.originals.proof
        for path in directory.glob(f".{network.name}-*.{ending}"):
            path.unlink(missing_ok=True)


def _load(dotted_path: str) -> Any:
    module, _, name = dotted_path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _record(network: Network, data: bytes) -> Record:
    return Record(
        name=network.name,
        fingerprint=network.fingerprint,
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        sources={source.name: source.sha256 for source in network.sources},
        licence=", ".join(sorted({source.licence for source in network.sources})),
        builder=network.builder,
        version=network.version,
        onnx=metadata.version("onnx"),
        built_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _record_path(path: Path) -> Path:
    return path.with_suffix(".json")


def write_aside(path: Path, data: bytes) -> None:
    """Under another name, flushed, then renamed: nobody ever reads half of it. Raises OSError."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


# --- Loading ----------------------------------------------------------------------------------------------------------


def read(network: Network, directory: Path) -> bytes:
    """The built file's bytes, which have the sha256 of its record. Raises ModelUnavailable saying what to do."""
    path = network.path(directory)
    try:
        data = path.read_bytes()
        record = _read_record(path)
    except (OSError, ValueError) as error:
        raise ModelUnavailable(network.name, _trouble(network, path, error)) from error
    if hashlib.sha256(data).hexdigest() != record["sha256"]:
        raise ModelUnavailable(network.name, f"The model file {path} was altered: {network.remedy}.")
    return data


def problem(network: Network, directory: Path) -> str | None:
    """What is wrong with the built file, in a sentence, or None. Whole files are not read again until they change."""
    path = network.path(directory)
    try:
        _check_once(network, directory, _state(path), _state(_record_path(path)))
    except OSError as error:
        return _trouble(network, path, error)
    except ModelUnavailable as error:
        return str(error)
    return None


def _state(path: Path) -> tuple[int, int, int, int]:
    """Names a file's content: whatever changes that changes one of these."""
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


@lru_cache(maxsize=64)
def _check_once(network: Network, directory: Path, *_states: tuple[int, int, int, int]) -> None:
    """Raises ModelUnavailable, which is not remembered: what failed to be read may be readable next time."""
    read(network, directory)


def _read_record(path: Path) -> dict[str, Any]:
    record = json.loads(_record_path(path).read_bytes())
    if not isinstance(record, dict) or not isinstance(record.get("sha256"), str):
        raise ValueError("not a record")
    return record


def _refusal(path: Path) -> str:
    """Why the last build of the file that should be at ``path`` was refused, or ""."""
    try:
        return path.with_suffix(".refused").read_text().strip()
    except (OSError, ValueError):
        return ""


def _trouble(network: Network, path: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        absent = next((sentence for source in network.sources if (sentence := _absent(source))), None)
        if absent:
            return f"The model {network.name} is not built. {absent}"
        refusal = _refusal(path)
        if refusal:
            return f"The model {network.name} is not built. {refusal} Then {network.remedy}."
        return f"The model {network.name} is not built ({Path(error.filename or path)} is missing): {network.remedy}."
    if isinstance(error, OSError):
        access = f"give this user access to it, or {network.remedy}"
        return f"The model file {path} cannot be read ({error.strerror}): {access}."
    return f"The record of the model file {path} is damaged: {network.remedy}."


def _absent(source: Source) -> str | None:
    """What to do about a file that an operator has to fetch or bring, where it is not there."""
    return source.absent() if isinstance(source, LocalFile) else None


# --- Networks that operators bring ------------------------------------------------------------------------------------


def onnx_file(options: OnnxOptions, directory: Path) -> StatedNetwork:
    """The network of a file that the settings name. Its name is its content's, so that the file may be moved, and that
    of what is stated of it: two networks may be made of one file.
    """
    path = directory / Path(options.path).expanduser()
    remedy = f"put the file at {path}, or correct the options path and sha256."
    source = LocalFile(path.name, str(path), options.sha256, options.licence, options.source, remedy)
    stated = (
        ("dimension", options.dimension),
        ("size", options.input_size),
        ("layout", options.layout),
        ("output", options.output),
    )
    name = f"onnx-{options.sha256[:12]}-{digest(stated)[:12]}"
    return StatedNetwork(name, (source,), "catalog.vision.builders.onnx_file.build", "1", stated)


# --- The networks we have ---------------------------------------------------------------------------------------------

_BUILDERS = "catalog.vision.builders"

MTCNN_PNET = Network("mtcnn-pnet", (weights.MTCNN_PNET,), f"{_BUILDERS}.mtcnn.build_pnet", "1")
MTCNN_RNET = Network("mtcnn-rnet", (weights.MTCNN_RNET,), f"{_BUILDERS}.mtcnn.build_rnet", "1")
MTCNN_ONET = Network("mtcnn-onet", (weights.MTCNN_ONET,), f"{_BUILDERS}.mtcnn.build_onet", "1")
DLIB_RESNET = Network("dlib-resnet", (weights.DLIB_RESNET,), f"{_BUILDERS}.dlib_resnet.build", "1")
EFFICIENTNET_LITE0 = Network(
    "efficientnet-lite0", (weights.EFFICIENTNET_LITE0,), f"{_BUILDERS}.efficientnet_lite0.build", "1"
)
DIGIT_CNN = Network("digit-cnn", (weights.DIGIT_CNN,), f"{_BUILDERS}.digit_cnn.build", "1")
