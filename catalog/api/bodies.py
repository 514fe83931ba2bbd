"""The body of a request: parsed, and refused in words where an upload was too large to be read."""

from __future__ import annotations

from typing import Any, BinaryIO, cast

from django.core.files.uploadedfile import UploadedFile
from rest_framework.request import Request

# Where visearch_site.upload_handlers leaves the ImageRefused of a request whose files it did not keep.
UPLOAD_REFUSED = "visearch.upload_refused"


def body_of(request: Request) -> Any:
    """``request.data``. Raises ImageRefused (too-many-bytes) instead of looking like a request without a file."""
    data = request.data
    refusal = request.META.get(UPLOAD_REFUSED)
    if refusal is not None:
        raise refusal
    return data


def content_of(upload: UploadedFile[bytes]) -> BinaryIO:
    """The file itself, in memory and seekable."""
    return cast(BinaryIO, upload.file)
