"""Files that a collection has already: of each the image, what its line says, and whether it is processed once more."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from uuid import UUID

from django.db.models import Q

from catalog.checking import Checked
from catalog.database import locked_against_deletion
from catalog.duplicates.discarded import INSTEAD, kept_for
from catalog.intake.left_alone import left_alone
from catalog.models import Image, IntakeJob, IntakeLine

Verdict, Status, HeldFor = IntakeLine.Verdict, Image.Status, Image.HeldFor
SAME_FILE = "This collection already has the very same file."
# What somebody brings again is wanted, whatever became of it the first time.
WANTED_AGAIN = Q(status=Status.FAILED) | Q(status=Status.HELD, held_for=HeldFor.CANCEL)


def set_duplicates(job: IntakeJob, batch: Sequence[Checked]) -> set[UUID]:
    """End those whose file the job's collection has; which of the images to process once more (`wanted_again`)."""
    here = _find(job, [each.sha256 for each in batch])
    again = wanted_again(here.values(), job)
    found = [(each, here[each.sha256]) for each in batch if each.sha256 in here]
    not_taken_over = left_alone([(each.line.facts, each.line.person_name, twin) for each, twin in found])
    for (each, twin), more in zip(found, not_taken_over, strict=True):
        line = each.line
        line.verdict, line.image, line.reserved_key = Verdict.DUPLICATE, twin, ""
        is_same = each.sha256 in (twin.sha256, twin.source_sha256)
        line.reason = (SAME_FILE if is_same else INSTEAD) + said_of(twin, again) + more
    return again


def _find(job: IntakeJob, digests: Sequence[str]) -> dict[str, Image]:
    """Images that the job's collection has, by the sha256 among ``digests`` of their file or its source, or instead."""
    if not digests:
        return {}
    made_of_it = Q(source_sha256__in=digests) & ~Q(source_sha256="")  # as its index says it
    twins = list(Image.objects.filter(Q(sha256__in=digests) | made_of_it, collection=job.collection_id))
    found = {twin.source_sha256: twin for twin in twins} | {twin.sha256: twin for twin in twins}
    found = kept_for(job.collection_id, digests) | found
    return {digest: found[digest] for digest in digests if digest in found}


def wanted_again(images: Iterable[Image], job: IntakeJob | None = None) -> set[UUID]:
    """Those to process because they are brought again: they failed, or are held since their job was cancelled.

    None of the latter where ``job``, which brings them, has been stopped itself.
    """
    failed = {image.pk for image in images if image.status == Status.FAILED}
    cancelled = {image.pk for image in images if image.held_for == HeldFor.CANCEL}
    if cancelled and job is not None:
        runs = IntakeJob.objects.filter(pk=job.pk, state=IntakeJob.State.RUNNING).exists()
        cancelled = cancelled if runs else set()
    return failed | cancelled


def said_of(image: Image, again: Collection[UUID]) -> str:
    """A sentence to follow others where the image is not searchable, "" where it is; ``again``: of `wanted_again`."""
    if image.status == Status.FAILED:
        return " It had failed and is processed again."
    if image.status != Status.HELD:
        return ""
    if image.pk in again:
        return " It was held, since its job was cancelled; it is processed now."
    return f" That image is held. {image.reason}".rstrip()


def lock(lines: Iterable[IntakeLine]) -> Mapping[UUID, Image]:
    """The images that these lines are duplicates of and that nobody has deleted: none goes in this transaction.

    As everybody locks: first the job, then images in the order of their keys, then (not here) lines.
    """
    duplicates = [line for line in lines if line.verdict == Verdict.DUPLICATE]
    if not duplicates:
        return {}
    locked_against_deletion(IntakeJob, {line.job_id for line in duplicates})
    return locked_against_deletion(Image, {line.image_id for line in duplicates})


def receive_anew(line: IntakeLine) -> None:
    """Its twin is gone: as if there had never been one."""
    line.verdict, line.image, line.code, line.reason, line.ended_at = Verdict.RECEIVING, None, "", "", None
