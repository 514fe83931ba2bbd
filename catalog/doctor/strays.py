"""Files that belong to no image: listed folder by folder, and never one whose upload or deletion may be under way.

A file is looked up after it was listed, first among the lines of uploads, then among the images, then among those that
were deleted: an upload commits its line before the file is written and its image together with the line's verdict, a
deletion commits what is doomed together with the image's end. So whichever of them is at work is seen.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from uuid import UUID

from django.conf import settings
from django.core.files.storage import Storage

from catalog import storage
from catalog.doctor.files import check_readable, has
from catalog.doctor.findings import PAGE, Check, Finding, Looking, Problem
from catalog.models import DoomedFiles, Image, IntakeLine

YOUNG = timedelta(hours=1)  # besides the lease: an upload is in nobody's hands for so long
_OURS = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(-\d+)?\.[a-z]+")  # catalog.storage's two keys

ORIGINAL_STRAY = Problem(
    "original-stray",
    "an original whose image is not in the database",
    "After an older dump was restored these are the images put in since: copy them out and import them "
    "(`manage.py import_folder`). Else delete them: `manage.py doctor --fix --delete-strays`.",
    "with --delete-strays: deletes it",
)
RENDITION_STRAY = Problem(
    "rendition-stray",
    "a smaller copy whose image is not in the database",
    "Run `manage.py doctor --fix`.",
    "deletes it: it can be rendered again from an original",
)
FOREIGN = Problem("file-foreign", "a file that this site did not write", "Look at it, and move it somewhere else.")


def _strays(looking: Looking) -> Iterator[Finding]:
    for place, name in ((storage.originals(), "originals"), (storage.renditions(), "renditions")):
        check_readable(place, name)
        ours: dict[str, UUID] = {}
        for key in _listed(place, name, looking):
            image_id = _image_of(*key.split("/")) if key.count("/") == 1 else None
            if image_id is None:
                yield FOREIGN.of(key, f"among the {name}")
                continue
            ours[key] = image_id
            if len(ours) == PAGE:
                yield from _of_nobody(place, ours, looking)
                ours = {}
        yield from _of_nobody(place, ours, looking)


def _listed(place: Storage, name: str, looking: Looking) -> Iterator[str]:
    """Every key but of what is being written aside, one folder's names at a time."""
    folders, files = _names(place, "")
    yield from files
    folders = sorted(folder for folder in folders if not folder.startswith("."))
    for done, folder in enumerate(folders, start=1):
        yield from (f"{folder}/{file}" for file in _names(place, folder)[1])
        looking.progress(f"folders of {name}", done, len(folders))


def _names(place: Storage, folder: str) -> tuple[list[str], list[str]]:
    try:
        return place.listdir(folder)
    except FileNotFoundError:  # nothing was ever stored, or all of it went meanwhile
        return [], []


def _image_of(folder: str, file: str) -> UUID | None:
    """The image that one of our keys is made of."""
    match = _OURS.fullmatch(file)
    image_id = UUID(match[1]) if match else None
    return image_id if image_id and image_id.version == 7 and image_id.hex[-2:] == folder else None


def _of_nobody(place: Storage, files: Mapping[str, UUID], looking: Looking) -> Iterator[Finding]:
    with_image = dict(Image.objects.filter(pk__in=files.values()).values_list("pk", "format"))
    stray = [key for key, image_id in files.items() if not _belongs(key, image_id, with_image) and _is_old(image_id)]
    for key in _unowned(stray, files):
        if not has(place, key):  # it went meanwhile
            continue
        if _is_rendition(key):
            yield RENDITION_STRAY.of(key, f"{place.size(key):,} bytes", partial(_delete, place, key))
        else:
            mend = partial(_delete, place, key) if looking.deletes_strays else None
            yield ORIGINAL_STRAY.of(key, f"{place.size(key):,} bytes", mend)


def _is_old(image_id: UUID) -> bool:
    """By the time that the key itself tells (RFC 9562, UUIDv7: 48 bits of milliseconds): storages' clocks differ."""
    spared: float = max(0, settings.VISEARCH_LEASE_SECONDS) + YOUNG.total_seconds()
    return time.time() - (image_id.int >> 80) / 1000 > spared


def _unowned(keys: Sequence[str], files: Mapping[str, UUID]) -> list[str]:
    """Those that nobody has or will have; asked in the order that the head of this file says."""
    if not keys:
        return []
    receiving = IntakeLine.objects.filter(verdict=IntakeLine.Verdict.RECEIVING, reserved_key__in=keys)
    expected = set(receiving.values_list("reserved_key", flat=True))
    ids = {files[key] for key in keys}
    formats = dict(Image.objects.filter(pk__in=ids).values_list("pk", "format"))
    doomed = set(DoomedFiles.objects.filter(pk__in=ids).values_list("pk", flat=True))
    return [
        key
        for key in keys
        if key not in expected and files[key] not in doomed and not _belongs(key, files[key], formats)
    ]


def _belongs(key: str, image_id: UUID, formats: Mapping[UUID, str]) -> bool:
    if image_id not in formats:
        return False
    return _is_rendition(key) or key == storage.original_key(image_id, formats[image_id])


def _is_rendition(key: str) -> bool:
    match = _OURS.fullmatch(key.rpartition("/")[2])
    return match is not None and match[2] is not None


def _delete(place: Storage, key: str) -> bool:
    """Looked up once more. No row can come for it any more: a row is stored only while its line is open."""
    image_id = _image_of(*key.split("/"))
    if image_id is not None and _unowned([key], {key: image_id}):
        place.delete(key)
    return True


CHECKS = (Check("files without an image", (ORIGINAL_STRAY, RENDITION_STRAY, FOREIGN), _strays),)
