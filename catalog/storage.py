"""Where files lie, under which names, and how they get there and go away.

Names are made from our ids alone; the uploader's name is data. Two storages (settings.STORAGES): ``originals``, for
staff only, and ``renditions``, for anybody who may see the image, through a view that checks. Neither has a public URL.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast
from uuid import UUID

from django.core.files.base import ContentFile, File
from django.core.files.storage import FileSystemStorage, Storage, storages

from catalog.vision.formats import FORMATS

logger = logging.getLogger(__name__)

RENDITION_SIZES = (320, 1280)  # pixels of the longest side; smaller originals are not enlarged
HASH_CHUNK = 1 << 20


class AtomicFileSystemStorage(FileSystemStorage):
    """A folder in which a name either does not exist or is the whole file: written aside, flushed, renamed.

    A name that is taken is replaced: our names hold the image's id, so it can only be the same image once more.
    ``flush_folder``: the name itself survives a power cut too, for what cannot be made again.
    """

    def __init__(self, *, flush_folder: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self._flush_folder = flush_folder

    def _save(self, name: str, content: File[bytes]) -> str:
        target = Path(self.path(name))
        handle, aside = self._open_aside()
        try:
            with os.fdopen(handle, "wb") as file:
                for chunk in content.chunks():
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            _rename(Path(aside), target)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise
        if self._flush_folder:
            _flush(target.parent)
        return name

    def _open_aside(self) -> tuple[int, str]:
        try:
            return tempfile.mkstemp(dir=self._aside)
        except FileNotFoundError:  # the first file
            self._aside.mkdir(parents=True, exist_ok=True)
            return tempfile.mkstemp(dir=self._aside)

    @property
    def _aside(self) -> Path:
        return Path(self.location) / ".aside"

    def sweep_asides(self, older_than: float) -> int:
        """Remove what writers that died left aside more than ``older_than`` seconds ago; returns how many."""
        count = 0
        for path in self._aside.glob("*"):
            try:
                if path.stat().st_mtime < time.time() - older_than:
                    path.unlink()
                    count += 1
            except FileNotFoundError:  # its writer, or another sweep, was faster
                continue
            except OSError as error:
                logger.error("%s cannot be removed: %s", path, error)
        return count

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        return name


def _rename(aside: Path, target: Path) -> None:
    try:
        aside.replace(target)
    except FileNotFoundError:  # the first file of its folder
        target.parent.mkdir(parents=True, exist_ok=True)
        aside.replace(target)


def _flush(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def originals() -> Storage:
    return storages["originals"]


def renditions() -> Storage:
    return storages["renditions"]


def original_key(image_id: UUID, image_format: str) -> str:
    """``<last two hex digits>/<id>.<extension of the content>``: UUIDv7 begins with the time, its end spreads."""
    return f"{image_id.hex[-2:]}/{image_id}{FORMATS[image_format].extension}"


def rendition_key(image_id: UUID, size: int) -> str:
    return f"{image_id.hex[-2:]}/{image_id}-{size}.webp"


def sweep_asides(older_than: float) -> None:
    """Tidy both storages after writers that died; storages that are not folders of ours have nothing aside."""
    for storage in (originals(), renditions()):
        if isinstance(storage, AtomicFileSystemStorage):
            storage.sweep_asides(older_than)


def sha256_of(file: BinaryIO) -> str:
    """Hex digest of a file from its beginning; the file is left at its beginning."""
    digest = hashlib.sha256()
    file.seek(0)
    while chunk := file.read(HASH_CHUNK):
        digest.update(chunk)
    file.seek(0)
    return digest.hexdigest()


def save_original(key: str, file: BinaryIO) -> None:
    file.seek(0)
    originals().save(key, File(file))


def holds_originals() -> bool:
    """Whether there is anything in their storage: a folder that is not mounted is empty, or not there."""
    try:
        folders, files = originals().listdir("")
    except FileNotFoundError:
        return False
    return any(not name.startswith(".") for name in (*folders, *files))


@contextlib.contextmanager
def open_original(key: str) -> Iterator[BinaryIO]:
    with originals().open(key, "rb") as file:
        yield cast(BinaryIO, file)


def save_renditions(image_id: UUID, rendered: Mapping[int, bytes]) -> None:
    """Write what catalog.vision.renditions made; safe to run again, the same bytes land under the same names."""
    for size, data in rendered.items():
        renditions().save(rendition_key(image_id, size), ContentFile(data))


def file_keys(image_id: UUID, image_format: str) -> list[tuple[Storage, str]]:
    """Every file that an image may have."""
    keys = [(renditions(), rendition_key(image_id, size)) for size in RENDITION_SIZES]
    return [(originals(), original_key(image_id, image_format)), *keys]
