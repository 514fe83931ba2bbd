"""Putting images in: one path for every door, for one file or for several at once.

1. check: size, kind of content, extension (catalog.vision.decode), then hash: a file that the collection has, or of
   which it keeps a normalised one, is a ``duplicate``, with the image already here
2. inspect: the whole of any other must decode, in a process that may be killed for it (catalog.vision.helper); there
   its likeness is computed, and the file made that is kept instead of it where the job asks for that
3. write ahead: commit an IntakeLine that names the key the file will get
4. store the file (written aside, renamed)
5. one transaction: the Image row, its tags, the line's verdict, which images it looks like (catalog.duplicates); on
   commit a nudge to the workers

Steps 1 and 2 are catalog.checking. Whoever dies between 3 and 5 leaves a line that ``catalog.recovery`` finishes: the
file without an image goes, the line waits again, or says to send it again. A nudge that cannot be sent is made up for
by the sweep (catalog.tasks).

A line that was planned is written only while it is ours: in step 3 by its claim, from then on by its key. Of one that
somebody else has taken meanwhile nothing is stored, and it says what its row says.
"""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import BinaryIO, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from kombu.exceptions import OperationalError as BrokerError

from catalog import claims, recovery, storage, tasks
from catalog.checking import GONE, OURS, Arrival, Checked, ImageFacts, check, clean, inspect, set_refused, source_of
from catalog.database import retry_while_away, update_rows
from catalog.duplicates.noting import note_near_duplicates
from catalog.exceptions import ImageRefused, StorageUnavailable
from catalog.intake import twins
from catalog.intake.holding import columns_for_new
from catalog.intake.lines import Leases
from catalog.models import Collection, Image, IntakeJob, IntakeLine
from catalog.querysets import ImageQuerySet
from catalog.tagging import tag_new_images, tags_named

__all__ = [
    "Arrival",
    "ImageFacts",
    "clean",
    "nudge",
    "process_again",
    "process_twins_again",
    "receive",
    "receive_in_batches",
    "receive_many",
    "refuse",
    "source_of",
]
logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Verdict = IntakeLine.Verdict
_SEPARATOR = re.compile(r"[/\\]")  # of folders, here and elsewhere
_END = ("verdict", "code", "reason", "image", "reserved_key", "ended_at")
_WRITTEN_AHEAD = (*_END, "received_at")  # of a line that was planned
_READ_AGAIN = (
    *("verdict", "code", "reason", "image_id", "ended_at", "received_at"),
    *("claimed_by", "lease_until", "attempts"),
)
_TAKEN = "Storing took longer than the lease and was given up. Send the file again."
_GONE = "Its job, or its collection, was deleted before this file was stored. Nothing of it was kept."


def receive(
    job: IntakeJob, file: BinaryIO, name: str, facts: ImageFacts | None = None, *, person_name: str = ""
) -> IntakeLine:
    """`receive_many` of one file. Raises StorageUnavailable where it could not be kept."""
    [line] = receive_many(job, [Arrival(file, name, facts or ImageFacts(), person_name)])
    if line.verdict == Verdict.FAILED:
        raise StorageUnavailable(line.reason, line.code)
    return line


def receive_many(job: IntakeJob, arrivals: Iterable[Arrival]) -> list[IntakeLine]:
    """Put files into the job's collection; the lines, in their order, say what became of each.

    A batch costs few queries and one nudge; all its files are open at once, so it is the caller who keeps it small.
    A refusal is no error, it is the line's verdict; so is ``failed`` for a file that could not be kept. Database errors
    go up as they are: what was under way is then finished by the sweep, and sending it again adds nothing twice.
    """
    arrivals = list(arrivals)
    leases = Leases([arrival.line for arrival in arrivals if arrival.line is not None])
    batch = [check(job, arrival) for arrival in leases.kept(arrivals)]
    at_once: list[Checked] = []
    repeats: list[Checked] = []
    seen: set[str] = set()
    for each in batch:
        (repeats if each.is_open and each.sha256 in seen else at_once).append(each)
        seen.add(each.sha256)
    _receive(job, at_once, leases)
    for again in repeats:  # finds the first one stored
        _receive(job, [again], leases)
    return [each.line for each in batch]


def receive_in_batches(
    items: Sequence[Item],
    receive_batch: Callable[[Sequence[Item]], list[IntakeLine]],
    on_line: Callable[[IntakeLine], None],
) -> None:
    """Put in what ``items`` stand for, VISEARCH_BATCH at a time; ``on_line`` hears of each one as it goes.

    A database that is away is waited for a while. Raises StorageUnavailable where files cannot be kept, whatever they
    are; what is stored stays, and another run goes on from there.
    """
    size = settings.VISEARCH_BATCH
    for start in range(0, len(items), size):
        failed: list[IntakeLine] = []
        for line in retry_while_away(partial(receive_batch, items[start : start + size])):
            if line.verdict == Verdict.FAILED and line.code in (*OURS, GONE):
                failed.append(line)
            else:
                on_line(line)
        if failed:
            raise StorageUnavailable(failed[0].reason, failed[0].code)


def _receive(job: IntakeJob, batch: Sequence[Checked], leases: Leases) -> None:
    """The end of step 1, and steps 2 to 5, for files that differ from each other."""
    again = twins.set_duplicates(job, [each for each in batch if each.is_open])
    batch = [inspect(job, each) if each.is_open else each for each in leases.kept(batch)]
    lost, bereft = _write_ahead([each.line for each in batch])
    ours = [each for each in batch if each.is_open and each.line not in lost]
    process_twins_again(again)
    stored = [each for each in leases.kept(ours, _renew_received(ours)) if _store_file(each)]
    if stored:
        _store_rows(job, stored)
    if bereft:
        for line in bereft:
            twins.receive_anew(line)
        _receive(job, [each for each in batch if each.line in bereft], leases)


# --- Step 3 -----------------------------------------------------------------------------------------------------------


def _write_ahead(lines: Sequence[IntakeLine]) -> tuple[list[IntakeLine], list[IntakeLine]]:
    """Commit what each line says, and that the time to store its file begins.

    Returns those that are not ours, and duplicates whose twin was deleted meanwhile: of these nothing is written.
    """
    now = timezone.now()
    for line in lines:
        line.received_at, line.ended_at = now, None if line.verdict == Verdict.RECEIVING else now
    with transaction.atomic():
        there = twins.lock(lines)
        bereft = [line for line in lines if line.verdict == Verdict.DUPLICATE and line.image_id not in there]
        written = [line for line in lines if line not in bereft]
        planned = [line for line in written if not line._state.adding]
        IntakeLine.objects.bulk_create([line for line in written if line._state.adding])
        ours = _still_ours(planned)
        update_rows(ours, _WRITTEN_AHEAD)
    lost = [line for line in planned if line not in ours]
    for line in lost:
        _read_again(line)
    return lost, bereft


def _still_ours(planned: Sequence[IntakeLine]) -> list[IntakeLine]:
    """Those that nobody has claimed, received or ended since they were read; their rows are locked."""
    if not planned:
        return []
    rows = IntakeLine.objects.filter(
        pk__in=[line.pk for line in planned], verdict__in=[Verdict.WAITING, Verdict.FAILED]
    )
    claimed = dict(rows.select_for_update().order_by("pk").values_list("pk", "claimed_by"))
    return [line for line in planned if claimed.get(line.pk) == line.claimed_by]


def _read_again(line: IntakeLine) -> None:
    """What its row says, since it is no longer ours; of a file that cannot be had again: that it was not stored."""
    row = IntakeLine.objects.filter(pk=line.pk).first()
    if row is None:
        line.verdict, line.code, line.reason = Verdict.FAILED, GONE, _GONE
    elif row.url or row.path or row.verdict not in (Verdict.FAILED, Verdict.RECEIVING):
        for name in _READ_AGAIN:
            setattr(line, name, getattr(row, name))
    else:
        line.verdict, line.code, line.reason = Verdict.FAILED, recovery.INTERRUPTED, _TAKEN
    line.reserved_key = ""  # of a file that is not ours to remove


def _renew_received(batch: Sequence[Checked]) -> Callable[[], None]:
    keys = [each.line.reserved_key for each in batch]
    mine = IntakeLine.objects.filter(
        pk__in=[each.line.pk for each in batch], verdict=Verdict.RECEIVING, reserved_key__in=keys
    )

    def renew() -> None:
        mine.update(received_at=timezone.now())

    return renew


def _end(line: IntakeLine, key: str) -> None:
    """Write that it came to its end, where its row still waits for the file of this key; else what its row says."""
    line.ended_at = timezone.now()
    mine = IntakeLine.objects.filter(pk=line.pk, verdict=Verdict.RECEIVING, reserved_key=key)
    if not mine.update(**{name: getattr(line, name) for name in _END}):
        _read_again(line)


# --- Refused ----------------------------------------------------------------------------------------------------------


def refuse(job: IntakeJob, name: str, refusal: ImageRefused, line: IntakeLine | None = None) -> IntakeLine:
    """The line of a file that a door had to refuse before it could read it; ``line`` where one was planned."""
    line = line or IntakeLine(job=job, source=source_of(name))
    set_refused(line, refusal)
    _write_ahead([line])
    return line


# --- Steps 4 and 5 ----------------------------------------------------------------------------------------------------


def _store_file(checked: Checked) -> bool:
    """Step 4; False where the file could not be kept, then the line says so."""
    line = checked.line
    try:
        storage.save_original(line.reserved_key, checked.file)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        line.verdict = Verdict.FAILED
        line.code = StorageUnavailable.full if full else StorageUnavailable.code
        line.reason = (
            f"The file could not be stored ({error.strerror or type(error).__name__}). Nothing of it was kept. "
            "Free space or make the media folder writable, then send it again."
        )
        logger.error("line %s: %s cannot be stored: %s", line.pk, line.reserved_key, error)
        _end(line, line.reserved_key)
        return False
    return True


def _store_rows(job: IntakeJob, batch: Sequence[Checked]) -> None:
    """Step 5 for all at once; where that did not take place one by one, so that only the file concerned is lost.

    Where a row surely was not stored its file goes again; after other errors the sweep finds out.
    """
    try:
        tags = tags_named(name for each in batch for name in each.arrival.facts.tags)
        with transaction.atomic():
            images = _insert(job, batch, tags)
            _finish(batch)
            # As it is now: an import may take hours. Last, since it locks the collection.
            note_near_duplicates(Collection.objects.get(pk=job.collection_id), images)
    except (IntegrityError, _GivenUp) as error:
        if len(batch) > 1:
            for each in batch:
                _store_rows(job, [each])
        else:
            _take_back(job, batch[0], error)
        return
    for each in batch:
        each.line.verdict, each.line.image_id = Verdict.STORED, each.image_id
    transaction.on_commit(lambda: nudge(batch[0].image_id))  # one makes the workers process all that waits


class _GivenUp(Exception):
    """Storing took longer than the lease, and the sweep has given the line up: then nothing must be stored."""


def _insert(job: IntakeJob, batch: Sequence[Checked], tags: Mapping[str, int]) -> list[Image]:
    columns = columns_for_new(job)  # the job's row is locked before any image's
    images = Image.objects.bulk_create(_row(job, each, columns) for each in batch)
    tag_new_images({image: each.arrival.facts.tags for image, each in zip(images, batch, strict=True)}, tags)
    return images


def _row(job: IntakeJob, checked: Checked, columns: Mapping[str, str]) -> Image:
    header, inspected = checked.header, checked.inspected
    assert inspected is not None
    return Image(
        id=checked.image_id,
        collection_id=job.collection_id,
        sha256=checked.sha256,
        source_sha256=checked.source_sha256,
        phash=inspected.phash,
        phash_mirrored=inspected.phash_mirrored,
        format=header.format,
        width=header.width,
        height=header.height,
        byte_size=checked.byte_size,
        taken_at=_parse_taken_at(header.taken_at),
        original_name=_SEPARATOR.split(clean(checked.arrival.name))[-1][:255],
        **checked.arrival.facts.columns(),
        **columns,
    )


def _finish(batch: Sequence[Checked]) -> None:
    """Give the lines their verdict. Raises _GivenUp where one is no longer ours.

    In plain SQL: as expressions of Django's this takes as long as to insert the images.
    """
    ours = [(each.line.pk, each.line.reserved_key, each.image_id) for each in batch]
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE catalog_intakeline AS line SET verdict = %s, image_id = stored.image_id, ended_at = %s"
            " FROM unnest(%s::uuid[], %s::text[], %s::uuid[]) AS stored(id, reserved_key, image_id)"
            # another key where the line was planned, and retaken
            " WHERE line.id = stored.id AND line.reserved_key = stored.reserved_key AND line.verdict = %s",
            [Verdict.STORED.value, timezone.now(), *map(list, zip(*ours, strict=True)), Verdict.RECEIVING.value],
        )
        if cursor.rowcount < len(ours):
            raise _GivenUp


def _take_back(job: IntakeJob, checked: Checked, error: IntegrityError | _GivenUp) -> None:
    """Remove the file of a row that was not stored, and say why in its line.

    Raises IntegrityError where nothing explains it, StorageUnavailable where the file cannot be removed: then the line
    still waits for it, and the sweep does it.
    """
    line, key = checked.line, checked.line.reserved_key
    try:
        storage.delete_original(key)
    except OSError as away:
        raise StorageUnavailable(f"A file cannot be removed ({away.strerror or type(away).__name__}).") from away
    if isinstance(error, _GivenUp):
        _read_again(line)  # the sweep has given it up, or its collection is gone
        return
    again = twins.set_duplicates(job, [checked])  # stored by somebody else in this moment
    with transaction.atomic():
        if not twins.lock([line]):  # or deleted in the next one
            raise error
        _end(line, key)
    process_twins_again(again)


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

    ``interrupt``: also those that a worker is at, which began before what is changed now, and will store nothing. Held
    ones stay held then: they are processed as they are when they are let go.
    """
    wanted = Image.objects.filter(pk__in=images)
    waiting = [Image.Status.QUEUED, Image.Status.HELD]
    return _queue(wanted.exclude(status__in=waiting) if interrupt else wanted.idle())


def process_twins_again(images: set[UUID]) -> None:
    """Queue those of them that still are as `twins.wanted_again` found them."""
    if images:
        _queue(Image.objects.filter(twins.WANTED_AGAIN, pk__in=images))


def _queue(wanted: ImageQuerySet) -> int:
    with transaction.atomic():
        again = wanted.lock_keys()
        Image.objects.filter(pk__in=again).update(
            status=Image.Status.QUEUED, held_for="", reason="", attempts=0, claimed_by="", lease_until=None
        )
        IntakeLine.objects.filter(image__in=again, code=claims.PROCESSING_FAILED).update(
            verdict=Verdict.STORED, code="", reason=""
        )
        if again:
            transaction.on_commit(lambda: nudge(again[0]))  # one makes the workers process all that waits
    return len(again)
