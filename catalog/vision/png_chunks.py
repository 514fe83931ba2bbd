"""What a PNG carries beside its pixels, measured before anything unpacks it.

Text and colour profiles may be compressed a thousandfold, and pixels may go on behind the last one.
Chunks and their fields are those of the PNG specification, third edition, 5 and 11.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

MOST_TEXT = 1 << 20  # bytes of all texts together, unpacked
MOST_PROFILE = 4 << 20  # bytes of a colour profile, unpacked: those of printers have two million
MOST_CHUNKS = 4096  # beside those of pixels: each is a step
_FIRST = 8  # bytes before the first chunk
_HEAD = struct.Struct(">L4s")
_PIXELS = frozenset({b"IDAT", b"fdAT"})
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type (11.2.1)
_INTERLACED_ROWS = 2  # so many times as many rows have a filter byte, seven passes together
_SLACK = 1 << 16  # bytes of headers of blocks and of encoders that compress nothing


def too_much_beside_pixels(file: BinaryIO) -> str | None:
    """What there is too much of, as the subject of a sentence, or None. Damage is left to the decoder."""
    size = file.seek(0, os.SEEK_END)
    text, pixels, others, most_pixels = 0, 0, 0, size
    for kind, length in _chunks(file, size):
        others += kind not in _PIXELS
        if kind == b"IHDR":
            most_pixels = _most_pixels(file.read(13), size)
        elif kind == b"IDAT":
            pixels += length
        elif kind in _TEXTS:
            text += _unpacked(kind, file.read(min(length, size)), MOST_TEXT)
        elif kind == b"iCCP" and _unpacked(kind, file.read(min(length, size)), MOST_PROFILE) > MOST_PROFILE:
            return "Its colour profile"
        for what, is_too_much in (
            ("Its text", text > MOST_TEXT),
            ("The number of its chunks", others > MOST_CHUNKS),
            ("What is behind its last pixel", pixels > most_pixels),
        ):
            if is_too_much:
                return what
    return None


def _chunks(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int]]:
    """Kind and length of each, the file at its data; what lies behind the last one (IEND) is no part of the image.

    Ends at what is no chunk: kinds are four letters (5.3).
    """
    at, kind = _FIRST, b""
    while kind != b"IEND" and at + _HEAD.size <= size:
        file.seek(at)
        length, kind = _HEAD.unpack(file.read(_HEAD.size))
        if not kind.isalpha():
            return
        yield kind, length
        at += _HEAD.size + length + 4


def _most_pixels(header: bytes, size: int) -> int:
    """Bytes that its pixels take at most in the file: not compressed at all."""
    if len(header) < 13:
        return size
    width, height, depth, colour, _, _, interlaced = (int(each) for each in struct.unpack(">LLBBBBB", header))
    row = 1 + (width * depth * _CHANNELS.get(colour, 4) + 7) // 8
    raw = row * height + (height * _INTERLACED_ROWS + width if interlaced else 0)
    return raw + raw // 64 + _SLACK


def _unpacked(kind: bytes, data: bytes, most: int) -> int:
    """Bytes of a text or profile, no more than ``most`` + 1 of them counted."""
    if kind == b"tEXt":
        return len(data)
    _, _, rest = data.partition(b"\0")
    if kind == b"iTXt":
        is_compressed, rest = rest[:1] == b"\1", rest[2:]
        if not is_compressed:
            return len(data)
        rest = rest.partition(b"\0")[2].partition(b"\0")[2]  # language, translated keyword
    else:
        rest = rest[1:]  # method
    try:
        return len(data) + len(zlib.decompressobj().decompress(rest, most + 1))
    except zlib.error:
        return len(data)
