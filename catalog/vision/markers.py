"""Walking the markers of a JPEG up to its pixels, with work bounded whatever the file holds.

Pillow steps over bytes that belong to no marker one at a time: 49 MB of zeros keep it busy for seconds.
"""

from __future__ import annotations

import os
from typing import BinaryIO

MAX_STEPS = 4096  # markers, fill and stray bytes: 50 MB of full segments are 800, and cameras leave a few bytes between
_MARKER = b"\xff"  # any number of them may stand before a marker's code
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = 0xD9
_WITHOUT_LENGTH = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})  # stuffing, TEM, restarts (ITU-T T.81, table B.1)


def reaches_pixels(file: BinaryIO) -> bool:
    """Whether the markers after the start of image lead to the start of a scan within MAX_STEPS."""
    file.seek(2)
    before = b""
    for _ in range(MAX_STEPS):
        byte = file.read(1)
        if not byte:
            return False
        if before == _MARKER and byte != _MARKER:
            if byte[0] == _START_OF_SCAN:
                return True
            if byte[0] == _END_OF_IMAGE:
                return False
            _step_over(file, byte[0])
        before = byte
    return False


def _step_over(file: BinaryIO, marker: int) -> None:
    if marker not in _WITHOUT_LENGTH:
        length = int.from_bytes(file.read(2), "big")  # counts its own two bytes
        file.seek(max(length - 2, 0), os.SEEK_CUR)
