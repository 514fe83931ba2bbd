"""Image files made in memory."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image
from PIL.Image import Image as PILImage

from tests.drawn import png_chunk

# Two halves, red and blue, 64 x 48; the second also says "rotate by 90 degrees clockwise" in its container and in its
# EXIF data, as phones do. No encoder for HEIC is among our dependencies.
HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAX1tZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAACJpbG9jAAAA"
    "AERAAAEAAQAAAAABoQABAAAAAAAAAEEAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRtAAAAAAABAAAA/WlwcnAAAADd"
    "aXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQAqQgEBA3AAAAMAkAAAAwAA"
    "AwAeoCCBBZbq5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29scm5jbHgAAQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAAAAAoY2xh"
    "cAAAAEAAAAABAAAAMAAAAAEAAAAAAAAAAv////AAAAACAAAAEHBpeGkAAAAAAwgICAAAABhpcG1hAAAAAAAAAAEAAQWBAgMFhAAAAEltZGF0AAAA"
    "PSgBr1jm9Oq//+Vrv/6j/IfJ//9f/0q9V+4xE/6eBVpa/3P0fRXdlA5uGcMnVNrcJetN1Xo0zzWlNDNHn0Q="
)
HEIC_TURNED = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAchtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAADRpbG9jAAAA"
    "AERAAAIAAQAAAAAB7AABAAAAAAAAAEEAAgAAAAACLQABAAAAAAAAACQAAAA4aWluZgAAAAAAAgAAABVpbmZlAgAAAAABAABodmMxAAAAABVpbmZl"
    "AgAAAQACAABFeGlmAAAAAA5waXRtAAAAAAABAAABB2lwcnAAAADmaXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH/"
    "/wNwAAADAJAAAAMAAAMAHroCQGEAAQAqQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbq5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29s"
    "cm5jbHgAAQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAAAAAoY2xhcAAAAEAAAAABAAAAMAAAAAEAAAAAAAAAAv////AAAAACAAAAEHBpeGkAAAAA"
    "AwgICAAAAAlpcm90AwAAABlpcG1hAAAAAAAAAAEAAQaBAgMFhIYAAAAaaXJlZgAAAAAAAAAOY2RzYwACAAEAAQAAAG1tZGF0AAAAPSgBr1jm9Oq/"
    "/+Vrv/6j/IfJ//9f/0q9V+4xE/6eBVpa/3P0fRXdlA5uGcMnVNrcJetN1Xo0zzWlNDNHn0QAAAAGRXhpZgAATU0AKgAAAAgAAQESAAMAAAABAAYA"
    "AAAAAAA="
)


def encoded(image: PILImage, plugin: str = "PNG", **options: Any) -> io.BytesIO:
    """``image`` as a file; ``plugin`` is Pillow's name of the format."""
    file = io.BytesIO()
    image.save(file, plugin, **options)
    file.seek(0)
    return file


def corners(width: int = 64, height: int = 48) -> PILImage:
    """Four quarters, from the top left in reading order: red, green, blue, white."""
    image = Image.new("RGB", (width, height), "red")
    image.paste("lime", (width // 2, 0, width, height // 2))
    image.paste("blue", (0, height // 2, width // 2, height))
    image.paste("white", (width // 2, height // 2, width, height))
    return image


def quarters(image: PILImage) -> str:
    """The colour of each quarter as a letter, in reading order; ? for another."""
    names = {(1, 0, 0): "R", (0, 1, 0): "G", (0, 0, 1): "B", (1, 1, 1): "W", (0, 0, 0): "K"}
    places = [(x * image.width // 4, y * image.height // 4) for y in (1, 3) for x in (1, 3)]
    assert image.mode == "RGB"
    values = np.asarray(image)
    bright = [values[y, x] > 127 for x, y in places]
    return "".join(names.get((int(red), int(green), int(blue)), "?") for red, green, blue in bright)


def with_exif(image: PILImage, plugin: str, orientation: int | None = None, taken_at: str | None = None) -> io.BytesIO:
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    if taken_at is not None:
        exif.get_ifd(0x8769)[0x9003] = taken_at
    options: dict[str, Any] = {"lossless": True} if plugin == "WEBP" else {}
    return encoded(image, plugin, exif=exif, **options)


def png_bomb(side: int) -> io.BytesIO:
    """A small PNG file that says it has ``side`` x ``side`` pixels, and does."""
    row = zlib.compress(bytes(side + 1), 9)
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", row) + png_chunk(b"IEND", b""))


def animation(plugin: str, frames: int, side: int = 16) -> io.BytesIO:
    """Frames of one colour each, the first one red."""
    images = [Image.new("RGB", (side, side), "red")]
    images += [Image.new("RGB", (side, side), (0, 60 * index % 256, 255)) for index in range(1, frames)]
    options = {"lossless": True} if plugin == "WEBP" else {}
    return encoded(images[0], plugin, save_all=True, append_images=images[1:], **options)


def gif_of_empty_frames(frames: int) -> io.BytesIO:
    """A GIF whose frames take 12 bytes each."""
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x00"
    return io.BytesIO(b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6) + frame * frames + b"\x3b")


def tiff_with_loop() -> io.BytesIO:
    """A one-page TIFF whose only directory names itself as the next one."""
    data = bytearray(encoded(Image.new("L", (8, 8)), "TIFF").getvalue())
    (first,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + entries * 12, first)
    return io.BytesIO(bytes(data))


def sixteen_bit(plugin: str) -> io.BytesIO:
    """Grey, 16 bits: black on the left, 32768 (half of white) on the right."""
    values = np.zeros((48, 64), np.uint16)
    values[:, 32:] = 32_768
    return encoded(Image.fromarray(values), plugin)


Made = Callable[[], io.BytesIO]
