"""Writing a .npy file row by row, when the number of rows is known only at the end."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray


class NpyWriter:
    """Appends rows to ``path``; ``close`` writes the final shape into the header and flushes to disk.

    numpy pads its headers so that the first axis may grow in place (numpy.lib.format, GROWTH_AXIS_MAX_DIGITS).
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], row_shape: tuple[int, ...] = ()) -> None:
        self.count = 0
        self._dtype = dtype
        self._row_shape = row_shape
        self._file = path.open("xb")
        self._write_header()
        self._header_size = self._file.tell()

    def append(self, rows: NDArray[Any]) -> None:
        """Rows of shape (n, *row_shape)."""
        if rows.shape[1:] != self._row_shape:
            raise ValueError(f"rows of shape {rows.shape[1:]} in a file of {self._row_shape}")
        self._file.write(np.ascontiguousarray(rows, dtype=self._dtype).data)
        self.count += len(rows)

    def close(self) -> None:
        """Safe to call twice."""
        if self._file.closed:
            return
        try:
            self._file.seek(0)
            self._write_header()
            if self._file.tell() != self._header_size:
                raise RuntimeError("the header of a .npy file grew over its rows")
            self._file.flush()
            os.fsync(self._file.fileno())
        finally:
            self._file.close()

    def __enter__(self) -> NpyWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _write_header(self) -> None:
        shape = (self.count, *self._row_shape)
        header = {"descr": npy.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(self._file, header)
