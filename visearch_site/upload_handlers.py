"""Uploads stay in memory: no temporary file, so a shopper's photo never touches the disk, and no large ones at all."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from django.core.files.uploadedfile import InMemoryUploadedFile
from django.core.files.uploadhandler import FileUploadHandler, StopUpload
from django.http import HttpRequest

from catalog.api.bodies import UPLOAD_REFUSED
from catalog.exceptions import ImageRefused

FORM_ROOM = 1024 * 1024  # what a request may have beside one file of the largest size: fields, names, boundaries
DRAIN_AT_MOST = 1024 * 1024 * 1024  # a refused body is read to its end, else many clients miss the answer; not beyond
DRAIN_STEP = 64 * 1024


class LimitedMemoryUploadHandler(FileUploadHandler):
    """Keeps files in memory, all files of a request together at most VISEARCH_LIMITS["bytes"] and FORM_ROOM.

    A larger request is refused at its first file, by its Content-Length (nothing beyond which is ever read), before
    anything of it is kept. The refusal is left in ``request.META[UPLOAD_REFUSED]``, where catalog.api.bodies finds it;
    ``request.FILES`` is then empty, and ``request.POST`` has the fields before the file.
    """

    def __init__(self, request: HttpRequest) -> None:
        super().__init__(request)
        self.meta = request.META
        self.file = io.BytesIO()

    def handle_raw_input(
        self,
        input_data: IO[bytes],
        META: Mapping[str, Any],  # noqa: N803 - Django's name
        content_length: int,
        boundary: str,
        encoding: str | None = None,
    ) -> None:
        self.body = input_data
        self.body_size = content_length

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        limit = settings.VISEARCH_LIMITS["bytes"]
        if self.body_size > limit + FORM_ROOM:
            self.meta[UPLOAD_REFUSED] = _refusal(self.body_size, limit)
            self._drain()
            raise StopUpload(connection_reset=True)  # False: Django drains by lines, and a body may be one long line
        self.file = io.BytesIO()

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        self.file.write(raw_data)

    def file_complete(self, file_size: int) -> InMemoryUploadedFile:
        self.file.seek(0)
        return InMemoryUploadedFile(
            file=self.file,
            field_name=self.field_name,
            name=self.file_name,
            content_type=self.content_type,
            size=file_size,
            charset=self.charset,
            content_type_extra=self.content_type_extra,
        )

    def _drain(self) -> None:
        if self.body_size <= DRAIN_AT_MOST:
            while self.body.read(DRAIN_STEP):
                pass


def _refusal(size: int, limit: int) -> ImageRefused:
    return ImageRefused(
        "too-many-bytes",
        f"The request has {size:,} bytes, {limit:,} are the most that a file may have. "
        "Send a smaller image, one at a time.",
        limit=limit,
        actual=size,
    )
