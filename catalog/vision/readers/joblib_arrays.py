"""Lists of float arrays in joblib's container (pickle opcodes with raw arrays between them, compressed by lz4).

The form of the weights in the mtcnn wheel. Only the three names that such a list needs can be looked up.
"""

from __future__ import annotations

import io
import math
import pickle
from typing import Any

import lz4.frame
import numpy as np
from joblib.numpy_pickle import NumpyArrayWrapper, NumpyUnpickler
from numpy.typing import NDArray

from catalog.vision.readers.errors import UnreadableWeights

MAX_BYTES = 64 * 1024 * 1024  # unpacked; the largest of the three MTCNN files has 1.6 MB
_UNPICKLING_ERRORS = (pickle.UnpicklingError, ValueError, TypeError, LookupError, AttributeError, EOFError, OSError)


def read_arrays(data: bytes) -> list[NDArray[np.float32]]:
    """The arrays of the list, in order, as float32. Raises UnreadableWeights."""
    unpacked = _unpack(data)
    try:
        content = _ArraysOnly("", io.BytesIO(unpacked), ensure_native_byte_order=True).load()
    except UnreadableWeights:
        raise
    except _UNPICKLING_ERRORS as error:
        raise UnreadableWeights(f"Not a joblib list of arrays: {error}") from error
    if not isinstance(content, list) or not all(isinstance(item, np.ndarray) for item in content):
        raise UnreadableWeights("Not a joblib list of arrays")
    return [np.asarray(item, np.float32) for item in content]


def _unpack(data: bytes) -> bytes:
    decompressor = lz4.frame.LZ4FrameDecompressor()
    try:
        unpacked = bytes(decompressor.decompress(data, max_length=MAX_BYTES))
    except RuntimeError as error:
        raise UnreadableWeights(f"Not an lz4 frame: {error}") from error
    if not decompressor.eof:
        raise UnreadableWeights("The lz4 frame is cut off or too large")
    return unpacked


class _PlainArray(NumpyArrayWrapper):  # type: ignore[misc]  # joblib has no types
    """joblib's placeholder of an array, for arrays of floats only: object arrays hold pickles of their own."""

    def read(self, unpickler: Any, ensure_native_byte_order: bool) -> NDArray[np.generic]:
        if self.dtype.hasobject or self.dtype.kind != "f":
            raise UnreadableWeights(f"Arrays of {self.dtype} are not read, only floats")
        if math.prod(self.shape) * self.dtype.itemsize > MAX_BYTES:
            raise UnreadableWeights("An array is larger than the file could be")
        return np.asarray(self.read_array(unpickler, ensure_native_byte_order))


class _ArraysOnly(NumpyUnpickler):  # type: ignore[misc]
    """joblib's unpickler with all names but three closed."""

    _NAMES = {
        ("joblib.numpy_pickle", "NumpyArrayWrapper"): _PlainArray,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._NAMES:
            raise UnreadableWeights(f"The file asks for {module}.{name}, which is not a plain array")
        return self._NAMES[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise UnreadableWeights("The file refers to objects outside itself")
