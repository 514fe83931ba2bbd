"""Putting images in: one path for every door.

1. check: size, content, extension, limits, and that the whole file decodes (catalog.vision.decode)
2. hash: an image that the collection has is a ``duplicate``, with the one already here
3. write ahead: commit an IntakeLine that names the key the file will get
4. store the file (written aside, renamed)
5. one transaction: the Image row, its tags, the line's verdict; on commit a nudge to the workers

Whoever dies between 3 and 5 leaves a line that ``catalog.recovery`` finishes: the file without an image goes, the line
says what to do. A nudge that cannot be sent is made up for by the sweep (catalog.tasks).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any, BinaryIO
from uuid import UUID

from django.db import IntegrityError, transaction
from kombu.exceptions import OperationalError as BrokerError
from uuid_utils.compat import uuid7

from catalog import claims, storage, tasks
from catalog.exceptions import ImageRefused, StorageUnavailable
from catalog.models import Image, IntakeJob, IntakeLine
from catalog.vision import registry
from catalog.vision.decode import decode, read_header
from catalog.vision.types import ImageHeader

logger = logging.getLogger(__name__)


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
class _Checked:
    """A file that passed step 1 and 2."""

    file: BinaryIO
    header: ImageHeader
    sha256: str
    byte_size: int
    image_id: UUID = field(default_factory=uuid7)

    @property
    def key(self) -> str:
        return storage.original_key(self.image_id, self.header.format)


def receive(
    job: IntakeJob,
    file: BinaryIO,
    name: str,
    facts: ImageFacts | None = None,
    *,
    person_name: str = "",
    nudged: bool = True,
) -> IntakeLine:
    """Put one file into the job's collection; the line says what became of it. ``file`` must be seekable.

    ``person_name`` is named on its face once it is processed, should exactly one be found. Without ``nudged`` it is the
    caller who tells the workers: one nudge makes them process all that waits.

    Raises StorageUnavailable where the file could not be kept (its line is ``failed`` with the reason); database errors
    go up as they are. A refusal is no error: it is the line's verdict.
    """
    name = clean(name)
    line = IntakeLine(job=job, source=name[:1000], person_name=clean(person_name))
    try:
        checked = _check(file, name)
        twin = Image.objects.filter(collection=job.collection_id, sha256=checked.sha256).first()
        if twin is not None:
            return _duplicate(line, twin)
        decode(file, checked.header)  # to the last byte: what is cut off is refused here, not found out later
    except ImageRefused as refusal:
        line.verdict, line.code, line.reason = IntakeLine.Verdict.REFUSED, refusal.code, str(refusal)
        line.save()
        return line
    line.reserved_key = checked.key
    line.save()
    _store_file(line, checked)
    stored = _store_row(line, checked, facts or ImageFacts(), name)
    if nudged and stored.verdict == IntakeLine.Verdict.STORED:
        transaction.on_commit(lambda: nudge(checked.image_id))
    return stored


def clean(name: str) -> str:
    """A name from outside as text that Postgres takes: no NUL, no half characters of a name that is not UTF-8."""
    return name.replace("\x00", "").encode(errors="replace").decode()


def _check(file: BinaryIO, name: str) -> _Checked:
    header = read_header(file, name, registry.limits())
    byte_size = file.seek(0, 2)
    return _Checked(file, header, storage.sha256_of(file), byte_size)


def _store_file(line: IntakeLine, checked: _Checked) -> None:
    try:
        storage.save_original(checked.key, checked.file)
    except OSError as error:
        message = (
            f"The file could not be stored ({error.strerror or type(error).__name__}). Nothing of it was kept. "
            "Free space or make the media folder writable, then send it again."
        )
        line.verdict, line.code, line.reason = IntakeLine.Verdict.FAILED, StorageUnavailable.code, message
        line.save()
        raise StorageUnavailable(message) from error


def _store_row(line: IntakeLine, checked: _Checked, facts: ImageFacts, name: str) -> IntakeLine:
    """Step 5. Where it surely did not take place the file goes again; after other errors the sweep finds out."""
    try:
        with transaction.atomic():
            image = _insert(line.job, checked, facts, name)
            _finish(line, IntakeLine.Verdict.STORED, image)
    except StorageUnavailable:
        storage.originals().delete(checked.key)
        raise
    except IntegrityError:
        storage.originals().delete(checked.key)
        twin = Image.objects.filter(collection=line.job.collection_id, sha256=checked.sha256).first()
        if twin is None:
            raise
        return _duplicate(line, twin)  # somebody else stored the same file in this moment
    return line


def _insert(job: IntakeJob, checked: _Checked, facts: ImageFacts, name: str) -> Image:
    image = Image.objects.create(
        id=checked.image_id,
        collection_id=job.collection_id,
        sha256=checked.sha256,
        format=checked.header.format,
        width=checked.header.width,
        height=checked.header.height,
        byte_size=checked.byte_size,
        taken_at=_parse_taken_at(checked.header.taken_at),
        original_name=PurePath(name).name[:255],
        **facts.columns(),
    )
    if facts.tags:
        image.tags.add(*facts.tags)
    return image


def _finish(line: IntakeLine, verdict: IntakeLine.Verdict, image: Image) -> None:
    """Give the line its verdict, unless the sweep has given it up meanwhile (then nothing must be stored)."""
    mine = IntakeLine.objects.filter(pk=line.pk, verdict=IntakeLine.Verdict.RECEIVING)
    if not mine.update(verdict=verdict, image=image):
        raise StorageUnavailable("Storing took longer than the lease and was given up. Send the file again.")
    line.verdict, line.image = verdict, image


def _duplicate(line: IntakeLine, twin: Image) -> IntakeLine:
    line.verdict, line.image, line.reserved_key = IntakeLine.Verdict.DUPLICATE, twin, ""
    line.reason = "This collection already has the very same file."
    if twin.status == Image.Status.FAILED:
        line.reason += " It had failed and is processed again."
        process_again([twin.pk])
    line.save()
    return line


def _parse_taken_at(text: str | None) -> datetime | None:
    """None for what is no date: cameras write 0000:00:00."""
    try:
        return datetime.strptime(text or "", "%Y:%m:%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def nudge(image_id: UUID) -> None:
    """Tell the workers of an image. Without Redis it waits for the sweep; the image is safe in the database."""
    try:
        tasks.process_images.delay(str(image_id))
    except BrokerError as error:
        logger.warning("no nudge for image %s, the sweep will find it: %s", image_id, error)


def process_again(images: Sequence[UUID]) -> int:
    """Queue ready, failed or held images (and those alone) once more; returns how many."""
    with transaction.atomic():
        rested = Image.objects.select_for_update().filter(pk__in=images, status__in=["ready", "failed", "held"])
        again = list(rested.values_list("pk", flat=True))
        Image.objects.filter(pk__in=again).update(
            status=Image.Status.QUEUED, reason="", attempts=0, claimed_by="", lease_until=None
        )
        IntakeLine.objects.filter(image__in=again, code=claims.PROCESSING_FAILED).update(
            verdict=IntakeLine.Verdict.STORED, code="", reason=""
        )
        for image_id in again:
            transaction.on_commit(lambda key=image_id: nudge(key))  # type: ignore[misc]
    return len(again)
