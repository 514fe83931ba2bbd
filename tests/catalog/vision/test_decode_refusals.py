"""Files that are no images, or too much of one: each refused with its code and a sentence that says what to do."""

from __future__ import annotations

import errno
import io
import random
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from PIL import Image

from catalog.vision import preprocess
from catalog.vision.decode import Limits, read_header, read_image
from catalog.vision.errors import ImageRefused
from catalog.vision.frames import count_gif_frames, count_tiff_frames
from tests.catalog.vision.contract import noise
from tests.catalog.vision.files import (
    HEIC,
    Made,
    animation,
    corners,
    encoded,
    gif_of_empty_frames,
    png_bomb,
    tiff_with_loop,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow remarks on damage

LIMITS = Limits()
ROOT = Path(__file__).resolve().parents[3]


def refusal(data: bytes | io.BytesIO, name: str | None = None, limits: Limits = LIMITS) -> ImageRefused:
    file = data if isinstance(data, io.BytesIO) else io.BytesIO(data)
    with pytest.raises(ImageRefused) as caught:
        read_image(file, name, limits)
    return caught.value


@pytest.mark.parametrize(
    ("data", "name", "code", "says"),
    [
        (b"", "photo.jpg", "empty-file", "Send a JPEG, PNG"),
        (b"hello, this is no image\n" * 40, "photo.jpg", "not-an-image", "Send a JPEG, PNG"),
        (bytes(5000), None, "not-an-image", "not an image"),
        (b"\xff", None, "not-an-image", "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "drawing.svg", "format-not-supported", "SVG files are not"),
        (b"<?xml version='1.0'?>\n<!-- x --><SVG></SVG>", None, "format-not-supported", "SVG files are not"),
        (b"%PDF-1.7\n", "scan.pdf", "format-not-supported", "PDF files are not taken. Send a JPEG"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "film.mp4", "format-not-supported", "video"),
    ],
)
def test_what_is_no_image_we_take(data: bytes, name: str | None, code: str, says: str) -> None:
    error = refusal(data, name)
    assert error.code == code
    assert says in str(error)


def test_a_format_that_pillow_would_read_is_still_refused() -> None:
    error = refusal(encoded(corners(), "BMP"), "photo.bmp")
    assert (error.code, "BMP" in str(error)) == ("format-not-supported", True)


@pytest.mark.parametrize("name", ["photo.png", "photo.PNG", "photo.gif", "photo.txt", "photo.jpg.exe"])
def test_a_name_that_says_something_else(name: str) -> None:
    error = refusal(encoded(corners(), "JPEG"), name)
    assert error.code == "format-mismatch"
    assert ".jpg" in str(error) and "JPEG" in str(error)


# --- Damage -----------------------------------------------------------------------------------------------------------

WHOLE: dict[str, Made] = {
    "JPEG": lambda: encoded(noise(320, 240), "JPEG"),
    "PNG": lambda: encoded(noise(320, 240), "PNG"),
    "WebP": lambda: encoded(noise(320, 240), "WEBP"),
    "GIF": lambda: encoded(noise(320, 240), "GIF"),
    "TIFF": lambda: encoded(noise(320, 240), "TIFF", compression="tiff_lzw"),
    "TIFF without compression": lambda: encoded(noise(320, 240), "TIFF"),
    "AVIF": lambda: encoded(noise(320, 240), "AVIF"),
    "HEIC": lambda: io.BytesIO(HEIC),
}


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_a_file_that_is_cut_off(kind: str, share: float) -> None:
    data = WHOLE[kind]().getvalue()
    error = refusal(data[: int(len(data) * share)])
    assert error.code == "truncated-image"
    assert "cut off or damaged" in str(error)


@pytest.mark.parametrize("kind", WHOLE)
def test_a_signature_alone(kind: str) -> None:
    assert refusal(WHOLE[kind]().getvalue()[:24]).code == "truncated-image"


@pytest.mark.parametrize("kind", WHOLE)
def test_damage_anywhere_is_refused_or_read_but_never_raises_anything_else(kind: str) -> None:
    """Seeded damage: bytes overwritten, runs removed, tails replaced."""
    whole = WHOLE[kind]().getvalue()
    dice = random.Random(20240607)
    for _ in range(120):
        data = bytearray(whole)
        for _ in range(dice.choice((1, 3, 20))):
            data[dice.randrange(4, min(len(data), dice.choice((64, 400, len(data)))))] = dice.randrange(256)
        if dice.random() < 0.3:
            start = dice.randrange(len(data))
            del data[start : start + dice.randrange(1, 200)]
        try:
            image = read_image(io.BytesIO(bytes(data)), None, Limits(pixels=1_000_000))
        except ImageRefused:
            continue
        assert image.pixels.mode == "RGB"


def test_trouble_with_the_disk_is_not_blamed_on_the_image() -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 100:
                raise OSError(errno.EIO, "Input/output error")
            return super().read(size)

    with pytest.raises(OSError, match="Input/output error"):
        read_image(Failing(WHOLE["JPEG"]().getvalue()), None, LIMITS)


# --- Limits -----------------------------------------------------------------------------------------------------------


def test_too_many_bytes() -> None:
    file = encoded(noise(64, 64), "PNG")
    size = len(file.getvalue())
    assert read_header(file, None, Limits(bytes=size)).width == 64
    error = refusal(file, None, Limits(bytes=size - 1))
    assert (error.code, error.limits) == ("too-many-bytes", {"limit": size - 1, "actual": size})


@pytest.mark.parametrize("plugin", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF"])
def test_too_many_pixels(plugin: str) -> None:
    file = encoded(corners(), plugin)
    assert read_header(file, None, Limits(pixels=64 * 48)).height == 48
    error = refusal(file, None, Limits(pixels=64 * 48 - 1))
    assert (error.code, error.limits) == ("too-many-pixels", {"limit": 3071, "actual": 3072})


def test_a_bomb_is_refused_without_being_unpacked() -> None:
    bomb = png_bomb(60_000)
    tracemalloc.start()
    try:
        error = refusal(bomb)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert error.code == "too-many-pixels"
    assert peak < 2_000_000


def test_pillows_bomb_warning_is_an_error_even_where_our_own_limit_is_higher() -> None:
    """In a process of its own, because pytest has filters of its own for warnings."""
    program = (
        "from tests.catalog.vision.files import png_bomb\n"
        "from catalog.vision.decode import Limits, read_header\n"
        "from catalog.vision.errors import ImageRefused\n"
        "try:\n    read_header(png_bomb(10_000), None, Limits(pixels=10**12))\n"
        "except ImageRefused as error:\n    print(error.code)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "too-many-pixels"


PEAK = """
import io, sys
from PIL import Image
from catalog.vision.decode import Limits, read_image
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM:")) * 1024
file = io.BytesIO()
Image.new(sys.argv[1], (4000, 4000), 7).save(file, "TIFF", compression="tiff_deflate")
before = peak()
read_image(file, None, Limits())
print(peak() - before)
"""


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_many_bits_are_never_held_several_times(mode: str) -> None:
    """A small file may unpack to the most pixels allowed. Reading it takes little more than making it has taken."""
    done = subprocess.run([sys.executable, "-c", PEAK, mode], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 4 * 4000 * 4000


def test_a_machine_that_is_full_is_no_fault_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    file = encoded(corners(), "PNG")
    monkeypatch.setattr(preprocess, "reduced_rgb", full)
    with pytest.raises(MemoryError):
        read_image(file, None, Limits())


@pytest.mark.parametrize("plugin", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_too_many_frames(plugin: str) -> None:
    file = animation(plugin, 5)
    assert read_header(file, None, Limits(frames=5)).frames == 5
    error = refusal(file, None, Limits(frames=4))
    assert (error.code, error.limits["limit"]) == ("too-many-frames", 4)


def test_a_gif_of_millions_of_frames_is_counted_no_further_than_the_limit() -> None:
    file = gif_of_empty_frames(4_000_000)
    assert count_gif_frames(file, 1000) == 1001
    assert refusal(file).code == "too-many-frames"


def test_a_chain_of_tiff_pages_that_loops_is_refused() -> None:
    with pytest.raises(ValueError, match="circle"):
        count_tiff_frames(tiff_with_loop(), 1000)
    assert refusal(tiff_with_loop()).code == "truncated-image"


def test_a_tiff_page_outside_the_file_ends_the_chain() -> None:
    data = bytearray(tiff_with_loop().getvalue())
    (first,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + entries * 12, 0xFFFFFF00)
    assert count_tiff_frames(io.BytesIO(bytes(data)), 1000) == 2


def test_the_largest_image_allowed_is_decoded_small() -> None:
    image = read_image(encoded(Image.new("L", (8000, 8000)), "PNG"), None, LIMITS)
    assert max(image.pixels.size) == 2000 >= preprocess.DECODED_SIDE


class CountedReads(io.BytesIO):
    """Counts how often somebody reads."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        return super().read(size)


@pytest.mark.parametrize("filler", [b"\0", b"\xff", b"\xff\0", b"\xff\xd0", b"\xff\xe0\0\2"], ids=bytes.hex)
def test_a_jpeg_that_never_comes_to_its_pixels_is_refused_without_reading_on(filler: bytes) -> None:
    file = CountedReads(b"\xff\xd8\xff\xe0\0\2" + filler * (8_000_000 // len(filler)))
    with pytest.raises(ImageRefused) as refusal:
        read_header(file, "photo.jpg", Limits())
    assert refusal.value.code == "truncated-image"
    assert file.reads < 50_000
