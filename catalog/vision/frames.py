"""Counting the frames of a file without decoding one, with work bounded by the limit.

Pillow's own counts of GIF and TIFF walk every frame through its parser (for TIFF with a search through all frames seen,
so a crafted chain costs the square of its length). These walks read lengths and offsets only and stop past the limit.
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

_GIF_IMAGE, _GIF_EXTENSION = 0x2C, 0x21


def count_gif_frames(file: BinaryIO, limit: int) -> int:
    """Image descriptors of a GIF (GIF89a specification, appendix B), counting no further than ``limit`` + 1."""
    file.seek(0)
    data = file.read()
    frames, at = 0, 13 + _gif_palette_bytes(data, 10)
    while frames <= limit and at < len(data):
        if data[at] == _GIF_IMAGE:
            frames += 1
            at = _after_gif_blocks(data, at + 11 + _gif_palette_bytes(data, at + 9))
        elif data[at] == _GIF_EXTENSION:
            at = _after_gif_blocks(data, at + 2)
        else:
            break
    return max(frames, 1)


def _gif_palette_bytes(data: bytes, flags_at: int) -> int:
    flags = data[flags_at] if flags_at < len(data) else 0
    return 3 * (2 << (flags & 0x07)) if flags & 0x80 else 0


def _after_gif_blocks(data: bytes, at: int) -> int:
    """The place after the run of data blocks that begins at ``at``: each has its length first, the last has none."""
    while at < len(data) and data[at]:
        at += data[at] + 1
    return at + 1


def count_tiff_frames(file: BinaryIO, limit: int) -> int:
    """Image file directories of a TIFF or BigTIFF, counting no further than ``limit`` + 1.

    Raises ValueError where a directory comes again in its own chain: no program writes that.
    """
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = 43 in (head[2], head[3])
    count_format, offset_format, entry_bytes = (order + "Q", order + "Q", 20) if big else (order + "H", order + "L", 12)
    (offset,) = struct.unpack_from(offset_format, head, 8 if big else 4)
    seen: set[int] = set()
    while offset and len(seen) <= limit:
        if offset in seen:
            raise ValueError("the directories go round in a circle")
        seen.add(offset)
        offset = _next_directory(file, offset, count_format, offset_format, entry_bytes)
    return max(len(seen), 1)


def _next_directory(file: BinaryIO, offset: int, count_format: str, offset_format: str, entry_bytes: int) -> int:
    """Where the directory after the one at ``offset`` begins; 0 at the end of the chain or of the file."""
    file.seek(offset)
    raw = file.read(struct.calcsize(count_format))
    if len(raw) < struct.calcsize(count_format):
        return 0
    (entries,) = struct.unpack(count_format, raw)
    if entries > 65_535:  # the classic format's own maximum; a BigTIFF that says more is not an image
        return 0
    file.seek(entries * entry_bytes, os.SEEK_CUR)
    raw = file.read(struct.calcsize(offset_format))
    return struct.unpack(offset_format, raw)[0] if len(raw) == struct.calcsize(offset_format) else 0
