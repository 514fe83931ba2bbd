"""Files that are images: every format, colour mode and orientation comes out as upright 8-bit RGB."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from catalog.vision.decode import Limits, decode, decode_grey, read_header, read_image
from catalog.vision.formats import FORMATS
from tests.catalog.vision.files import (
    HEIC,
    HEIC_TURNED,
    Made,
    animation,
    corners,
    encoded,
    quarters,
    sixteen_bit,
    with_exif,
)
from tests.drawn import scene

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow remarks on damage

LIMITS = Limits()

FILES: dict[str, Made] = {
    "JPEG": lambda: encoded(corners(), "JPEG", quality=95),
    "PNG": lambda: encoded(corners(), "PNG"),
    "WebP": lambda: encoded(corners(), "WEBP", lossless=True),
    "GIF": lambda: encoded(corners(), "GIF"),
    "TIFF": lambda: encoded(corners(), "TIFF", compression="tiff_lzw"),
    "AVIF": lambda: encoded(corners(), "AVIF", quality=90),
}


@pytest.mark.parametrize("name", FILES)
def test_every_format_is_read(name: str) -> None:
    file = FILES[name]()
    header = read_header(file, "photo" + FORMATS[name].extension, LIMITS)
    assert (header.format, header.width, header.height, header.frames) == (name, 64, 48, 1)
    image = decode(file, header)
    assert (image.pixels.size, image.scale, quarters(image.pixels)) == ((64, 48), 1.0, "RGBW")


def test_heic_is_read() -> None:
    image = read_image(io.BytesIO(HEIC), "IMG_0001.HEIC", LIMITS)
    assert (image.header.format, image.pixels.size, quarters(image.pixels)) == ("HEIC", (64, 48), "RBRB")


def test_heic_is_turned_once() -> None:
    image = read_image(io.BytesIO(HEIC_TURNED), None, LIMITS)
    assert (image.header.width, image.header.height) == image.pixels.size == (48, 64)
    assert quarters(image.pixels) == "RRBB"


def test_a_file_of_several_jpegs_is_a_jpeg() -> None:
    file = encoded(corners(), "MPO", save_all=True, append_images=[Image.new("RGB", (64, 48))], quality=95)
    image = read_image(file, "stereo.jpg", LIMITS)
    assert (image.header.format, image.header.frames, quarters(image.pixels)) == ("JPEG", 2, "RGBW")


@pytest.mark.parametrize("extension", [".jpg", ".JPG", ".jpeg", ".Jpe", ""])
def test_all_spellings_of_an_extension_agree(extension: str) -> None:
    assert read_header(FILES["JPEG"](), "photo" + extension, LIMITS).format == "JPEG"


# --- Orientation ------------------------------------------------------------------------------------------------------

STORED = {  # how the quarters RGBW lie in the file for each orientation, so that the upright image is RGBW
    1: lambda image: image,
    2: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    3: lambda image: image.transpose(Image.Transpose.ROTATE_180),
    4: lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
    6: lambda image: image.transpose(Image.Transpose.ROTATE_90),
    7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
    8: lambda image: image.transpose(Image.Transpose.ROTATE_270),
}


@pytest.mark.parametrize("plugin", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", STORED)
def test_orientation_is_applied_once(plugin: str, orientation: int) -> None:
    file = with_exif(STORED[orientation](corners()), plugin, orientation)
    image = read_image(file, None, LIMITS)
    assert (image.header.width, image.header.height) == (64, 48)
    assert image.header.orientation == orientation
    assert (image.pixels.size, quarters(image.pixels)) == ((64, 48), "RGBW")


@pytest.mark.parametrize("plugin", ["JPEG", "PNG", "TIFF"])
def test_a_large_image_is_turned_and_reduced(plugin: str) -> None:
    file = with_exif(STORED[6](corners(4000, 3000)), plugin, 6)
    image = read_image(file, None, LIMITS)
    assert (image.header.width, image.header.height) == (4000, 3000)
    assert (image.pixels.size, image.scale, quarters(image.pixels)) == ((2000, 1500), 2.0, "RGBW")


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_none(orientation: int) -> None:
    image = read_image(with_exif(corners(), "JPEG", orientation), None, LIMITS)
    assert (image.header.orientation, quarters(image.pixels)) == (1, "RGBW")


# --- Metadata ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2024:05:06 07:08:09", "2024:05:06 07:08:09"),
        ("0000:00:00 00:00:00", None),
        ("    :  :     :  :  ", None),
        ("2024-05-06T07:08:09", None),
        ("yesterday", None),
        ("", None),
        (None, None),
    ],
)
def test_the_time_of_the_photo(written: str | None, read: str | None) -> None:
    assert read_header(with_exif(corners(), "JPEG", taken_at=written), None, LIMITS).taken_at == read


def test_damaged_exif_data_does_not_matter() -> None:
    file = encoded(corners(), "JPEG", quality=95, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x99\xff" * 9)
    image = read_image(file, None, LIMITS)
    assert (image.header.orientation, image.header.taken_at, quarters(image.pixels)) == (1, None, "RGBW")


# --- Colour modes -----------------------------------------------------------------------------------------------------


def test_grey_is_grey() -> None:
    image = read_image(encoded(corners().convert("L"), "JPEG", quality=95), None, LIMITS)
    red, green, blue = (np.asarray(image.pixels.getchannel(name)) for name in "RGB")
    assert np.array_equal(red, green) and np.array_equal(green, blue)
    assert abs(int(red[5, 5]) - 76) < 4  # the luma of pure red


def test_a_palette_is_looked_up() -> None:
    assert quarters(read_image(encoded(corners().quantize(8), "PNG"), None, LIMITS).pixels) == "RGBW"


@pytest.mark.parametrize("plugin", ["JPEG", "TIFF"])
def test_cmyk(plugin: str) -> None:
    assert quarters(read_image(encoded(corners().convert("CMYK"), plugin), None, LIMITS).pixels) == "RGBW"


@pytest.mark.parametrize("plugin", ["PNG", "TIFF"])
def test_sixteen_bits_keep_their_upper_byte(plugin: str) -> None:
    pixels = read_image(sixteen_bit(plugin), None, LIMITS).pixels
    assert (pixels.getpixel((10, 10)), pixels.getpixel((50, 10))) == ((0, 0, 0), (128, 128, 128))


def test_floats_are_stretched() -> None:
    values = np.full((48, 64), -2.5, np.float32)
    values[:, 32:] = 7.5
    values[0, 0] = np.nan
    pixels = read_image(encoded(Image.fromarray(values), "TIFF"), None, LIMITS).pixels
    assert (pixels.getpixel((10, 10)), pixels.getpixel((50, 10))) == ((0, 0, 0), (255, 255, 255))


def test_one_bit() -> None:
    image = Image.new("1", (64, 48), 0)
    image.paste(1, (32, 0, 64, 48))
    assert quarters(read_image(encoded(image, "PNG"), None, LIMITS).pixels) == "KWKW"


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("side", [64, 3000])
def test_transparency_lies_on_white(mode: str, side: int) -> None:
    image = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (side // 2, 0, side, side))
    file = encoded(image.convert(mode), "PNG")
    assert quarters(read_image(file, None, LIMITS).pixels) == "WKWK"


def test_a_transparent_grey_lies_on_white() -> None:
    image = Image.new("L", (64, 48), 7)
    image.paste(0, (32, 0, 64, 48))
    assert quarters(read_image(encoded(image, "PNG", transparency=7), None, LIMITS).pixels) == "WKWK"


# --- Sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plugin", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF"])
def test_a_single_pixel(plugin: str) -> None:
    image = read_image(encoded(Image.new("RGB", (1, 1), "red"), plugin), None, LIMITS)
    assert (image.pixels.size, image.pixels.mode) == ((1, 1), "RGB")


@pytest.mark.parametrize("plugin", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize(
    ("size", "factor"),
    [((1279, 900), 1), ((2559, 1700), 1), ((2560, 1700), 2), ((5121, 40), 4), ((20000, 50), 8), ((50, 20480), 16)],
)
def test_the_longest_side_is_reduced_and_stays_at_least_1280(plugin: str, size: tuple[int, int], factor: int) -> None:
    image = read_image(encoded(corners(*size), plugin), None, LIMITS)
    longest = max(size)
    assert (image.header.width, image.header.height) == size
    assert abs(max(image.pixels.size) - longest / factor) <= 2
    assert max(image.pixels.size) >= min(longest, 1280)
    assert image.scale == longest / max(image.pixels.size)


def test_reduced_alike_whatever_the_format() -> None:
    ramp = np.linspace(0, 255, 2600).astype(np.uint8)
    picture = Image.fromarray(np.stack([np.broadcast_to(ramp, (900, 2600))] * 3, axis=2))
    files = [encoded(picture, "PNG"), encoded(picture, "JPEG", quality=95), encoded(picture, "WEBP", lossless=True)]
    first, *others = (np.asarray(read_image(file, None, LIMITS).pixels).astype(int) for file in files)
    assert all(np.abs(first - other).max() <= 3 for other in others)


@pytest.mark.parametrize("plugin", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_the_first_frame_of_an_animation_is_the_image(plugin: str) -> None:
    image = read_image(animation(plugin, 3), None, LIMITS)
    assert (image.header.frames, quarters(image.pixels)) == (3, "RRRR")


def test_reading_twice_gives_the_same() -> None:
    file = FILES["JPEG"]()
    assert read_image(file, None, LIMITS).pixels.tobytes() == read_image(file, None, LIMITS).pixels.tobytes()


# --- In grey ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_in_grey_it_is_the_same_image(name: str) -> None:
    file = FILES[name]()
    header = read_header(file, None, LIMITS)
    grey = decode_grey(file, header)
    assert (grey.mode, grey.size) == ("L", (64, 48))
    assert_alike(grey, decode(file, header).pixels)


@pytest.mark.parametrize(("mode", "orientation"), [("RGB", 6), ("L", 3), ("CMYK", 1)])
def test_a_large_jpeg_in_grey_is_reduced_and_turned_as_in_colours(mode: str, orientation: int) -> None:
    file = with_exif(scene(1, (2600, 2000)).convert(mode), "JPEG", orientation)
    header = read_header(file, None, LIMITS)
    grey, colours = decode_grey(file, header), decode(file, header).pixels
    assert grey.size == colours.size and max(grey.size) == 1300
    assert_alike(grey, colours)


def assert_alike(grey: Image.Image, colours: Image.Image) -> None:
    """But for what a step through colours rounds, and cuts off where pure ones meet."""
    off = np.abs(np.asarray(grey, np.int16) - np.asarray(colours.convert("L"), np.int16))
    assert off.mean() < 1 and np.percentile(off, 99) <= 16
