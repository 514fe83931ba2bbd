"""The readers of foreign weights give arrays, and call nothing that a file names."""

from __future__ import annotations

import io
import os
import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import joblib
import lz4.frame
import numpy as np
import pytest

from catalog.vision import weights
from catalog.vision.readers.dlib_tensors import TensorStream
from catalog.vision.readers.errors import UnreadableWeights
from catalog.vision.readers.joblib_arrays import read_arrays
from catalog.vision.readers.torch_legacy import read_state_dict


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


# --- joblib -----------------------------------------------------------------------------------------------------------


def as_joblib(content: Any) -> bytes:
    file = io.BytesIO()
    joblib.dump(content, file)
    return bytes(lz4.frame.compress(file.getvalue()))


def test_a_joblib_list_of_arrays_is_read() -> None:
    square, column_major = np.arange(6, dtype=np.float32).reshape(2, 3), np.asfortranarray(np.eye(3))
    arrays: list[np.ndarray] = [square, column_major, np.array([1, 2], np.float32)]
    read = read_arrays(as_joblib(arrays))
    assert [array.dtype for array in read] == [np.float32] * 3
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(read, arrays, strict=True))


def test_a_joblib_file_that_calls_something_is_refused_and_nothing_is_called(tmp_path: Path) -> None:
    with pytest.raises(UnreadableWeights, match="mkdir"):
        read_arrays(as_joblib([np.zeros(3), Touch(tmp_path / "made")]))
    assert not (tmp_path / "made").exists()


def test_a_joblib_array_of_objects_is_refused_and_nothing_in_it_is_called(tmp_path: Path) -> None:
    with pytest.raises(UnreadableWeights, match="only floats"):
        read_arrays(as_joblib([np.array([Touch(tmp_path / "made"), None], dtype=object)]))
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("content", [{"a": 1}, [1, 2], "text", [np.arange(3)]])
def test_a_joblib_file_of_something_else_is_refused(content: Any) -> None:
    with pytest.raises(UnreadableWeights):
        read_arrays(as_joblib(content))


def test_a_joblib_file_that_is_cut_off_is_refused() -> None:
    whole = as_joblib([np.arange(9, dtype=np.float32)])
    for length in (0, 3, 20, len(whole) - 1):
        with pytest.raises(UnreadableWeights):
            read_arrays(whole[:length])


def test_an_lz4_bomb_is_not_unpacked() -> None:
    with pytest.raises(UnreadableWeights, match="too large"):
        read_arrays(lz4.frame.compress(bytes(100 * 1024 * 1024)))


# --- torch ------------------------------------------------------------------------------------------------------------


def tensor(key: str, count: int, shape: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    """The opcodes of torch's _rebuild_tensor_v2 call, protocol 2."""
    numbers = b"".join(_integer(number) for number in shape)
    strides = b"".join(_integer(number) for number in stride)
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n(("
        + _text("storage")
        + b"ctorch\nFloatStorage\n"
        + _text(key)
        + _text("cpu")
        + _integer(count)
        + b"NtQ"
        + _integer(offset)
        + b"("
        + numbers
        + b"t("
        + strides
        + b"t\x89}tR"
    )


def _integer(number: int) -> bytes:
    return b"J" + struct.pack("<i", number)


def _text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def as_torch(tensors: dict[str, bytes], storages: dict[str, np.ndarray]) -> bytes:
    """A file as torch before 1.6 wrote it."""
    state = b"\x80\x02}(" + b"".join(_text(name) + value for name, value in tensors.items()) + b"u."
    parts = [
        pickle.dumps(0x1950A86A20F9469CFC6C, 2),
        pickle.dumps(1001, 2),
        pickle.dumps({"little_endian": True}, 2),
        state,
        pickle.dumps(list(storages), 2),
    ]
    raw = [struct.pack("<q", array.size) + array.astype("<f4").tobytes() for array in storages.values()]
    return b"".join(parts + raw)


def test_a_torch_state_dict_is_read() -> None:
    numbers = np.arange(6, dtype=np.float32)
    data = as_torch({"a": tensor("s", 6, (2, 3), (3, 1)), "b": tensor("s", 6, (3, 2), (1, 3))}, {"s": numbers})
    read = read_state_dict(data)
    assert list(read) == ["a", "b"]
    assert np.array_equal(read["a"], numbers.reshape(2, 3))
    assert np.array_equal(read["b"], numbers.reshape(2, 3).T)


@pytest.mark.parametrize(
    "bad",
    [
        tensor("s", 6, (2, 4), (4, 1)),
        tensor("s", 6, (2, 3), (3, 1), offset=1),
        tensor("s", 6, (2, 3), (3, 1), offset=-1),
        tensor("s", 6, (2,), (-1,), offset=5),
        tensor("s", 7, (2, 3), (3, 1)),
        tensor("other", 6, (2, 3), (3, 1)),
    ],
)
def test_a_torch_tensor_that_reaches_beyond_its_storage_is_refused(bad: bytes) -> None:
    with pytest.raises(UnreadableWeights):
        read_state_dict(as_torch({"a": bad}, {"s": np.arange(6, dtype=np.float32)}))


@pytest.mark.parametrize("place", range(5))
def test_a_torch_file_that_calls_something_is_refused_and_nothing_is_called(tmp_path: Path, place: int) -> None:
    parts: list[Any] = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, OrderedDict(), []]
    parts[place] = Touch(tmp_path / "made")
    with pytest.raises(UnreadableWeights, match="mkdir"):
        read_state_dict(b"".join(pickle.dumps(part, 2) for part in parts))
    assert not (tmp_path / "made").exists()


def test_a_torch_file_that_is_cut_off_is_refused() -> None:
    whole = as_torch({"a": tensor("s", 6, (2, 3), (3, 1))}, {"s": np.arange(6, dtype=np.float32)})
    for length in range(0, len(whole), 7):
        with pytest.raises(UnreadableWeights):
            read_state_dict(whole[:length])


# --- dlib -------------------------------------------------------------------------------------------------------------


def as_dlib(values: np.ndarray, *shape: int) -> bytes:
    def integer(number: int) -> bytes:
        raw = number.to_bytes((number.bit_length() + 7) // 8 or 1, "little")
        return bytes([len(raw)]) + raw

    return b"".join(integer(number) for number in (2, *shape)) + values.astype("<f4").tobytes()


def test_dlib_tensors_are_read_in_order_whatever_lies_between() -> None:
    first, second = np.linspace(0, 1, 300), np.array([5.0, 6.0])
    stream = TensorStream(
        b"junk\x01\x02" + as_dlib(first, 300, 1, 1, 1) + b"\x01\x02\x01" + as_dlib(second, 1, 2, 1, 1)
    )
    np.testing.assert_array_equal(stream.read(300), first.astype(np.float32))
    assert stream.read(2).tolist() == [5.0, 6.0]
    with pytest.raises(UnreadableWeights, match="No tensor of 2 numbers"):
        stream.read(2)


def test_dlib_tensors_of_another_size_or_cut_off_are_refused() -> None:
    data = as_dlib(np.ones(300), 300, 1, 1, 1)
    with pytest.raises(UnreadableWeights):
        TensorStream(data).read(299)
    with pytest.raises(UnreadableWeights):
        TensorStream(data[:-1]).read(300)


# --- The real files ---------------------------------------------------------------------------------------------------


def test_the_real_weights_are_read() -> None:
    assert [len(read_arrays(getattr(weights, f"MTCNN_{name}NET").read())) for name in "PRO"] == [13, 16, 21]
    state = read_state_dict(weights.EFFICIENTNET_LITE0.read())
    assert state["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert state["_fc.weight"].shape == (1000, 1280)
    assert TensorStream(weights.DLIB_RESNET.read()).read(32 * 3 * 7 * 7 + 32).shape == (4736,)
