"""Reading an image file: what it says of itself (`read_header`), then its pixels (`decode`), each refused in words.

Everything that can be checked is checked before a pixel is decoded. Whatever a decoder raises becomes ImageRefused.
The product does all but `check_file` in processes of its own, which may be killed (catalog.vision.helper).
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

from PIL import AvifImagePlugin, ExifTags, Image, ImageFile, PngImagePlugin
from PIL.Image import Image as PILImage
from PIL.TiffImagePlugin import TiffImageFile

from catalog.vision import preprocess
from catalog.vision.errors import ImageRefused
from catalog.vision.foreign import foreign_content
from catalog.vision.formats import FORMAT_NAMES, FORMATS, SNIFF_BYTES, Format, other_format, sniff, webp_size
from catalog.vision.frames import count_gif_frames, count_tiff_frames
from catalog.vision.markers import reaches_pixels
from catalog.vision.png_chunks import MOST_PROFILE, MOST_TEXT, too_much_beside_pixels
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
_OUT_OF_MEMORY = ("out of memory", "decoder error -9")  # Pillow's words (IMAGING_CODEC_MEMORY in its Imaging.h)
_DRAFTED = ("JPEG", "MPO")
_MOST_EXIF = 1 << 20  # bytes that are parsed; cameras write up to 64 kB
# Reading must not take more than MOST_MEMORY of a process, MOST_DECODED of it for the image alone.
MOST_MEMORY = 512 * 1024 * 1024
MOST_DECODED = 400_000_000

# Said here, as they are Pillow's to change.
PngImagePlugin.MAX_TEXT_CHUNK = MOST_PROFILE  # of a colour profile, too
PngImagePlugin.MAX_TEXT_MEMORY = 8 * MOST_TEXT
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # each has planes of its own
ImageFile.LOAD_TRUNCATED_IMAGES = False

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

    Raises ImageRefused with one of the codes of `check_file` and truncated-image, too-many-pixels, too-many-frames,
    too-much-memory, too-much-metadata, foreign-content; OSError where the file cannot be read at all.
    """
    kind = check_file(file, name, limits)
    _check_company(file, kind)
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


def decode(file: BinaryIO, header: ImageHeader, least: int = preprocess.DECODED_SIDE) -> DecodedImage:
    """The pixels of the file's first frame: 8-bit RGB, oriented, its longest side reduced by a power of two.

    A reduced side stays at least ``least`` pixels long. ``header`` is what `read_header` gave for this very file.
    Raises ImageRefused with the code truncated-image where the pixels are cut off or damaged, and MemoryError.
    """
    return DecodedImage(_pixels(file, header, least, "RGB"), header)


def decode_grey(file: BinaryIO, header: ImageHeader) -> PILImage:
    """The same pixels in 8-bit grey, for what needs no colours: those of a JPEG are read to their end, not computed.

    Raises as `decode`.
    """
    return _pixels(file, header, preprocess.DECODED_SIDE, "L")


def _pixels(file: BinaryIO, header: ImageHeader, least: int, mode: str) -> PILImage:
    kind = FORMATS[header.format]
    image = _open(file, kind, Limits(pixels=header.width * header.height))
    factor = preprocess.reduction(header.width, header.height, least)
    full = max(image.size)
    with _refusing(kind):
        _draft(image, factor, mode)
        image.load()
        factor = max(1, factor * max(image.size) // full)
        pixels = _grey(image, factor) if mode == "L" else preprocess.reduced_rgb(image, factor)
        return pixels if kind.orients_itself else preprocess.upright(pixels, header.orientation)


def _grey(image: ImageFile.ImageFile, factor: int) -> PILImage:
    if image.format in _DRAFTED and image.mode == "L":
        return image.reduce(factor) if factor > 1 else image
    return preprocess.reduced_rgb(image, factor).convert("L")


def check_file(file: BinaryIO, name: str | None, limits: Limits) -> Format:
    """The format of a file that is not empty, not too large, of a kind we take and named accordingly.

    ``file`` is seekable; its position afterwards is undefined. Only its first SNIFF_BYTES are looked at. ``name`` is
    the name it was sent under: its extension, if it has one, must agree with the content. Raises ImageRefused with one
    of the codes empty-file, too-many-bytes, not-an-image, format-not-supported, format-mismatch.
    """
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


def _check_company(file: BinaryIO, kind: Format) -> None:
    """What else is in the file. Raises ImageRefused."""
    held = foreign_content(file)
    if held:
        words = f"The file is an image and holds {held} as well. Open it, save the image anew and send that."
        raise ImageRefused("foreign-content", words)
    too_much = too_much_beside_pixels(file) if kind.name == "PNG" else None
    if too_much:
        words = f"{too_much} is far too large for an image. Open it, save it anew and send that."
        raise ImageRefused("too-much-metadata", words)


def _open(file: BinaryIO, kind: Format, limits: Limits) -> ImageFile.ImageFile:
    """The file under the one decoder of its format, its size checked. Raises ImageRefused."""
    if kind.name == "JPEG" and not reaches_pixels(file):
        raise _damaged(kind)
    with _refusing(kind):
        file.seek(0)
        canvas = webp_size(file.read(SNIFF_BYTES)) if kind.name == "WebP" else None
        if canvas:
            _check_size(*canvas, kind.bytes_of_pixel, limits)
        file.seek(0)
        image = Image.open(file, formats=[kind.plugin])
    _check_size(*image.size, _bytes_of_pixel(image, kind), limits)
    if image.mode == "LAB":
        raise ImageRefused("format-not-supported", "Images in the colour mode LAB are not taken. Save it as RGB.")
    return image


def _bytes_of_pixel(image: ImageFile.ImageFile, kind: Format) -> float:
    """What a pixel takes while it is decoded; of an image that comes in several scans all coefficients are kept."""
    return 2 * len(image.getbands()) if image.info.get("progressive") else kind.bytes_of_pixel


def _check_size(width: int, height: int, bytes_of_pixel: float, limits: Limits) -> None:
    """Raises ImageRefused."""
    if width * height > limits.pixels:
        raise _too_many_pixels(limits.pixels, width * height)
    if width * height * bytes_of_pixel > MOST_DECODED:
        raise too_much_memory(limit=int(MOST_DECODED / bytes_of_pixel), actual=width * height)


def too_much_memory(**limits: int) -> ImageRefused:
    """Of a file that cannot be read within MOST_MEMORY; ``limits`` in pixels where they are known."""
    most = f" ({limits['limit']:,} are the most of this kind)" if limits else ""
    return ImageRefused(
        "too-much-memory",
        f"Reading the image takes more than the {MOST_MEMORY >> 20} MB that there are for one. "
        f"Send one of fewer pixels{most}, or save it as a JPEG without progressive scans.",
        **limits,
    )


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
        if any(words in str(error) for words in _OUT_OF_MEMORY):
            raise MemoryError from error
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
    if len(image.info.get("exif") or b"") > _MOST_EXIF:
        return 1, None
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


def _draft(image: ImageFile.ImageFile, factor: int, mode: str) -> None:
    """Lets the JPEG decoder leave out detail: 2, 4 or 8 times smaller, never more than ``factor``; or the colours."""
    if image.format in _DRAFTED and (factor > 1 or mode == "L"):
        image.draft(mode, (-(-image.width // factor), -(-image.height // factor)))
