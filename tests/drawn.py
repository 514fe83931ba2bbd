"""Image files drawn in memory."""

from __future__ import annotations

import io
import random
import struct
import zlib

from PIL import ExifTags, Image, ImageDraw


def image_file(
    color: tuple[int, int, int] = (200, 30, 30), size: tuple[int, int] = (64, 48), kind: str = "JPEG"
) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, color).save(out, kind)
    return out.getvalue()


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header promises so many pixels, with next to nothing behind it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(b"\0" * 64))
        + png_chunk(b"IEND", b"")
    )


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>'


def photo(seed: int = 1, size: tuple[int, int] = (400, 300)) -> bytes:
    """A JPEG of coloured noise: it has many bytes, and no two seeds give the same."""
    noise = random.Random(seed).randbytes(size[0] * size[1] * 3)
    out = io.BytesIO()
    Image.frombytes("RGB", size, noise).save(out, "JPEG", quality=90)
    return out.getvalue()


def scene(seed: int, size: tuple[int, int] = (400, 300)) -> Image.Image:
    """Rectangles of many sizes and colours; two seeds have nothing in common."""
    draw = random.Random(seed)
    image = Image.new("RGB", size, tuple(draw.randbytes(3)))
    for _ in range(60):
        left, top = draw.randrange(size[0]), draw.randrange(size[1])
        corner = (left + draw.randrange(20, 160), top + draw.randrange(20, 120))
        ImageDraw.Draw(image).rectangle((left, top, *corner), fill=tuple(draw.randbytes(3)))
    return image


def padded(jpeg: bytes, byte_size: int) -> bytes:
    """The same JPEG with so many bytes, by a comment behind its first marker: 4 to 65,537 bytes more."""
    comment = byte_size - len(jpeg) - 4
    assert 0 <= comment <= 0xFFFF - 2, f"{len(jpeg):,} bytes cannot be padded to {byte_size:,}"
    return jpeg[:2] + b"\xff\xfe" + struct.pack(">H", comment + 2) + bytes(comment) + jpeg[2:]


def turned_photo(seed: int = 1) -> bytes:
    """A JPEG of 60 x 40 pixels, left half red and right half blue, to be turned by 90 degrees: red on top, 40 x 60.

    EXIF says so, and when and where it was taken.
    """
    image = Image.new("RGB", (60, 40), (255, 0, 0))
    image.paste((0, 0, 255), (30, 0, 60, 40))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.ImageDescription] = f"secret {seed}"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2012:12:06 10:30:00"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    out = io.BytesIO()
    image.save(out, "JPEG", exif=exif, quality=95)
    return out.getvalue()


# What no door takes: name, content, and the API's status and code for it.
BAD_FILES = [
    ("empty.jpg", b"", 422, "empty-file"),
    ("text.jpg", b"Dear Sir or Madam, this is no image.", 415, "not-an-image"),
    ("drawing.svg", SVG, 415, "format-not-supported"),
    ("photo.png", image_file(kind="JPEG"), 415, "format-mismatch"),
    ("cut.jpg", image_file(size=(400, 300))[:900], 422, "truncated-image"),
    ("huge.png", png_claiming(60_000, 60_000), 422, "too-many-pixels"),
    ("page.gif", image_file(kind="GIF") + b"<script>alert(1)</script>", 422, "foreign-content"),
]
