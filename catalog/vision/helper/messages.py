"""What is said between the one who asks and the child that decodes: JSON, one message each, and shared memory.

The child may have been taken over by a file, so whatever it says is held to what an image may be at most. Its pixels
are 8-bit RGB, row by row from the top, at the beginning of the shared memory; a normalised file likewise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from catalog.vision import preprocess
from catalog.vision.decode import Limits
from catalog.vision.errors import ImageRefused
from catalog.vision.formats import FORMATS, SNIFF_BYTES, sniff
from catalog.vision.normalising import check_rule
from catalog.vision.types import ImageHeader

INSPECT, READ = "inspect", "read"
READY = b"ready"  # a child's first message
TAKEN = b"taken"  # to a child: its answer was read, and what it shares
MOST_BYTES = 1 << 16  # of a message
# The largest of all: no side of a decoded image reaches twice DECODED_SIDE, beside rounding up; see `normalising` for
# its own.
SHARED_BYTES = 20 << 20

CODES = frozenset(  # of refusals that may come of reading a file (catalog.vision.decode)
    (
        *("empty-file", "too-many-bytes", "not-an-image", "format-not-supported", "format-mismatch", "truncated-image"),
        *("too-many-pixels", "too-many-frames", "too-much-memory", "too-much-metadata", "foreign-content"),
    )
)
_TIME = re.compile(r"\d{4}(:\d\d){2} \d\d(:\d\d){2}")
_MOST_WORDS = 500


class Garbled(Exception):
    """What the child said is no answer to what it was asked."""


@dataclass(frozen=True, slots=True)
class Request:
    """``task``: INSPECT or READ; ``normalise``: a rule of catalog.vision.normalising or ""."""

    task: str
    limits: Limits
    normalise: str = ""

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Request:
        said = json.loads(data)
        return cls(said["task"], Limits(**said["limits"]), said["normalise"])


def dumps(answer: Mapping[str, Any]) -> bytes:
    return json.dumps(answer).encode()


def refusal(error: ImageRefused) -> dict[str, Any]:
    return {"refused": {"code": error.code, "words": str(error)[:_MOST_WORDS], "limits": error.limits}}


def trouble(error: OSError) -> dict[str, Any]:
    return {"trouble": {"number": error.errno, "words": (error.strerror or str(error))[:_MOST_WORDS]}}


def loads(data: bytes) -> dict[str, Any]:
    """An answer, still to be looked at field by field.

    Raises Garbled; ImageRefused where that is the answer; OSError where the child could not read for reasons that are
    none of the file's.
    """
    try:
        said = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Garbled(str(error)) from error
    if not isinstance(said, dict):
        raise Garbled("no object")
    if "refused" in said:
        raise _refused(said["refused"])
    if "trouble" in said:
        found = said["trouble"]
        raise OSError(_number(found, "number", 0, 4095), _text(found, "words"))
    return said


def header(said: Any, limits: Limits) -> ImageHeader:
    """A header within ``limits``. Raises Garbled."""
    kind, taken_at = _text(said, "format"), said.get("taken_at")
    if kind not in FORMATS:
        raise Garbled("no format")
    if taken_at is not None and not (isinstance(taken_at, str) and _TIME.fullmatch(taken_at)):
        raise Garbled("no time")
    width, height = (_number(said, name, 1, limits.pixels) for name in ("width", "height"))
    if width * height > limits.pixels:
        raise Garbled("too many pixels")
    frames, orientation = _number(said, "frames", 1, limits.frames), _number(said, "orientation", 1, 8)
    return ImageHeader(kind, width, height, frames, orientation, taken_at)


def made_header(said: Any, data: bytes, rule: str) -> ImageHeader:
    """Of a file that was made by ``rule`` (catalog.vision.normalising), with its bytes. Raises Garbled."""
    found = check_rule(rule)
    if found is None:
        raise Garbled("a file that nobody asked for")
    made = header(said.get("header"), Limits(pixels=found[1] ** 2, frames=1))
    if max(made.width, made.height) > found[1]:
        raise Garbled("a side that nobody asked for")
    if sniff(data[:SNIFF_BYTES]) is not FORMATS[made.format]:
        raise Garbled("another format than it says")
    return made


def size(said: Any, of: ImageHeader) -> tuple[int, int]:
    """Width and height of the pixels that were decoded of an image with this header. Raises Garbled."""
    most = 2 * preprocess.DECODED_SIDE
    width, height = (_number(said, name, 1, most) for name in ("width", "height"))
    if width > of.width or height > of.height:
        raise Garbled("pixels of another image")
    return width, height


def hashes(said: Any) -> tuple[int, int] | None:
    """Two signed numbers of 64 bits. Raises Garbled."""
    if said is None:
        return None
    most = 1 << 63
    if not isinstance(said, list) or len(said) != 2:
        raise Garbled("no hashes")
    phash, mirrored = (_whole(each, "hash", -most, most - 1) for each in said)
    return phash, mirrored


def length(said: Any) -> int:
    """Bytes of a file in shared memory. Raises Garbled."""
    return _number(said, "bytes", 1, SHARED_BYTES)


def _refused(said: Any) -> ImageRefused:
    code, words = _text(said, "code"), _text(said, "words")
    limits = said.get("limits")
    if code not in CODES or not words or not isinstance(limits, dict):
        raise Garbled("no refusal")
    if not limits.keys() <= {"limit", "actual"} or not all(type(value) is int for value in limits.values()):
        raise Garbled("no limits")
    return ImageRefused(code, words, **limits)


def _text(said: Any, key: str) -> str:
    value = said.get(key) if isinstance(said, dict) else None
    if not isinstance(value, str) or len(value) > _MOST_WORDS or not value.isprintable():
        raise Garbled(f"no {key}")
    return value


def _number(said: Any, key: str, least: int, most: int) -> int:
    return _whole(said.get(key) if isinstance(said, dict) else None, key, least, most)


def _whole(value: Any, what: str, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise Garbled(f"no {what}")
    return value
