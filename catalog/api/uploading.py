"""Files of a request into a collection: one is answered with its line, several with their job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.core.files.uploadedfile import UploadedFile
from rest_framework.exceptions import ValidationError

from catalog import bulk_uploads, idempotency
from catalog.api.bodies import content_of
from catalog.api.decoding import Busy, decoding_slot
from catalog.exceptions import StorageUnavailable
from catalog.idempotency import Turn
from catalog.models import Collection, IntakeJob, IntakeLine
from catalog.uploads import ImageFacts

MOST_FILES = 100  # in one request; their bytes together are limited by visearch_site.upload_handlers


@dataclass(frozen=True, slots=True)
class Upload:
    """What was sent: ``facts`` hold for each file."""

    collection: Collection
    files: Sequence[UploadedFile[bytes]]
    facts: ImageFacts
    user_id: int
    turn: Turn

    def job(self) -> IntakeJob:
        return bulk_uploads.job_of(self.turn.id, self.collection, self.user_id)

    def sent(self) -> list[bulk_uploads.Sent]:
        return bulk_uploads.numbered([(content_of(file), file.name or "") for file in self.files])


def check_count(files: Sequence[UploadedFile[bytes]]) -> None:
    """Raises ValidationError."""
    if len(files) > MOST_FILES:
        raise ValidationError({"image": [f"These are {len(files)} files, {MOST_FILES} are the most in a request."]})


def receive_one(upload: Upload) -> IntakeLine:
    """Raises Busy, and StorageUnavailable where it could not be kept."""
    with decoding_slot():
        [line] = bulk_uploads.receive_batch(upload.job(), upload.sent(), upload.facts)
    if line.verdict == IntakeLine.Verdict.FAILED and line.image_id is None:
        raise StorageUnavailable(line.reason, line.code)
    return line


def receive_several(upload: Upload) -> IntakeJob:
    """The job with a line for each file, whatever became of it. Raises Busy where there was no turn for the first.

    A turn is for one file: whoever searches meanwhile waits for no more than that. Where none comes for one of the rest
    its line says so, and that of all behind it: each would wait as long again.
    """
    first, *rest = upload.sent()
    with decoding_slot():
        job = upload.job()
        bulk_uploads.receive_batch(job, [first], upload.facts)
    for place, each in enumerate(rest):
        idempotency.renew(upload.turn)
        try:
            with decoding_slot():
                bulk_uploads.receive_batch(job, [each], upload.facts)
        except Busy as busy:
            bulk_uploads.fail_batch(job, rest[place:], busy.default_code, str(busy.detail))
            break
    return job
