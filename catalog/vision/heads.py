"""Taught heads: small networks that move the vectors of a base embedder, kept in VISEARCH_MODELS_DIR/heads.

`manage.py teach` makes them. Each is a file KEY.onnx and a record KEY.json; KEY, the name of the embedder that the two
make, ends in the first digits of the file's sha256. The settings do not name them: they are looked for by name at every
use, so that a process that runs already finds a new one.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from catalog.vision import networks
from catalog.vision.errors import ModelUnavailable
from catalog.vision.networks import Network, digest

FOLDER = "heads"
BUILDER = "catalog.vision.builders.head.build"  # by its path: it imports onnx
VERSION = "1"  # changes when a head of the same file computes something else
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_KEY = re.compile(rf"{NAME.pattern}-[0-9a-f]{{12}}")
LONGEST_NAME = 60
REMEDY = "put the folder `heads` of the models back from a backup, or let the model before it serve"


@dataclass(frozen=True, slots=True)
class Head(Network):
    """What the record says. ``name`` is the embedder's; ``dimension`` of its output, ``base_dimension`` of its input.

    ``weight``: the share of what was taught in a cosine of two outputs, see catalog.vision.builders.head.
    """

    sha256: str
    base: str
    base_fingerprint: str
    base_dimension: int
    dimension: int
    weight: float
    onnx: str
    made_at: str

    @property
    def remedy(self) -> str:
        return REMEDY

    @property
    def fingerprint(self) -> str:
        return self.sha256

    def path(self, directory: Path) -> Path:
        return directory / FOLDER / f"{self.name}.onnx"

    def embedder_fingerprint(self, base_fingerprint: str) -> str:
        """Of the base as it is now with this head."""
        return digest({"base": base_fingerprint, "head": self.sha256, "version": VERSION})


@dataclass(frozen=True, slots=True)
class Taught:
    """What training gave: ``projection`` float32 (d, h) and ``mean`` float32 (d,), see catalog.vision.builders.head."""

    projection: NDArray[np.float32]
    mean: NDArray[np.float32]


def keep(directory: Path, name: str, base: tuple[str, str], taught: Taught, weight: float) -> Head:
    """Build the head's file, write it and then its record, each aside and renamed. The same head is the same file.

    ``base``: name and fingerprint of its embedder. Raises ValueError for a ``name`` that is no word of a-z, 0-9 and "-"
    or too long, OSError where the folder cannot be written.
    """
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise ValueError(
            f"A head's name has small letters, digits and single hyphens, {LONGEST_NAME} at most, unlike {name!r}."
        )
    module, _, function = BUILDER.rpartition(".")
    data: bytes = getattr(importlib.import_module(module), function)(taught.projection, taught.mean, weight)
    sha256 = hashlib.sha256(data).hexdigest()
    head = Head(
        name=f"{name}-{sha256[:12]}",
        sources=(),
        builder=BUILDER,
        version=VERSION,
        sha256=sha256,
        base=base[0],
        base_fingerprint=base[1],
        base_dimension=taught.projection.shape[0],
        dimension=sum(taught.projection.shape),
        weight=weight,
        onnx=metadata.version("onnx"),
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    path = head.path(directory)
    path.parent.mkdir(parents=True, exist_ok=True)
    networks.write_aside(path, data)
    networks.write_aside(path.with_suffix(".json"), (json.dumps(asdict(head), indent=2) + "\n").encode())
    return head


def find(key: str, directory: Path) -> Head | None:
    """The head of this name, or None where there is no record of it. Its file is looked at when it is loaded.

    Raises ModelUnavailable where the record cannot be read.
    """
    if not _KEY.fullmatch(key):
        return None
    path = directory / FOLDER / f"{key}.json"
    try:
        stat = path.stat()
        return _read(path, key, stat.st_ino, stat.st_size, stat.st_mtime_ns)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ModelUnavailable(
            key, f"The record {path} cannot be read ({error.strerror}): give this user access to it."
        ) from error


@lru_cache(maxsize=64)
def _read(path: Path, key: str, *_state: int) -> Head:
    try:
        content = json.loads(path.read_bytes())
        head = Head(**{**content, "sources": tuple(content["sources"])})
    except (ValueError, TypeError, KeyError) as error:
        raise ModelUnavailable(key, f"The record {path} of a taught head is damaged: {REMEDY}.") from error
    if head.name != key or not key.endswith(head.sha256[:12]):
        raise ModelUnavailable(key, f"The record {path} is that of another head: {REMEDY}.")
    return head


def remove(key: str, directory: Path) -> None:
    """Remove the record of this head and its file, as far as they are there. Raises OSError."""
    if _KEY.fullmatch(key):
        for suffix in (".json", ".onnx"):  # the record first: a file without one is never run
            (directory / FOLDER / f"{key}{suffix}").unlink(missing_ok=True)


def keys(directory: Path) -> list[str]:
    """Names of all heads that have a record or a file."""
    try:
        stems = {path.stem for path in (directory / FOLDER).iterdir() if path.suffix in (".json", ".onnx")}
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(stem for stem in stems if _KEY.fullmatch(stem))


def problem(key: str, directory: Path) -> str | None:
    """What is wrong with the record or the file of this head, in a sentence, or None."""
    try:
        head = find(key, directory)
    except ModelUnavailable as error:
        return str(error)
    if head is None:
        return f"The record of the taught head {key} is missing: {REMEDY}."
    return networks.problem(head, directory)
