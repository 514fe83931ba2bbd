"""Files read in a process of its own: what comes back is what the same code gives here, and the file is as it was."""

from __future__ import annotations

import ast
import inspect
import io
import json
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest
from django.core.files.base import File
from django.core.files.uploadedfile import SimpleUploadedFile, TemporaryUploadedFile
from PIL import Image, ImageOps

from catalog.vision import decode, helper
from catalog.vision.decode import Limits
from catalog.vision.errors import ImageRefused
from catalog.vision.helper import messages
from catalog.vision.helper.handing import handed_over
from catalog.vision.helper.messages import Garbled
from catalog.vision.types import ImageHeader
from tests.catalog.vision.contract import noise
from tests.catalog.vision.files import HEIC_TURNED, corners, encoded, with_exif
from tests.drawn import photo

LIMITS = Limits()
FILES = {
    "a.jpg": photo(),
    "turned.jpg": with_exif(corners(3000, 2000), "JPEG", 6, "2024:05:06 07:08:09").getvalue(),
    "a.png": encoded(noise(300, 200), "PNG").getvalue(),
    "turned.heic": HEIC_TURNED,
}


@pytest.mark.parametrize("name", FILES)
def test_pixels_and_header_are_those_that_are_decoded_here(name: str) -> None:
    there = helper.read_image(io.BytesIO(FILES[name]), name, LIMITS)
    here = decode.read_image(io.BytesIO(FILES[name]), name, LIMITS)
    assert there.header == here.header == helper.inspect(io.BytesIO(FILES[name]), name, LIMITS).header
    assert there.pixels.tobytes() == here.pixels.tobytes()


def opened(path: Path) -> BinaryIO:
    return path.open("rb")


def written_just_now(path: Path) -> BinaryIO:
    """As a fetched file is: without a name, and its last bytes not on the disk yet."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the test's
    file.write(path.read_bytes())
    return file  # type: ignore[return-value]  # it reads and seeks


def uploaded_to_a_disk(path: Path) -> BinaryIO:
    file = TemporaryUploadedFile("a.jpg", "image/jpeg", 0, None)
    file.write(path.read_bytes())
    return file


def kept_in_memory_for_a_while(path: Path) -> BinaryIO:
    file = tempfile.SpooledTemporaryFile(max_size=1 << 20)  # noqa: SIM115 - the test's
    file.write(path.read_bytes())
    return file  # type: ignore[return-value]  # it reads and seeks


WAYS = {
    "a file": opened,
    "Django's file": lambda path: File(opened(path)),
    "an upload": lambda path: SimpleUploadedFile("a.jpg", path.read_bytes()),
    "a large upload": uploaded_to_a_disk,
    "a temporary file": written_just_now,
    "spooled": kept_in_memory_for_a_while,
    "in memory": lambda path: io.BytesIO(path.read_bytes()),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_file_that_was_inspected_reads_as_before(tmp_path: Path, way: str) -> None:
    """Also one of which a part lies in a buffer: what is stored next is the whole file."""
    path = tmp_path / "a.jpg"
    path.write_bytes(FILES["a.jpg"])
    with WAYS[way](path) as file:
        file.seek(0)
        file.read(100)
        assert helper.inspect(file, "a.jpg", LIMITS).header.format == "JPEG"
        file.seek(0)
        assert file.read() == path.read_bytes()


@pytest.mark.parametrize("way", ["a file", "a large upload", "a temporary file"])
def test_a_file_on_a_disk_is_not_copied(tmp_path: Path, way: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(FILES["a.jpg"])
    with WAYS[way](path) as file, handed_over(file) as descriptor:
        assert os.fstat(descriptor).st_ino == os.fstat(file.fileno()).st_ino
        assert os.read(descriptor, 1 << 20) == FILES["a.jpg"]


@pytest.mark.parametrize(
    ("data", "name", "code"),
    [
        (b"", "a.jpg", "empty-file"),
        (FILES["a.jpg"], "a.png", "format-mismatch"),
        (FILES["a.jpg"][:-900], "a.jpg", "truncated-image"),
    ],
)
def test_a_refusal_is_the_same(data: bytes, name: str, code: str) -> None:
    words = []
    for read in (helper.read_image, helper.inspect, decode.read_image):
        with pytest.raises(ImageRefused) as refused:
            read(io.BytesIO(data), name, LIMITS)
        assert refused.value.code == code
        words.append(str(refused.value))
    assert len(set(words)) == 1


def test_a_refusal_says_which_limit_was_hit() -> None:
    with pytest.raises(ImageRefused) as refused:
        helper.inspect(io.BytesIO(FILES["a.png"]), None, Limits(pixels=300 * 200 - 1))
    assert (refused.value.code, refused.value.limits) == ("too-many-pixels", {"limit": 59_999, "actual": 60_000})


def test_several_threads_each_get_their_own() -> None:
    files = {shade: encoded(Image.new("RGB", (900 + shade, 700), (shade, 0, 0)), "PNG") for shade in range(12)}
    with ThreadPoolExecutor(6) as pool:
        images = list(pool.map(lambda shade: helper.read_image(files[shade], "a.png", LIMITS), files))
    assert [(image.pixels.width, image.pixels.getpixel((5, 5))) for image in images] == [
        (900 + shade, (shade, 0, 0)) for shade in files
    ]


# --- Likeness ---------------------------------------------------------------------------------------------------------


def landscape() -> Image.Image:
    """Something with an inside, and not the same from both sides."""
    image = Image.linear_gradient("L").resize((640, 480)).convert("RGB")
    image.paste((250, 240, 20), (400, 40, 520, 160))
    image.paste((20, 60, 30), (0, 300, 300, 480))
    return image


def test_an_image_and_its_mirror_have_each_others_hashes() -> None:
    one = helper.inspect(encoded(landscape(), "PNG"), None, LIMITS)
    mirror = helper.inspect(encoded(ImageOps.mirror(landscape()), "PNG"), None, LIMITS)
    assert one.phash is not None and one.phash != one.phash_mirrored
    assert (mirror.phash, mirror.phash_mirrored) == (one.phash_mirrored, one.phash)
    assert -(2**63) <= one.phash < 2**63


def test_a_smaller_copy_is_alike_and_another_image_is_not() -> None:
    from catalog.vision.likeness import distance

    one, copy, other = (
        helper.inspect(file, None, LIMITS).phash
        for file in (
            encoded(landscape(), "PNG"),
            encoded(landscape().resize((320, 240)), "JPEG", quality=60),
            encoded(noise(640, 480), "PNG"),
        )
    )
    assert one is not None and copy is not None and other is not None
    assert distance(one, copy) <= 6
    assert distance(one, other) >= 16
    assert distance(one, one) == 0
    assert distance(-1, 0) == 64


def test_where_nothing_is_to_be_seen_nothing_looks_alike() -> None:
    seen = helper.inspect(encoded(Image.new("RGB", (90, 90), "navy"), "PNG"), None, LIMITS)
    assert (seen.phash, seen.phash_mirrored) == (None, None)


# --- Normalising ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rule", "form", "size"),
    [
        ("turned.jpg", "longest:1024", "JPEG", (683, 1024)),
        ("turned.jpg", "square:512", "JPEG", (512, 512)),
        ("turned.heic", "square:64", "JPEG", (64, 64)),
        ("a.png", "longest:128", "PNG", (128, 85)),
    ],
)
def test_a_file_is_normalised(name: str, rule: str, form: str, size: tuple[int, int]) -> None:
    """Upright, and without what the camera wrote; when it was taken is known all the same."""
    came = helper.inspect(io.BytesIO(FILES[name]), name, LIMITS, rule)
    assert came.normalised is not None
    kept = decode.read_image(io.BytesIO(came.normalised.data), None, LIMITS)
    assert kept.header.format == came.normalised.header.format == form
    assert (kept.header.width, kept.header.height) == size == kept.pixels.size
    assert (kept.header.orientation, kept.header.taken_at) == (1, None)
    assert came.normalised.header.taken_at == came.header.taken_at
    assert b"Exif" not in came.normalised.data


def test_a_square_keeps_the_shape_of_what_is_in_it_on_white() -> None:
    came = helper.inspect(encoded(Image.new("RGB", (40, 20), "red"), "PNG"), None, LIMITS, "square:80")
    assert came.normalised is not None
    square = decode.read_image(io.BytesIO(came.normalised.data), None, LIMITS).pixels
    assert [square.getpixel(place) for place in ((40, 10), (40, 40), (5, 40), (40, 70))] == [
        (255, 255, 255),
        (255, 0, 0),
        (255, 0, 0),
        (255, 255, 255),
    ]


def test_a_larger_copy_than_is_decoded_for_models_can_be_kept() -> None:
    came = helper.inspect(encoded(noise(3000, 1500), "JPEG"), None, LIMITS, "longest:2048")
    assert came.normalised is not None
    assert (came.normalised.header.width, came.normalised.header.height) == (2048, 1024)


def test_a_square_of_more_pixels_than_images_may_have_here_is_no_fault_of_the_file() -> None:
    """Who begins a job is told; one that was begun under other limits is done as it was begun."""
    came = helper.inspect(io.BytesIO(FILES["a.jpg"]), None, Limits(pixels=400 * 300), "square:512")
    assert came.normalised is not None
    assert came.normalised.header.width == 512


def test_what_is_small_enough_stays_as_it_came() -> None:
    assert helper.inspect(io.BytesIO(FILES["a.png"]), None, LIMITS, "longest:300").normalised is None


@pytest.mark.parametrize("rule", ["", "longest:64", "square:2048"])
def test_rules(rule: str) -> None:
    from catalog.vision.normalising import check_rule

    expected = {"": None, "longest:64": ("longest", 64), "square:2048": ("square", 2048)}
    assert check_rule(rule) == expected[rule]


@pytest.mark.parametrize(
    "rule", ["512", "longest:", "longest:0", "square:63", "square:2049", "LONGEST:512", "square:1e3"]
)
def test_a_bad_rule_is_named_with_what_would_do(rule: str) -> None:
    from catalog.vision.normalising import check_rule

    with pytest.raises(ValueError, match="longest:1024") as error:
        check_rule(rule)
    assert repr(rule) in str(error.value)


def test_a_rule_that_makes_more_pixels_than_images_may_have_is_refused_with_one_that_does_not() -> None:
    from catalog.vision.normalising import check_rule

    with pytest.raises(ValueError, match=r"1,048,576 pixels.* square of 1000 at the most"):
        check_rule("square:1024", 1_000_000)
    assert check_rule("square:1000", 1_000_000) == ("square", 1000)
    assert check_rule("longest:1024", 1_000_000) == ("longest", 1024)  # it enlarges none


# --- What a child that was taken over may say -------------------------------------------------------------------------

HEADER = {"format": "JPEG", "width": 64, "height": 48, "frames": 1, "orientation": 1, "taken_at": None}


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\x80\x04\x95",
        b"[1]",
        b"[" * 60_000,
        b'{"refused": {}}',
        b'{"refused": {"code": "another", "words": "x", "limits": {}}}',
        b'{"refused": {"code": "truncated-image", "words": "two\\nlines", "limits": {}}}',
        b'{"refused": {"code": "truncated-image", "words": "x", "limits": {"path": "/etc"}}}',
        b'{"trouble": {"number": "x", "words": "x"}}',
    ],
)
def test_what_is_no_answer_is_not_believed(said: bytes) -> None:
    with pytest.raises(Garbled):
        messages.loads(said)


def test_every_refusal_of_a_decoder_can_be_passed_on() -> None:
    calls = [node for node in ast.walk(ast.parse(inspect.getsource(decode))) if isinstance(node, ast.Call)]
    refusals = [call for call in calls if getattr(call.func, "id", "") == "ImageRefused"]
    assert {ast.literal_eval(call.args[0]) for call in refusals} == messages.CODES


@pytest.mark.parametrize(
    "changed",
    [
        {"format": "PHP"},
        {"width": 0},
        {"width": True},
        {"width": 64.0},
        {"width": 10_000_000, "height": 10_000_000},
        {"frames": 10**9},
        {"orientation": 9},
        {"taken_at": "<script>"},
    ],
)
def test_a_header_is_held_to_the_limits(changed: dict[str, object]) -> None:
    assert messages.header(HEADER, LIMITS) == ImageHeader("JPEG", 64, 48, 1, 1, None)
    with pytest.raises(Garbled):
        messages.header(HEADER | changed, LIMITS)


@pytest.mark.parametrize(
    ("rule", "header"),
    [
        ("", HEADER),
        ("square:64", HEADER | {"width": 65}),
        ("square:64", HEADER | {"width": 4096, "height": 1}),
        ("square:64", HEADER | {"format": "PNG"}),
        ("square:64", None),
    ],
)
def test_a_file_that_was_made_is_what_the_rule_makes(rule: str, header: object) -> None:
    assert messages.made_header({"header": HEADER}, FILES["a.jpg"], "square:64").width == 64
    with pytest.raises(Garbled):
        messages.made_header({"header": header}, FILES["a.jpg"], rule)


@pytest.mark.parametrize("size", [{"width": 65, "height": 48}, {"width": 0, "height": 1}, [64, 48], None])
def test_pixels_are_no_more_than_the_image_has(size: object) -> None:
    with pytest.raises(Garbled):
        messages.size(size, messages.header(HEADER, LIMITS))


@pytest.mark.parametrize("hashes", [[1], [2**63, 0], ["1", "2"], {"0": 1}, 5])
def test_hashes_are_two_numbers_that_postgres_takes(hashes: object) -> None:
    with pytest.raises(Garbled):
        messages.hashes(json.loads(json.dumps(hashes)))
    assert messages.hashes([-(2**63), 2**63 - 1]) == (-(2**63), 2**63 - 1)


@pytest.mark.parametrize("length", [0, -1, 10**9, None])
def test_a_file_is_no_longer_than_what_is_shared(length: object) -> None:
    with pytest.raises(Garbled):
        messages.length({"bytes": length})
