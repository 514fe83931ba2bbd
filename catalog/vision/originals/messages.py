"""Named arrays through a pipe: eight bytes of length (big-endian), then an uncompressed .npz. Nothing is unpickled."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]

LARGEST = 1 << 30  # bytes of a message; a longer one is garbage read as a length
_LENGTH = struct.Struct(">Q")


class Ended(Exception):
    """The other side closed the pipe, or what it sent is no message."""


def send(pipe: IO[bytes], arrays: Arrays) -> None:
    """Raises OSError where nobody reads."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    pipe.write(_LENGTH.pack(buffer.getbuffer().nbytes))
    pipe.write(buffer.getbuffer())
    pipe.flush()


def receive(pipe: IO[bytes]) -> dict[str, NDArray[Any]]:
    """The next message. Raises Ended."""
    (length,) = _LENGTH.unpack(_exactly(pipe, _LENGTH.size))
    if length > LARGEST:
        raise Ended(f"a message of {length} bytes was announced")
    try:
        with np.load(io.BytesIO(_exactly(pipe, length)), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise Ended(f"a message could not be read: {error}") from error


def _exactly(pipe: IO[bytes], length: int) -> bytes:
    data = pipe.read(length)
    if len(data) < length:
        raise Ended("the pipe was closed")
    return data
