"""What a file at the door must pass; nothing is stored here, and no row of a line is written.

`check` reads the file as bytes, `inspect` has the whole of it decoded. What does not pass has its verdict in the line:
``refused``, where sending the same file again would end the same way; ``failed``, where it would not (``code``: one of
OURS, where it is no fault of the file).
"""

from __future__ import annotations

import errno
import hashlib
import io
import logging
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO
from uuid import UUID

from uuid_utils.compat import uuid7

from catalog import storage
from catalog.exceptions import ImageRefused, StorageUnavailable
from catalog.models import IntakeJob, IntakeLine
from catalog.vision import helper, registry
from catalog.vision.decode import check_file
from catalog.vision.errors import DecoderStarved, DecoderUnavailable
from catalog.vision.helper import Inspected
from catalog.vision.types import ImageHeader

logger = logging.getLogger(__name__)

Verdict = IntakeLine.Verdict
# What turns the direction of the text that follows (Unicode Standard Annex 9, 2), so that a name looks like another.
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

UNREADABLE = "file-unreadable"  # it was opened, and reading it broke off
STARVED = "decoder-starved"
GONE = "job-gone"  # of a line whose row went with its job while the file was on its way
OURS = (StorageUnavailable.code, StorageUnavailable.full, DecoderUnavailable.code)
# Of reading: this machine is short of something, whatever the file.
_SHORT_OF = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What the one who puts an image in knows of it. Keys of Image of the same names."""

    title: str = ""
    label: str = ""
    external_id: str = ""
    link: str = ""
    source_url: str = ""
    licence: str = ""
    is_published: bool = True
    tags: Sequence[str] = ()
    uploader_id: int | None = None

    def columns(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "tags"}


@dataclass(frozen=True, slots=True)
class Arrival:
    """A file at the door: seekable, the name it came under, what is known of it.

    ``person_name`` is named on its face once it is processed, should exactly one be found. ``line`` is the one that was
    planned for it (`IntakeLine` ``waiting``, claimed by whoever calls); without it a new line is made.
    """

    file: BinaryIO
    name: str
    facts: ImageFacts = field(default_factory=ImageFacts)
    person_name: str = ""
    line: IntakeLine | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """A file that passed so far, or whose line says why it did not.

    ``file``, ``sha256`` and ``byte_size`` are of what is kept; ``source_sha256`` of what came where that is another.
    """

    arrival: Arrival
    line: IntakeLine
    file: BinaryIO
    sha256: str = ""
    source_sha256: str = ""
    byte_size: int = 0
    inspected: Inspected | None = None  # by `inspect`
    image_id: UUID = field(default_factory=uuid7)

    @property
    def is_open(self) -> bool:
        return self.line.verdict == Verdict.RECEIVING

    @property
    def header(self) -> ImageHeader:
        """Of the file that is kept, once it is inspected."""
        assert self.inspected is not None
        return self.inspected.normalised.header if self.inspected.normalised else self.inspected.header


def check(job: IntakeJob, arrival: Arrival) -> Checked:
    """All that can be known before anything is parsed."""
    name = clean(arrival.name)
    line = arrival.line or IntakeLine(job=job, source=source_of(name), person_name=clean(arrival.person_name))
    line.verdict, line.code, line.reason = Verdict.RECEIVING, "", ""
    checked = Checked(arrival, line, arrival.file)
    try:
        check_file(arrival.file, name, registry.limits())
        byte_size = arrival.file.seek(0, 2)
        return replace(checked, sha256=storage.sha256_of(arrival.file), byte_size=byte_size)
    except ImageRefused as refusal:
        set_refused(line, refusal)
    except OSError as error:
        _set_unread(line, error)
    return checked


def inspect(job: IntakeJob, checked: Checked) -> Checked:
    """To the last byte: what is cut off is refused here, not found out later. Reserves the key the file will get."""
    line = checked.line
    try:
        inspected = helper.inspect(checked.file, None, registry.limits(), job.normalise)
    except ImageRefused as refusal:
        set_refused(line, refusal)
        return checked
    except OSError as error:
        _set_unread(line, error)
        return checked
    made = inspected.normalised
    checked = replace(checked, inspected=inspected)
    if made is not None:
        checked = replace(
            checked,
            file=io.BytesIO(made.data),
            sha256=hashlib.sha256(made.data).hexdigest(),
            source_sha256=checked.sha256,
            byte_size=len(made.data),
        )
    line.reserved_key = storage.original_key(checked.image_id, checked.header.format)
    return checked


def set_refused(line: IntakeLine, refusal: ImageRefused) -> None:
    line.verdict, line.code, line.reason = Verdict.REFUSED, refusal.code, str(refusal)
    line.reserved_key = ""


def _set_unread(line: IntakeLine, error: OSError) -> None:
    words = error.strerror or type(error).__name__
    if isinstance(error, DecoderStarved):
        code, said = STARVED, f"The image could not be read: {words}."
    elif isinstance(error, DecoderUnavailable) or error.errno in _SHORT_OF:
        code, said = DecoderUnavailable.code, f"The image could not be read now: {words}."
    else:
        code, said = UNREADABLE, f"Reading the file broke off ({words})."
    line.verdict, line.code, line.reserved_key = Verdict.FAILED, code, ""
    line.reason = f"{said} Nothing of it was kept. Send it again."
    logger.error("line %s: %s", line.pk, error)


def source_of(name: str) -> str:
    """A name from outside as a line has it (`IntakeLine.source`)."""
    return clean(name)[:2000]


def clean(name: str) -> str:
    """A name from outside as text that Postgres takes and that looks like what it is.

    No half characters of a name that is not UTF-8, no control characters, and none that turn the direction of reading.
    """
    if name.isascii() and name.isprintable():
        return name
    text = name.encode(errors="replace").decode()
    return "".join(each for each in text if unicodedata.category(each) != "Cc" and each not in _TURNING)
