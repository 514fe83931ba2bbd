"""State dicts in torch's file format before 1.6: five pickles in a row, then the raw numbers of every storage.

Layout: torch/serialization.py, ``_legacy_load`` (magic number, protocol 1001, system information, the dict itself with
storages by reference, the list of storage keys; then for each key an int64 count and its little-endian values).
Read with numpy alone.
"""

from __future__ import annotations

import collections
import io
import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.vision.readers.errors import UnreadableWeights

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_UNPICKLING_ERRORS = (pickle.UnpicklingError, ValueError, TypeError, LookupError, AttributeError, EOFError)


@dataclass(frozen=True, slots=True)
class _Storage:
    key: str
    dtype: str
    count: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def read_state_dict(data: bytes) -> dict[str, NDArray[np.generic]]:
    """Name to array (float32, or int64 for counters), in the file's order. Raises UnreadableWeights."""
    file = io.BytesIO(data)
    try:
        if (_load(file), _load(file)) != (_MAGIC, _PROTOCOL):
            raise UnreadableWeights("Not a torch file of the old format")
        if not _load(file)["little_endian"]:
            raise UnreadableWeights("Written on a big-endian machine")
        tensors, keys = _load(file), _load(file)
        _check_tensors(tensors)
        storages = _read_storages(file, keys, {tensor.storage.key: tensor.storage for tensor in tensors.values()})
        return {name: _array(tensor, storages) for name, tensor in tensors.items()}
    except UnreadableWeights:
        raise
    except _UNPICKLING_ERRORS as error:
        raise UnreadableWeights(f"Not a torch state dict of the old format: {error}") from error


def _load(file: io.BytesIO) -> Any:
    return _NamesOfTensors(file).load()


def _check_tensors(tensors: Any) -> None:
    if not isinstance(tensors, dict) or not all(isinstance(tensor, _Tensor) for tensor in tensors.values()):
        raise UnreadableWeights("Not a dict of tensors")


def _read_storages(file: io.BytesIO, keys: list[str], known: dict[str, _Storage]) -> dict[str, NDArray[np.generic]]:
    storages: dict[str, NDArray[np.generic]] = {}
    for key in keys:
        storage = known[key]
        count = int.from_bytes(file.read(8), "little")
        if count != storage.count:
            raise UnreadableWeights(f"Storage {key} has {count} numbers, {storage.count} were announced")
        raw = file.read(count * np.dtype(storage.dtype).itemsize)
        storages[key] = np.frombuffer(raw, storage.dtype, count)
    return storages


def _array(tensor: _Tensor, storages: dict[str, NDArray[np.generic]]) -> NDArray[np.generic]:
    """A contiguous copy of the tensor. Its numbers may lie in any order, but inside its storage."""
    values = storages[tensor.storage.key]
    last = tensor.offset + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride, strict=True))
    if min((tensor.offset, *tensor.stride)) < 0 or min(tensor.shape, default=1) < 1 or last >= values.size:
        raise UnreadableWeights("A tensor reaches beyond its storage")
    steps = [step * values.itemsize for step in tensor.stride]
    return np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.shape, steps, writeable=False).copy()


def _rebuild_tensor(
    storage: object, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> _Tensor:
    """Stands in for ``torch._utils._rebuild_tensor_v2``."""
    if not isinstance(storage, _Storage):
        raise UnreadableWeights("A tensor has no storage")
    return _Tensor(storage, offset, tuple(shape), tuple(stride))


class _NamesOfTensors(pickle.Unpickler):
    """Knows the four names that a state dict of floats and counters needs, none of them torch's own."""

    _NAMES: dict[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
        ("torch", "FloatStorage"): "<f4",
        ("torch", "LongStorage"): "<i8",
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._NAMES:
            raise UnreadableWeights(f"The file asks for {module}.{name}, which is not part of a state dict")
        return self._NAMES[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _device, count, _view = pid
        if kind != "storage" or dtype not in ("<f4", "<i8"):
            raise UnreadableWeights("The file refers to something that is no storage")
        return _Storage(key, dtype, count)
