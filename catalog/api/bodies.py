"""The body of a request: parsed, and refused in words where files of it would be lost without any."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, BinaryIO, cast

from django.core.files.uploadedfile import UploadedFile
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

# Where visearch_site.upload_handlers leaves the ImageRefused of a request whose files it did not keep.
UPLOAD_REFUSED = "visearch.upload_refused"


def body_of(request: Request, several: Collection[str] = ()) -> Any:
    """``request.data``.

    Raises ImageRefused (too-many-bytes) instead of looking like a request without a file, and ValidationError where a
    field holds several files, of which a form would take the last; not for those that take ``several``.
    """
    data = request.data
    refusal = request.META.get(UPLOAD_REFUSED)
    if refusal is not None:
        raise refusal
    too_many = [name for name, files in request.FILES.lists() if len(files) > 1 and name not in several]
    if too_many:
        raise ValidationError({name: ["Send one file a request."] for name in too_many})
    return data


def content_of(upload: UploadedFile[bytes]) -> BinaryIO:
    """The file itself, in memory and seekable."""
    return cast(BinaryIO, upload.file)
