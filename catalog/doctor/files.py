"""Rows and files, both ways: every image has its original and its renditions, and every file has its image.

Works on any Django storage that can list, open, size and delete. The way from rows to files asks for each file; the way
back lists one folder at a time, 1/256 of a storage's files (catalog.storage.original_key).
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import BinaryIO, cast
from uuid import UUID

from django.core.files.storage import Storage
from django.db import transaction

from catalog import storage
from catalog.doctor.findings import CannotLook, Check, Finding, Looking, Problem, pages
from catalog.models import Image
from catalog.vision import helper, registry
from catalog.vision.renditions import render

THREADS = 4  # files asked for at once: on an object storage each takes a while
Trouble = tuple[Problem, str]

_RESTORE = "Restore it from the backup (docs/operating.md, Backup), or delete the image in the admin."

ORIGINAL_MISSING = Problem("original-missing", "an image has no original", _RESTORE)
ORIGINAL_ALTERED = Problem("original-altered", "an original is not the file that was put in", _RESTORE)
RENDITION_MISSING = Problem(
    "rendition-missing",
    "an image that is ready lacks a smaller copy for showing",
    "Run `manage.py doctor --fix`.",
    "renders it from the original",
)


def _images(looking: Looking) -> Iterator[Finding]:
    rows = Image.objects.only("format", "sha256", "byte_size", "status")
    if rows.exists():
        for place, name in ((storage.originals(), "originals"), (storage.renditions(), "renditions")):
            check_readable(place, name)
    with ThreadPoolExecutor(THREADS) as pool:
        for page in pages(rows, "files of images", looking):
            for image, troubles in zip(page, pool.map(partial(_troubles, looking.deep), page), strict=True):
                if troubles and _is_still_there(image):
                    yield from (_finding(image, *trouble) for trouble in troubles)


def check_readable(place: Storage, name: str) -> None:
    """Raises CannotLook where nothing is known of any file in it: a missing file and one that may not be seen look
    alike to some storages."""
    try:
        place.listdir("")
    except FileNotFoundError as error:
        if Image.objects.exists():
            raise CannotLook(f"The {name} are not there at all: mount or restore their folder. {error}") from error
    except Exception as error:
        raise CannotLook(f"The {name} cannot be listed ({type(error).__name__}: {error}). Give access.") from error


def _is_still_there(image: Image) -> bool:
    """Not deleted, and not taken by a worker, since its row was read."""
    return Image.objects.filter(pk=image.pk, status=image.status).exists()


def _troubles(deep: bool, image: Image) -> list[Trouble]:
    """Asks the storages alone: it runs in threads, which would each need a connection to the database."""
    troubles = [trouble for trouble in [_of_original(image, deep)] if trouble]
    if image.status == Image.Status.READY:
        keys = [storage.rendition_key(image.pk, size) for size in storage.RENDITION_SIZES]
        lacking = [key for key in keys if not has(storage.renditions(), key)]
        troubles += [(RENDITION_MISSING, f"{', '.join(lacking)} missing")] if lacking else []
    return troubles


def _of_original(image: Image, deep: bool) -> Trouble | None:
    key, place = storage.original_key(image.pk, image.format), storage.originals()
    if not has(place, key):
        return ORIGINAL_MISSING, key
    size = place.size(key)
    if size != image.byte_size:
        return ORIGINAL_ALTERED, f"{key} has {size:,} bytes, not {image.byte_size:,}"
    if deep and _sha256(place, key) != image.sha256:
        return ORIGINAL_ALTERED, f"{key} has other content: its sha256 is not the recorded one"
    return None


def has(place: Storage, key: str) -> bool:
    """Raises OSError where a file cannot be seen, which `exists` of a folder calls absent."""
    if place.exists(key):
        return True
    try:
        place.open(key).close()
    except FileNotFoundError:
        return False
    return place.exists(key)


def _sha256(place: Storage, key: str) -> str:
    with place.open(key) as file:
        return storage.sha256_of(cast(BinaryIO, file))


def _finding(image: Image, problem: Problem, what: str) -> Finding:
    return problem.of(str(image.pk), what, partial(_render, image.pk) if problem is RENDITION_MISSING else None)


def _render(image_id: UUID) -> bool:
    """Written under the image's lock, as by a worker (catalog.storing). One that is being processed gets them there."""
    image = Image.objects.filter(pk=image_id, status=Image.Status.READY).first()
    if image is None:
        return True
    key = storage.original_key(image.pk, image.format)
    with storage.open_original(key) as file:
        rendered = render(helper.read_image(file, key, registry.limits()), storage.RENDITION_SIZES)
    with transaction.atomic():
        ready = Image.objects.select_for_update().filter(pk=image_id, status=Image.Status.READY)
        if list(ready.values_list("pk")):
            storage.save_renditions(image_id, rendered)
    return True


CHECKS = (
    Check("originals and renditions of images", (ORIGINAL_MISSING, ORIGINAL_ALTERED, RENDITION_MISSING), _images),
)
