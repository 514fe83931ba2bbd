"""Where files lie, under which names, and how they get there and go away.

Names are made from our ids alone; the uploader's name is data. Two storages (settings.STORAGES): ``originals``, for
staff only, and ``renditions``, for anybody who may see the image, through a view that checks. Neither has a public URL.

Whatever a storage raises (those of clouds have errors of their own) leaves the functions of this module as an OSError.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import IO, Any, BinaryIO, cast
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


def image_of_original(key: str) -> tuple[UUID, str]:
    """Id and format that `original_key` made this key of."""
    path = PurePath(key)
    return UUID(path.stem), next(name for name, each in FORMATS.items() if each.extension == path.suffix)


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


@contextlib.contextmanager
def _as_os_errors() -> Iterator[None]:
    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception as error:
        logger.error("a storage of files answers: %s", error)  # its words may hold names that are for the log alone
        raise OSError(errno.EIO, type(error).__name__) from error


def save_original(key: str, file: BinaryIO) -> None:
    """Raises OSError."""
    file.seek(0)
    with _as_os_errors():
        originals().save(key, File(file))


def has_original(key: str) -> bool:
    """Raises OSError."""
    with _as_os_errors():
        return originals().exists(key)


def delete_original(key: str) -> None:
    """Nothing where it is gone already. Raises OSError."""
    with _as_os_errors():
        originals().delete(key)


def holds_originals() -> bool:
    """Whether there is anything in their storage: a folder that is not mounted is empty, or not there."""
    try:
        with _as_os_errors():
            folders, files = originals().listdir("")
    except FileNotFoundError:
        return False
    return any(not name.startswith(".") for name in (*folders, *files))


@contextlib.contextmanager
def open_original(key: str) -> Iterator[BinaryIO]:
    """Raises OSError."""
    with open_file(originals(), key) as file:
        yield cast(BinaryIO, file)


def open_file(place: Storage, key: str) -> IO[bytes]:
    """To be read from its beginning. Raises FileNotFoundError, and OSError for all else that a storage may raise.

    Object storages fetch the file when it is first read: that is done here, where their errors are known as theirs.
    """
    with _as_os_errors():
        file: IO[bytes] = place.open(key, "rb")
        try:
            file.read(1)
            file.seek(0)
        except BaseException:
            file.close()
            raise
    return file


def save_renditions(image_id: UUID, rendered: Mapping[int, bytes]) -> None:
    """Write what catalog.vision.renditions made; safe to run again, the same bytes land under the same names.

    Raises OSError.
    """
    for size, data in rendered.items():
        with _as_os_errors():
            renditions().save(rendition_key(image_id, size), ContentFile(data))


def file_keys(image_id: UUID, image_format: str) -> list[tuple[Storage, str]]:
    """Every file that an image may have."""
    keys = [(renditions(), rendition_key(image_id, size)) for size in RENDITION_SIZES]
    return [(originals(), original_key(image_id, image_format)), *keys]
