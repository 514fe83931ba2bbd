"""Reading an image file: what it says of itself (`read_header`), then its pixels (`decode`), each refused in words.

Everything that can be checked is checked before a pixel is decoded. Whatever a decoder raises becomes ImageRefused.
"""

from __future__ import annotations

import errno
import os
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import BinaryIO

from PIL import ExifTags, Image, ImageFile
from PIL.Image import Image as PILImage
from PIL.TiffImagePlugin import TiffImageFile

from catalog.vision import preprocess
from catalog.vision.errors import ImageRefused
from catalog.vision.formats import FORMAT_NAMES, FORMATS, SNIFF_BYTES, Format, other_format, sniff
from catalog.vision.frames import count_gif_frames, count_tiff_frames
from catalog.vision.markers import reaches_pixels
from catalog.vision.types import DecodedImage, ImageHeader

# All that Pillow and the libraries below it were seen or are documented to raise for a bad file. MemoryError is not
# among them: this machine may be full while the file is good.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    RuntimeError,
    EOFError,
    struct.error,
    zlib.error,
)
# Pillow's own errors have no number; seeking to a place that a damaged file names gives EINVAL.
_ERRNO_OF_BAD_CONTENT = (None, errno.EINVAL, errno.EOVERFLOW)
_BOMBS = (Image.DecompressionBombWarning, Image.DecompressionBombError)
_EXIF_TIME = re.compile(r"\d{4}:(0[1-9]|1[0-2]):(0[1-9]|[12]\d|3[01]) ([01]\d|2[0-3]):[0-5]\d:[0-5]\d")


@dataclass(frozen=True, slots=True)
class Limits:
    """What an image may be at most: bytes of the file, pixels of a frame, frames (only the first is used)."""

    bytes: int = 50 * 1024 * 1024
    pixels: int = 64_000_000
    frames: int = 1_000


def read_image(file: BinaryIO, name: str | None, limits: Limits) -> DecodedImage:
    """`read_header` and `decode` in one. Raises ImageRefused."""
    return decode(file, read_header(file, name, limits))


def read_header(file: BinaryIO, name: str | None, limits: Limits) -> ImageHeader:
    """What the file says of itself, checked against ``limits``, with no pixel decoded.

    ``file`` is seekable; its position afterwards is undefined. ``name`` is the name it was sent under: its extension,
    if it has one, must agree with the content. Raises ImageRefused with one of the codes empty-file, too-many-bytes,
    not-an-image, format-not-supported, format-mismatch, truncated-image, too-many-pixels, too-many-frames; OSError
    where the file cannot be read at all.
    """
    kind = _check_file(file, name, limits)
    image = _open(file, kind, limits)
    frames = _count_frames(file, image, kind, limits)
    if frames > limits.frames:
        raise ImageRefused(
            "too-many-frames",
            f"The image has more than {limits.frames:,} frames. Send a still image or a shorter animation.",
            limit=limits.frames,
            actual=frames,
        )
    orientation, taken_at = _read_exif(image)
    width, height = image.size
    if orientation >= 5 and not _size_is_oriented(image):
        width, height = height, width
    return ImageHeader(kind.name, width, height, frames, orientation, taken_at)


def decode(file: BinaryIO, header: ImageHeader) -> DecodedImage:
    """The pixels of the file's first frame: 8-bit RGB, oriented, its longest side reduced by a power of two.

    A reduced side stays at least preprocess.DECODED_SIDE pixels long. ``header`` is what `read_header` gave for this
    very file. Raises ImageRefused with the code truncated-image where the pixels are cut off or damaged.
    """
    kind = FORMATS[header.format]
    image = _open(file, kind, Limits(pixels=header.width * header.height))
    factor = preprocess.reduction(header.width, header.height)
    full = max(image.size)
    with _refusing(kind):
        _draft(image, factor)
        image.load()
        rgb = preprocess.reduced_rgb(image, max(1, factor * max(image.size) // full))
        if not kind.orients_itself:
            rgb = preprocess.upright(rgb, header.orientation)
    return DecodedImage(rgb, header)


def _check_file(file: BinaryIO, name: str | None, limits: Limits) -> Format:
    """The format of a file that is not empty, not too large, of a kind we take and named accordingly."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        raise ImageRefused("empty-file", f"The file is empty. Send a {FORMAT_NAMES} file.")
    if size > limits.bytes:
        raise ImageRefused(
            "too-many-bytes",
            f"The file has {size:,} bytes, {limits.bytes:,} are the most it may have. Send a smaller image.",
            limit=limits.bytes,
            actual=size,
        )
    file.seek(0)
    head = file.read(SNIFF_BYTES)
    kind = sniff(head)
    if kind is None:
        raise _not_taken(head)
    extension = PurePath(name or "").suffix.lower()
    if extension and extension not in kind.extensions:
        raise ImageRefused(
            "format-mismatch",
            f"The name ends in {extension}, but the content is {kind.name}. Rename it to end in {kind.extension}.",
        )
    return kind


def _not_taken(head: bytes) -> ImageRefused:
    other = other_format(head)
    if other:
        return ImageRefused("format-not-supported", f"{other} files are not taken. Send a {FORMAT_NAMES} file.")
    return ImageRefused("not-an-image", f"The content is not an image. Send a {FORMAT_NAMES} file.")


def _open(file: BinaryIO, kind: Format, limits: Limits) -> ImageFile.ImageFile:
    """The file under the one decoder of its format, its size checked. Raises ImageRefused."""
    if kind.name == "JPEG" and not reaches_pixels(file):
        raise _damaged(kind)
    with _refusing(kind):
        file.seek(0)
        image = Image.open(file, formats=[kind.plugin])
    pixels = image.width * image.height
    if pixels > limits.pixels:
        raise _too_many_pixels(limits.pixels, pixels)
    if image.mode == "LAB":
        raise ImageRefused("format-not-supported", "Images in the colour mode LAB are not taken. Save it as RGB.")
    return image


@contextmanager
def _refusing(kind: Format) -> Iterator[None]:
    """Turns what decoders raise into ImageRefused; trouble with the disk or network below the file goes up as it is."""
    try:
        yield
    except _BOMBS as error:
        raise ImageRefused("too-many-pixels", "The image has far too many pixels. Send a smaller one.") from error
    except _DECODER_ERRORS as error:
        if isinstance(error, OSError) and error.errno not in _ERRNO_OF_BAD_CONTENT:
            raise
        raise _damaged(kind) from error


def _damaged(kind: Format) -> ImageRefused:
    message = f"The {kind.name} file is cut off or damaged. Open it, save it anew and send that."
    return ImageRefused("truncated-image", message)


def _too_many_pixels(limit: int, actual: int) -> ImageRefused:
    return ImageRefused(
        "too-many-pixels",
        f"The image has {actual:,} pixels, {limit:,} are the most it may have. Send a smaller one.",
        limit=limit,
        actual=actual,
    )


def _count_frames(file: BinaryIO, image: PILImage, kind: Format, limits: Limits) -> int:
    with _refusing(kind):
        if kind.name == "GIF":
            return count_gif_frames(file, limits.frames)
        if kind.name == "TIFF":
            return count_tiff_frames(file, limits.frames)
        return int(getattr(image, "n_frames", 1))


def _read_exif(image: PILImage) -> tuple[int, str | None]:
    """Orientation (1 where there is none) and time. Damaged metadata of a good image is no reason to refuse it."""
    try:
        # PNG's own getexif() decodes the whole image to look for EXIF data behind the pixels.
        exif = Image.Image.getexif(image) if image.format == "PNG" else image.getexif()
        orientation = exif.get(ExifTags.Base.Orientation, 1)
        taken_at = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal)
    except (*_DECODER_ERRORS, MemoryError):
        return 1, None
    return (
        orientation if orientation in range(1, 9) else 1,
        taken_at if isinstance(taken_at, str) and _EXIF_TIME.fullmatch(taken_at) else None,
    )


def _size_is_oriented(image: PILImage) -> bool:
    """Pillow gives the size of a TIFF already turned, if it is its tag (and not its XMP data) that says so."""
    return isinstance(image, TiffImageFile) and image.tag_v2.get(ExifTags.Base.Orientation) in range(5, 9)


def _draft(image: ImageFile.ImageFile, factor: int) -> None:
    """Lets the JPEG decoder leave out detail: 2, 4 or 8 times smaller, never more than ``factor``."""
    if factor > 1 and image.format in ("JPEG", "MPO"):
        image.draft(None, (-(-image.width // factor), -(-image.height // factor)))
