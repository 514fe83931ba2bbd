"""Putting images in: one path for every door, for one file or for several at once.

1. check: size, content, extension, limits (catalog.vision.decode)
2. hash: an image that the collection has is a ``duplicate``, with the one already here; the whole of any other must
   decode
3. write ahead: commit an IntakeLine that names the key the file will get
4. store the file (written aside, renamed)
5. one transaction: the Image row, its tags, the line's verdict; on commit a nudge to the workers

Whoever dies between 3 and 5 leaves a line that ``catalog.recovery`` finishes: the file without an image goes, the line
says what to do. A nudge that cannot be sent is made up for by the sweep (catalog.tasks).
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import PurePath
from typing import Any, BinaryIO, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, models, transaction
from django.db.models import Case, Value, When
from kombu.exceptions import OperationalError as BrokerError
from uuid_utils.compat import uuid7

from catalog import claims, storage, tasks
from catalog.database import retry_while_away
from catalog.exceptions import ImageRefused, StorageUnavailable
from catalog.models import Image, IntakeJob, IntakeLine
from catalog.vision import registry
from catalog.vision.decode import decode, read_header
from catalog.vision.types import ImageHeader

logger = logging.getLogger(__name__)

Item = TypeVar("Item")


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

    ``person_name`` is named on its face once it is processed, should exactly one be found.
    """

    file: BinaryIO
    name: str
    facts: ImageFacts = field(default_factory=ImageFacts)
    person_name: str = ""


@dataclass(frozen=True, slots=True)
class _Checked:
    """A file that passed step 1, or whose line says why it did not (then there is no header)."""

    arrival: Arrival
    line: IntakeLine
    header: ImageHeader | None = None
    sha256: str = ""
    byte_size: int = 0
    image_id: UUID = field(default_factory=uuid7)

    @property
    def is_open(self) -> bool:
        return self.line.verdict == IntakeLine.Verdict.RECEIVING


def receive(
    job: IntakeJob, file: BinaryIO, name: str, facts: ImageFacts | None = None, *, person_name: str = ""
) -> IntakeLine:
    """`receive_many` of one file. Raises StorageUnavailable where it could not be kept."""
    [line] = receive_many(job, [Arrival(file, name, facts or ImageFacts(), person_name)])
    if line.verdict == IntakeLine.Verdict.FAILED:
        raise StorageUnavailable(line.reason, line.code)
    return line


def receive_many(job: IntakeJob, arrivals: Iterable[Arrival]) -> list[IntakeLine]:
    """Put files into the job's collection; the lines, in their order, say what became of each.

    A batch costs few queries and one nudge; all its files are open at once, so it is the caller who keeps it small.
    A refusal is no error, it is the line's verdict; so is ``failed`` for a file that could not be kept. Database errors
    go up as they are: what was under way is then finished by the sweep, and sending it again adds nothing twice.
    """
    batch = [_check(job, arrival) for arrival in arrivals]
    at_once: list[_Checked] = []
    repeats: list[_Checked] = []
    seen: set[str] = set()
    for each in batch:
        (repeats if each.is_open and each.sha256 in seen else at_once).append(each)
        seen.add(each.sha256)
    _receive(job, at_once)
    for again in repeats:  # finds the first one stored
        _receive(job, [again])
    return [each.line for each in batch]


def receive_in_batches(
    items: Sequence[Item],
    receive_batch: Callable[[Sequence[Item]], list[IntakeLine]],
    on_line: Callable[[IntakeLine], None],
) -> None:
    """Put in what ``items`` stand for, VISEARCH_BATCH at a time; ``on_line`` hears of each one as it goes.

    A database that is away is waited for a while. Raises StorageUnavailable where files cannot be kept; what is stored
    stays, and another run goes on from there.
    """
    size = settings.VISEARCH_BATCH
    for start in range(0, len(items), size):
        failed: list[IntakeLine] = []
        for line in retry_while_away(partial(receive_batch, items[start : start + size])):
            if line.verdict == IntakeLine.Verdict.FAILED:
                failed.append(line)
            else:
                on_line(line)
        if failed:
            raise StorageUnavailable(failed[0].reason, failed[0].code)


def _receive(job: IntakeJob, batch: Sequence[_Checked]) -> None:
    """Steps 2 (without hashing) to 5 for files that differ from each other."""
    twins = _twins(job, [each.sha256 for each in batch if each.is_open])
    for each in batch:
        if each.sha256 in twins:
            _set_duplicate(each.line, twins[each.sha256])
        elif each.is_open:
            _decode_whole(each)
    IntakeLine.objects.bulk_create([each.line for each in batch])
    _process_failed_again(twins.values())
    stored = [each for each in batch if each.is_open and _store_file(each)]
    if stored:
        _store_rows(job, stored)


def refuse(job: IntakeJob, name: str, refusal: ImageRefused) -> IntakeLine:
    """The line of a file that a door had to refuse before it could read it."""
    line = IntakeLine(job=job, source=clean(name)[:1000])
    _refuse(line, refusal)
    line.save()
    return line


def clean(name: str) -> str:
    """A name from outside as text that Postgres takes: no NUL, no half characters of a name that is not UTF-8."""
    return name.replace("\x00", "").encode(errors="replace").decode()


def _check(job: IntakeJob, arrival: Arrival) -> _Checked:
    """All that can be known before pixels are decoded."""
    name = clean(arrival.name)
    line = IntakeLine(job=job, source=name[:1000], person_name=clean(arrival.person_name))
    try:
        header = read_header(arrival.file, name, registry.limits())
    except ImageRefused as refusal:
        _refuse(line, refusal)
        return _Checked(arrival, line)
    byte_size = arrival.file.seek(0, 2)
    checked = _Checked(arrival, line, header, storage.sha256_of(arrival.file), byte_size)
    line.reserved_key = storage.original_key(checked.image_id, header.format)
    return checked


def _decode_whole(checked: _Checked) -> None:
    """To the last byte: what is cut off is refused here, not found out later."""
    assert checked.header is not None
    try:
        decode(checked.arrival.file, checked.header)
    except ImageRefused as refusal:
        _refuse(checked.line, refusal)


def _refuse(line: IntakeLine, refusal: ImageRefused) -> None:
    line.verdict, line.code, line.reason = IntakeLine.Verdict.REFUSED, refusal.code, str(refusal)
    line.reserved_key = ""


def _twins(job: IntakeJob, digests: Sequence[str]) -> dict[str, Image]:
    """Images that the job's collection already has, by sha256."""
    if not digests:
        return {}
    return {twin.sha256: twin for twin in Image.objects.filter(collection=job.collection_id, sha256__in=digests)}


def _set_duplicate(line: IntakeLine, twin: Image) -> None:
    line.verdict, line.image, line.reserved_key = IntakeLine.Verdict.DUPLICATE, twin, ""
    line.reason = "This collection already has the very same file."
    if twin.status == Image.Status.FAILED:
        line.reason += " It had failed and is processed again."


def _process_failed_again(twins: Iterable[Image]) -> None:
    failed = [twin.pk for twin in twins if twin.status == Image.Status.FAILED]
    if failed:
        process_again(failed)


def _store_file(checked: _Checked) -> bool:
    """Step 4; False where the file could not be kept, then the line says so."""
    try:
        storage.save_original(checked.line.reserved_key, checked.arrival.file)
    except OSError as error:
        line = checked.line
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        line.verdict = IntakeLine.Verdict.FAILED
        line.code = StorageUnavailable.full if full else StorageUnavailable.code
        line.reason = (
            f"The file could not be stored ({error.strerror or type(error).__name__}). Nothing of it was kept. "
            "Free space or make the media folder writable, then send it again."
        )
        line.save()
        return False
    return True


def _store_rows(job: IntakeJob, batch: Sequence[_Checked]) -> None:
    """Step 5 for all at once; where that did not take place one by one, so that only the file concerned is lost.

    Where a row surely was not stored its file goes again; after other errors the sweep finds out.
    """
    try:
        with transaction.atomic():
            _insert(job, batch)
            _finish(batch)
    except (IntegrityError, _GivenUp) as error:
        if len(batch) > 1:
            for each in batch:
                _store_rows(job, [each])
        else:
            storage.originals().delete(batch[0].line.reserved_key)
            _explain(job, batch[0], error)
        return
    for each in batch:
        each.line.verdict, each.line.image_id = IntakeLine.Verdict.STORED, each.image_id
    transaction.on_commit(lambda: nudge(batch[0].image_id))  # one makes the workers process all that waits


class _GivenUp(Exception):
    """Storing took longer than the lease, and the sweep has given the line up: then nothing must be stored."""


def _insert(job: IntakeJob, batch: Sequence[_Checked]) -> None:
    images = Image.objects.bulk_create(_row(job, each, each.header) for each in batch if each.header)
    for image, each in zip(images, batch, strict=True):
        if each.arrival.facts.tags:
            image.tags.add(*each.arrival.facts.tags)


def _row(job: IntakeJob, checked: _Checked, header: ImageHeader) -> Image:
    return Image(
        id=checked.image_id,
        collection_id=job.collection_id,
        sha256=checked.sha256,
        format=header.format,
        width=header.width,
        height=header.height,
        byte_size=checked.byte_size,
        taken_at=_parse_taken_at(header.taken_at),
        original_name=PurePath(clean(checked.arrival.name)).name[:255],
        **checked.arrival.facts.columns(),
    )


def _finish(batch: Sequence[_Checked]) -> None:
    """Give the lines their verdict. Raises _GivenUp where one is no longer ours."""
    mine = IntakeLine.objects.filter(pk__in=[each.line.pk for each in batch], verdict=IntakeLine.Verdict.RECEIVING)
    whens = [When(pk=each.line.pk, then=Value(each.image_id)) for each in batch]
    image = Case(*whens, output_field=models.UUIDField())
    if mine.update(verdict=IntakeLine.Verdict.STORED, image=image) < len(batch):
        raise _GivenUp


def _explain(job: IntakeJob, checked: _Checked, error: IntegrityError | _GivenUp) -> None:
    """What the line of a file without a row has to say. Raises IntegrityError where nothing explains it."""
    if isinstance(error, _GivenUp):
        checked.line.verdict, checked.line.code = IntakeLine.Verdict.FAILED, StorageUnavailable.code
        checked.line.reason = "Storing took longer than the lease and was given up. Send the file again."
        return  # its row says so already, by the sweep, or is gone with its collection
    twin = _twins(job, [checked.sha256]).get(checked.sha256)
    if twin is None:
        raise error
    _set_duplicate(checked.line, twin)  # somebody else stored the same file in this moment
    checked.line.save()
    _process_failed_again([twin])


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


def process_again(images: Sequence[UUID], *, interrupt: bool = False) -> int:
    """Queue ready, failed or held images (and those alone) once more; returns how many.

    ``interrupt``: also those that a worker is at. It began before what is changed now, and will store nothing.
    """
    with transaction.atomic():
        wanted = Image.objects.filter(pk__in=images)
        wanted = wanted.exclude(status=Image.Status.QUEUED) if interrupt else wanted.idle()
        again = list(wanted.select_for_update().order_by("pk").values_list("pk", flat=True))
        Image.objects.filter(pk__in=again).update(
            status=Image.Status.QUEUED, reason="", attempts=0, claimed_by="", lease_until=None
        )
        IntakeLine.objects.filter(image__in=again, code=claims.PROCESSING_FAILED).update(
            verdict=IntakeLine.Verdict.STORED, code="", reason=""
        )
        if again:
            transaction.on_commit(lambda: nudge(again[0]))  # one makes the workers process all that waits
    return len(again)
