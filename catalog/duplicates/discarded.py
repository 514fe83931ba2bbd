"""Files whose image was let go for another one that it looks like: a list that brings them again brings nothing."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.contrib.auth.models import User

from catalog.models import DiscardedFile, Image, IntakeLine

INSTEAD = (
    "This very file was discarded for the image that is here, which looks like it. "
    "To let it in again, delete it from Discarded files in the admin."
)


def discard_for(gone: Image, kept: Image, user: User) -> None:
    """Remember the file of ``gone``, and what was let go for it, as those of ``kept``.

    In the transaction that deletes ``gone``, both images locked. The lines that brought it say so, and so their
    addresses are known to have brought something (catalog.intake.here).
    """
    before = set(DiscardedFile.objects.filter(kept=kept).values_list("sha256", flat=True))
    DiscardedFile.objects.filter(kept=gone).exclude(sha256__in=before).update(kept=kept)
    digests = {digest for digest in (gone.sha256, gone.source_sha256) if digest} - before
    DiscardedFile.objects.bulk_create(
        DiscardedFile(sha256=digest, name=gone.original_name, kept=kept, discarded_by=user) for digest in digests
    )
    lines = IntakeLine.objects.filter(image=gone, verdict__in=[IntakeLine.Verdict.STORED, IntakeLine.Verdict.DUPLICATE])
    lines.update(
        image=kept,
        verdict=IntakeLine.Verdict.DUPLICATE,
        person_name="",
        reason="It was discarded: it looks like the one that is here.",
    )


def kept_for(collection_id: UUID, digests: Sequence[str]) -> dict[str, Image]:
    """By sha256, what this collection has instead of such a file."""
    rows = DiscardedFile.objects.filter(kept__collection=collection_id, sha256__in=digests).select_related("kept")
    return {row.sha256: row.kept for row in rows}
