"""Files that somebody made to do harm, or that went wrong on their way: each with its class and its fixed verdict.

Made in code, most of them of a small drawing. Two are larger than that, as they must be; none of them is on a disk
until a test puts it there.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.catalog.vision.contract import noise
from tests.catalog.vision.files import HEIC, corners, encoded, gif_of_empty_frames, png_bomb, tiff_with_loop
from tests.drawn import png_chunk

ACCEPTED = ""


@dataclass(frozen=True)
class Hostile:
    """``name`` is what it is sent under, ``verdict`` the code it is refused with, or ACCEPTED.

    ``kept``: what of the name is kept, where it is accepted. ``is_slow``: it takes the helper to its limit.
    """

    kind: str
    name: str
    make: Callable[[], bytes]
    verdict: str
    kept: str = ""
    is_slow: bool = False

    def __str__(self) -> str:
        return f"{self.kind}: {ascii(self.name)[1:-1][:60]}"


# --- Cut off ----------------------------------------------------------------------------------------------------------

WHOLE: dict[str, Callable[[], bytes]] = {
    "jpg": cache(lambda: encoded(noise(320, 240), "JPEG").getvalue()),
    "png": cache(lambda: encoded(noise(320, 240), "PNG").getvalue()),
    "webp": cache(lambda: encoded(noise(320, 240), "WEBP").getvalue()),
    "gif": cache(lambda: encoded(noise(320, 240), "GIF").getvalue()),
    "tiff": cache(lambda: encoded(noise(320, 240), "TIFF", compression="tiff_lzw").getvalue()),
    "avif": cache(lambda: encoded(noise(320, 240), "AVIF").getvalue()),
    "heic": lambda: HEIC,
}
SHARES = (0.02, 0.25, 0.5, 0.75, 0.95)


def cut(extension: str, share: float) -> Callable[[], bytes]:
    def make() -> bytes:
        data = WHOLE[extension]()
        return data[: max(24, int(len(data) * share))]

    return make


TRUNCATED = [
    Hostile("truncated", f"cut-{round(100 * share)}.{extension}", cut(extension, share), "truncated-image")
    for extension in WHOLE
    for share in SHARES
]

# --- Another thing than the name says ---------------------------------------------------------------------------------

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'

MISNAMED = [
    Hostile("wrong extension", "jpeg.png", WHOLE["jpg"], "format-mismatch"),
    Hostile("wrong extension", "gif.jpg", WHOLE["gif"], "format-mismatch"),
    Hostile("wrong extension", "photo.jpg.exe", WHOLE["jpg"], "format-mismatch"),
    Hostile("wrong extension", "text.jpg", lambda: b"Dear Sir or Madam, this is no image.", "not-an-image"),
    Hostile("wrong extension", "drawing.jpg", lambda: SVG, "format-not-supported"),
]

# --- Two things at once -----------------------------------------------------------------------------------------------

PAGE = b"<html><body><script>alert(document.cookie)</script></body></html>"
PHP = b"<?php system($_GET['c']); ?>"
PDF = b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>\nendobj\ntrailer << /Root 1 0 R >>\n%%EOF\n"


def archive(comment: bytes = b"") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("evil.class", b"\xca\xfe\xba\xbe")
        file.comment = comment
    return out.getvalue()


def archive_of_the_large_form() -> bytes:
    """With the two records (APPNOTE 4.3.14, 4.3.15) that archives of many entries have before their end."""
    data = archive()
    at = data.index(b"PK\5\6")
    size, directory = struct.unpack_from("<LL", data, at + 12)
    numbers = (1, 1, size, directory)  # entries here and altogether, bytes and place of the directory
    record = b"PK\6\6" + struct.pack("<QHHLLQQQQ", 44, 45, 45, 0, 0, *numbers)
    return data[:at] + record + b"PK\6\7" + struct.pack("<LQL", 0, at, 1) + data[at:]


def zip_whose_directory_is_elsewhere() -> bytes:
    """Not right before its end, but where that says."""
    data = zip_that_counts_from_the_image()
    at = data.index(b"PK\5\6")
    return data[:at] + bytes(8) + data[at:]


def behind(extension: str, what: bytes) -> Callable[[], bytes]:
    return lambda: WHOLE[extension]() + what


def zip_that_counts_from_the_image() -> bytes:
    """As a program would write it that appends to a file."""
    out = io.BytesIO(WHOLE["jpg"]())
    with zipfile.ZipFile(out, "a") as file:
        file.writestr("evil.sh", b"echo")
    return out.getvalue()


def gif_that_is_a_script() -> bytes:
    """Its width and height read as the beginning of a comment."""
    return b"GIF89a/*" + WHOLE["gif"]()[8:] + b"*/=1;" + PAGE


def png_with_text(key: str, text: str, *, packed: bool = False) -> bytes:
    info = PngInfo()
    info.add_text(key, text, zip=packed)
    return encoded(corners(), "PNG", pnginfo=info).getvalue()


POLYGLOTS = [
    Hostile("polyglot", "zip.jpg", zip_that_counts_from_the_image, "foreign-content"),
    Hostile("polyglot", "zip.png", behind("png", archive(b"a comment")), "foreign-content"),
    Hostile("polyglot", "zip.webp", behind("webp", archive()), "foreign-content"),
    Hostile("polyglot", "zip64.jpg", behind("jpg", archive_of_the_large_form()), "foreign-content"),
    Hostile("polyglot", "zip-with-a-gap.jpg", zip_whose_directory_is_elsewhere, "foreign-content"),
    Hostile("polyglot", "html.jpg", behind("jpg", PAGE), "foreign-content"),
    Hostile("polyglot", "html.gif", gif_that_is_a_script, "foreign-content"),
    Hostile("polyglot", "html-in-text.png", lambda: png_with_text("Comment", PAGE.decode()), "foreign-content"),
    Hostile("polyglot", "php.gif", behind("gif", PHP), "foreign-content"),
    Hostile("polyglot", "short-php.jpg", behind("jpg", b"<?=system($_GET[0])?>"), "foreign-content"),
    Hostile("polyglot", "short-php-to-the-end.jpg", behind("jpg", b"<?=`$_GET[0]`;"), "foreign-content"),
    Hostile("polyglot", "short-php-on-lines.png", behind("png", b"<?\nsystem($_GET[0]);\n?>"), "foreign-content"),
    Hostile(
        "polyglot",
        "php-in-comment.jpg",
        lambda: encoded(corners(), "JPEG", comment=PHP).getvalue(),
        "foreign-content",
    ),
    Hostile("polyglot", "pdf.jpg", behind("jpg", PDF), "foreign-content"),
]

# --- Bombs ------------------------------------------------------------------------------------------------------------


def zeros(size: int = 200_000_000) -> bytes:
    """So many bytes as zlib packs them, into a thousandth; one megabyte is packed and said again and again."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    megabyte = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    rest = packer.compress(bytes(size & 0xFFFFF)) + packer.flush()
    checksum = struct.pack(">I", size % 65521 << 16 | 1)  # Adler-32 of zeros
    return b"\x78\xda" + megabyte * (size >> 20) + rest + checksum


def png_that_goes_on(side: int = 100) -> bytes:
    """Two hundred megabytes of pixels behind the last one."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zeros()) + png_chunk(b"IEND", b"")


def png_with_chunk(kind: bytes, data: bytes, times: int = 1) -> bytes:
    """A good image with this chunk before its pixels, so many times."""
    whole = encoded(corners(), "PNG").getvalue()
    end_of_header = 8 + 25
    return whole[:end_of_header] + png_chunk(kind, data) * times + whole[end_of_header:]


def webp_of(width: int, height: int) -> bytes:
    body = b"VP8X" + struct.pack("<I", 10) + bytes(4)
    body += (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little") + WHOLE["webp"]()[12:]
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def tiff_of_two_that_go_round() -> bytes:
    """Two directories, each naming the other as the next."""
    whole = encoded(Image.new("L", (8, 8)), "TIFF", save_all=True, append_images=[Image.new("L", (8, 8))])
    data = bytearray(whole.getvalue())
    (first,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, first)
    (second,) = struct.unpack_from("<I", data, first + 2 + entries * 12)
    (entries,) = struct.unpack_from("<H", data, second)
    struct.pack_into("<I", data, second + 2 + entries * 12, first)
    return bytes(data)


def tiff_in_one_strip(side: int = 8000) -> bytes:
    """As many pixels as are allowed, packed into one piece that must be unpacked at once: 384 MB beside the image."""
    strip = zeros(side * side * 6)
    entries = [
        *((256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 16), (259, 3, 1, 8), (262, 3, 1, 2)),
        *((273, 4, 1, 8), (277, 3, 1, 3), (278, 4, 1, side), (279, 4, 1, len(strip))),
    ]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip + directory


@cache
def jpeg_of_many_scans(side: int = 8000, scans: int = 1000) -> bytes:
    """A few bytes a scan, each of which goes over the whole image once more."""
    whole = encoded(Image.new("L", (side, side), 128), "JPEG", progressive=True, quality=50).getvalue()
    last = whole.rindex(b"\xff\xda")
    return whole[:last] + whole[last:-2] * scans + whole[-2:]


def jpeg_of_all_coefficients(side: int = 7900) -> bytes:
    """Four colours in several scans: all of their coefficients are kept until the last one. Only the header is true."""
    small = encoded(Image.new("CMYK", (16, 16)), "JPEG", progressive=True).getvalue()
    at = small.index(b"\xff\xc2") + 5
    return small[:at] + struct.pack(">HH", side, side) + small[at + 4 :]


BOMBS = [
    Hostile("bomb", "60000x60000.png", lambda: png_bomb(60_000).getvalue(), "too-many-pixels"),
    Hostile("bomb", "canvas.webp", lambda: webp_of(16_000_000, 200), "too-many-pixels"),
    Hostile("bomb", "deep-zlib.png", png_that_goes_on, "too-much-metadata"),
    Hostile("bomb", "deep-zlib-text.png", lambda: png_with_chunk(b"zTXt", b"a\0\0" + zeros()), "too-much-metadata"),
    Hostile("bomb", "deep-zlib-icc.png", lambda: png_with_chunk(b"iCCP", b"a\0\0" + zeros()), "too-much-metadata"),
    Hostile("bomb", "huge-text.png", lambda: png_with_text("Comment", "long " * 400_000), "too-much-metadata"),
    Hostile("bomb", "10000-frames.gif", lambda: gif_of_empty_frames(10_000).getvalue(), "too-many-frames"),
    Hostile("bomb", "loop.tiff", lambda: tiff_with_loop().getvalue(), "truncated-image"),
    Hostile("bomb", "loop-of-two.tiff", tiff_of_two_that_go_round, "truncated-image"),
    Hostile("bomb", "one-strip.tiff", tiff_in_one_strip, "too-much-memory", is_slow=True),
    Hostile("bomb", "coefficients.jpg", jpeg_of_all_coefficients, "too-much-memory"),
    Hostile("bomb", "many-scans.jpg", jpeg_of_many_scans, "too-slow", is_slow=True),
    Hostile("bomb", "chunks.png", lambda: png_with_chunk(b"prVt", b"", 5_000), "too-much-metadata"),
    Hostile("nothing", "empty.jpg", lambda: b"", "empty-file"),
]

# --- Good images with bad company -------------------------------------------------------------------------------------


def jpeg(**options: object) -> bytes:
    return encoded(corners(), "JPEG", quality=95, **options).getvalue()


def exif_that_goes_round() -> bytes:
    """Its directory names itself as the next one, and as that of its Exif tags."""
    entry = struct.pack("<HHII", 0x8769, 4, 1, 8)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 8)


STRIPPED = [
    Hostile(
        "bad EXIF",
        "torn.jpg",
        lambda: jpeg(exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x99\xff" * 9),
        ACCEPTED,
        "torn.jpg",
    ),
    Hostile("bad EXIF", "round.jpg", lambda: jpeg(exif=exif_that_goes_round()), ACCEPTED, "round.jpg"),
    Hostile("bad EXIF", "full.jpg", lambda: jpeg(exif=b"Exif\0\0MM\0*" + b"\xff" * 60_000), ACCEPTED, "full.jpg"),
    Hostile("absurd ICC", "icc.jpg", lambda: jpeg(icc_profile=b"\xff" * 3_000_000), ACCEPTED, "icc.jpg"),
    Hostile(
        "absurd ICC", "icc.png", lambda: png_with_chunk(b"iCCP", b"\xffsRGB\0\0not packed at all"), ACCEPTED, "icc.png"
    ),
    Hostile(
        "absurd ICC",
        "icc.webp",
        lambda: encoded(corners(), "WEBP", icc_profile=b"no profile" * 9_000).getvalue(),
        ACCEPTED,
        "icc.webp",
    ),
]


def of_one_colour(number: int) -> Callable[[], bytes]:
    """Another file each time: else they would be duplicates."""

    def make() -> bytes:
        image = corners()
        image.putpixel((0, 0), (number, 1, 2))
        return encoded(image, "PNG").getvalue()

    return make


NAMES = [
    Hostile("name", "../../../../etc/cron.d/up.png", of_one_colour(1), ACCEPTED, "up.png"),
    Hostile("name", "..\\..\\windows\\up.png", of_one_colour(2), ACCEPTED, "up.png"),
    Hostile("name", "nul\0.png", of_one_colour(3), ACCEPTED, "nul.png"),
    Hostile("name", "photo\u202egnp.exe.png", of_one_colour(4), ACCEPTED, "photognp.exe.png"),
    Hostile("name", "n" * 300 + ".png", of_one_colour(5), ACCEPTED, "n" * 255),
    Hostile("name", "two\nlines\x1b[31m.png", of_one_colour(6), ACCEPTED, "twolines[31m.png"),
]

CORPUS = [*TRUNCATED, *MISNAMED, *POLYGLOTS, *BOMBS, *STRIPPED, *NAMES]


# --- On a disk --------------------------------------------------------------------------------------------------------


def put_on_disk(folder: Path) -> Iterator[tuple[Path, Hostile]]:
    """Those that take no time, under names that a disk takes and an import does not take for hidden."""
    for each in CORPUS:
        if not each.is_slow and not {"/", "\0"} & set(each.name) and len(each.name) < 256 and each.name[0] != ".":
            path = folder / each.name
            path.write_bytes(each.make())
            yield path, each


def put_no_files(folder: Path, secret: Path) -> dict[str, str]:
    """What lies in a folder and is no file: name to the code it is refused with."""
    (folder / "link.jpg").symlink_to(secret)
    os.mkfifo(folder / "pipe.jpg")
    return {"link.jpg": "not-a-file", "pipe.jpg": "not-a-file"}
