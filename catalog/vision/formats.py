"""The image formats we take: their names, extensions and mime types, and what their first bytes tell.

HEIC is decoded by pi-heif, whose wheel bundles libheif and libde265 only, both LGPLv3 (its file LICENSES_bundled.txt);
it has no HEVC encoder, so nothing of the GPL is in it. Its auxiliary images (thumbnails, depth maps) are never read.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import pi_heif
from PIL import Image

SNIFF_BYTES = 512  # enough for every signature below, including the brands of an ISO container

# Process-wide, because warnings.catch_warnings() is not safe where several threads decode.
warnings.simplefilter("error", Image.DecompressionBombWarning)
pi_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)


@dataclass(frozen=True, slots=True)
class Format:
    """``plugin`` is Pillow's name of the decoder; ``orients_itself`` says that its pixels come out oriented.

    ``bytes_of_pixel``: what a pixel takes in memory while it is decoded, as measured: libwebp holds two canvases beside
    the frame, libavif and libheif the planes beside their RGB, Pillow copies each once more.
    """

    name: str
    plugin: str
    extensions: tuple[str, ...]
    mime_type: str
    orients_itself: bool = False
    bytes_of_pixel: float = 4

    @property
    def extension(self) -> str:
        """The usual extension, with its dot."""
        return self.extensions[0]


FORMATS: dict[str, Format] = {
    kind.name: kind
    for kind in (
        Format("JPEG", "JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), "image/jpeg"),
        Format("PNG", "PNG", (".png", ".apng"), "image/png"),
        Format("WebP", "WEBP", (".webp",), "image/webp", bytes_of_pixel=15.5),
        Format("GIF", "GIF", (".gif",), "image/gif"),
        Format("TIFF", "TIFF", (".tif", ".tiff"), "image/tiff", orients_itself=True),
        Format("AVIF", "AVIF", (".avif", ".avifs"), "image/avif", bytes_of_pixel=11.5),
        Format(
            *("HEIC", "HEIF", (".heic", ".heif", ".hif", ".heics", ".heifs"), "image/heic"),
            orients_itself=True,
            bytes_of_pixel=7.5,
        ),
    )
}
FORMAT_NAMES = ", ".join(list(FORMATS)[:-1]) + " or " + list(FORMATS)[-1]

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"BM", "BMP"),
    (b"%PDF", "PDF"),
    (b"8BPS", "Photoshop"),
    (b"\0\0\1\0", "ICO"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
)
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})


def sniff(head: bytes) -> Format | None:
    """The format that the first SNIFF_BYTES of a file claim to be, or None for one we do not take."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return FORMATS["WebP"]
    if head[4:8] == b"ftyp":
        return _sniff_brands(head)
    return next((FORMATS[name] for signature, name in _SIGNATURES if head.startswith(signature)), None)


def other_format(head: bytes) -> str | None:
    """The name of a well-known format that we do not take, so that a refusal can say it; None when unknown."""
    if b"<svg" in head.lower():
        return "SVG"
    if head[4:8] == b"ftyp":
        return "video"
    return next((name for signature, name in _OTHERS if head.startswith(signature)), None)


def webp_size(head: bytes) -> tuple[int, int] | None:
    """Width and height of a WebP's canvas by its first 30 bytes (RFC 9649, 2.5 to 2.7), None where they say nothing.

    Pillow tells them when libwebp has made two canvases of that size.
    """
    kind = head[12:16]
    if kind == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    return None


def _sniff_brands(head: bytes) -> Format | None:
    """AVIF or HEIC by the brands of the ``ftyp`` box (ISO/IEC 14496-12, 4.3): the major one first, then the others."""
    size = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, size - 3, 4))]
    for brand in brands:
        if brand in _AVIF_BRANDS:
            return FORMATS["AVIF"]
        if brand in _HEIC_BRANDS:
            return FORMATS["HEIC"]
    return None
