"""Tensors of a network that dlib serialised, lifted from the raw bytes.

dlib's ``serialize(tensor)`` (dlib/cuda/tensor.h, version 2) writes the integers version, num_samples, k, nr, nc and
then the floats, little-endian. Its integers (dlib/serialize.h) are one control byte, the number of bytes with the sign
in its top bit, and then those bytes, little-endian. What lies between the tensors is not needed: the caller knows the
network and asks for tensors by their size, in the order of the layers.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from catalog.vision.readers.errors import UnreadableWeights

_VERSION_2 = b"\x01\x02"
_DIMENSIONS = 4


class TensorStream:
    """Reads tensors from first to last."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def read(self, count: int) -> NDArray[np.float32]:
        """The next tensor of ``count`` numbers, flat. Raises UnreadableWeights where there is none."""
        header = self._data.find(_VERSION_2, self._at)
        while header >= 0:
            values = self._values(header + len(_VERSION_2), count)
            if values is not None:
                return values
            header = self._data.find(_VERSION_2, header + 1)
        raise UnreadableWeights(f"No tensor of {count} numbers after byte {self._at}")

    def _values(self, at: int, count: int) -> NDArray[np.float32] | None:
        """The numbers behind the four dimensions at ``at``, if these multiply to ``count``."""
        dimensions: list[int] = []
        for _ in range(_DIMENSIONS):
            number = self._integer(at)
            if number is None:
                return None
            dimensions.append(number[0])
            at = number[1]
        end = at + 4 * count
        if min(dimensions) < 1 or math.prod(dimensions) != count or end > len(self._data):
            return None
        values = np.frombuffer(self._data, "<f4", count, at)
        if not np.isfinite(values).all():
            return None
        self._at = end
        return values

    def _integer(self, at: int) -> tuple[int, int] | None:
        """A non-negative dlib integer and the place behind it, or None where there is none."""
        length = self._data[at] if at < len(self._data) else 0
        if not 1 <= length <= 8:
            return None
        return int.from_bytes(self._data[at + 1 : at + 1 + length], "little"), at + 1 + length
