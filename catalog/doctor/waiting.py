"""Work that does not come to its end: images that nobody processes, uploads that nobody finishes, files still to go."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial

from django.conf import settings
from django.db.models import Count, Q, QuerySet
from django.utils import timezone

from catalog import queues
from catalog.deletion import remove_files
from catalog.doctor.findings import Check, Finding, Looking, Problem, pages
from catalog.models import DoomedFiles, Image, IntakeJob, IntakeLine, RestingHost
from catalog.recovery import give_up

Status = Image.Status
QUIET = timedelta(minutes=10)  # beat sweeps every minute: what is left over for so long, it does not get done
PATIENCE = timedelta(days=7)  # with a decision that a person has to take

_START = "Start the worker and beat (docs/operating.md, Processes); their logs say what stopped them."

QUEUED = Problem("image-queued", "waits for a worker, and none does anything", _START)
LEASE_OVER = Problem("image-lease-over", "its worker died, and no other takes it", _START)
GIVEN_BACK = Problem("image-given-back", "every worker gives it back", "Do what its reason says; it goes on by itself.")
HELD = Problem(
    "image-held",
    "somebody has to decide about it",
    "Choose in the admin under Near duplicates, let its job go on, or process it again under Images.",
)
LINE = Problem(
    "upload-unfinished",
    "whoever stored this file died, and nothing cleaned up",
    "Start beat, or run `manage.py doctor --fix`.",
    "gives the upload up, as the sweep would: its file goes, its line says to send it again",
)
ADDRESSES = Problem(
    "addresses-waiting",
    "addresses of a job wait to be fetched, and nobody fetches",
    "Start a worker of the queue intake (docs/operating.md, Processes); its log says what stopped it.",
)
DOOMED = Problem(
    "files-doomed",
    "files of a deleted image are still there",
    "Run `manage.py doctor --fix`; where that fails make the storage writable.",
    "removes the files",
)


def _images(looking: Looking) -> Iterator[Finding]:
    now = timezone.now()
    for page in pages(stuck_claims(now), "claims", looking):
        for image in page:
            yield LEASE_OVER.of(str(image.pk), f"Its claim ended at {image.lease_until:%Y-%m-%d %H:%M} UTC.")
    queued = Image.objects.filter(status=Status.QUEUED, created_at__lt=now - QUIET)
    for page in pages(queued.exclude(reason=""), "images given back", looking):
        yield from (GIVEN_BACK.of(str(image.pk), image.reason) for image in page)
    if not _somebody_works(now):
        for page in pages(queued.filter(reason=""), "queued images", looking):
            yield from (QUEUED.of(str(image.pk), f"{image}, since {image.created_at:%Y-%m-%d %H:%M}") for image in page)
    for page in pages(Image.objects.filter(status=Status.HELD, created_at__lt=now - PATIENCE), "held images", looking):
        yield from (HELD.of(str(image.pk), f"{image}, since {image.created_at:%Y-%m-%d}") for image in page)


def stuck_claims(now: datetime) -> QuerySet[Image]:
    return Image.objects.filter(status=Status.PROCESSING, lease_until__lt=now - QUIET)


def _somebody_works(now: datetime) -> bool:
    """A claim holds, or an image was finished lately. However long the queue is, it is being worked on then."""
    claimed = Image.objects.filter(status=Status.PROCESSING, lease_until__gte=now)
    return claimed.exists() or Image.objects.filter(processed_at__gte=now - QUIET).exists()


def _uploads(looking: Looking) -> Iterator[Finding]:
    for page in pages(unfinished_lines(timezone.now()), "uploads", looking):
        for line in page:
            yield LINE.of(str(line.pk), f"{line.source} as {line.reserved_key}", partial(_give_up, line))


def unfinished_lines(now: datetime) -> QuerySet[IntakeLine]:
    """Older than the lease that an upload has, and than what the sweep takes to see it."""
    lease = timedelta(seconds=settings.VISEARCH_LEASE_SECONDS)
    return IntakeLine.objects.filter(verdict=IntakeLine.Verdict.RECEIVING, received_at__lt=now - lease - QUIET)


def _give_up(line: IntakeLine) -> bool:
    give_up(line)  # where it changes nothing somebody else has finished the line
    return True


def _addresses(looking: Looking) -> Iterator[Finding]:
    now = timezone.now()
    if _somebody_fetches(now):
        return
    lines = IntakeLine.objects.filter(verdict=IntakeLine.Verdict.WAITING, created_at__lt=now - QUIET).exclude(url="")
    resting = RestingHost.objects.filter(rests_until__gt=now)
    due = lines.filter(Q(lease_until=None) | Q(lease_until__lt=now - QUIET)).exclude(host__in=resting.values("host"))
    counts = dict(due.order_by().values_list("job").annotate(n=Count("pk")))
    for page in pages(IntakeJob.objects.filter(pk__in=counts, state=IntakeJob.State.RUNNING), "jobs", looking):
        for job in page:
            yield ADDRESSES.of(str(job.pk), f"{counts[job.pk]:,} of {job}{_of_workers()}")


def _somebody_fetches(now: datetime) -> bool:
    """A line is claimed, or came to its end lately. However long a list is, it is being worked on then."""
    lines = IntakeLine.objects.exclude(url="")
    claimed = lines.filter(verdict=IntakeLine.Verdict.WAITING, lease_until__gt=now).exclude(claimed_by="")
    return claimed.exists() or lines.filter(Q(ended_at__gt=now - QUIET) | Q(received_at__gt=now - QUIET)).exists()


def _of_workers() -> str:
    found = queues.look()
    return "; no worker of the queue intake says that it lives" if found and "intake" in found.unserved else ""


def _doomed(looking: Looking) -> Iterator[Finding]:
    for page in pages(old_dooms(timezone.now()), "files of deleted images", looking):
        for doomed in page:
            mend = partial(remove_files, doomed)
            yield DOOMED.of(str(doomed.pk), f"deleted at {doomed.created_at:%Y-%m-%d %H:%M} UTC", mend)


def old_dooms(now: datetime) -> QuerySet[DoomedFiles]:
    return DoomedFiles.objects.filter(created_at__lt=now - QUIET)


CHECKS = (
    Check("images that wait", (QUEUED, LEASE_OVER, GIVEN_BACK, HELD), _images),
    Check("uploads under way", (LINE,), _uploads),
    Check("addresses to fetch", (ADDRESSES,), _addresses),
    Check("files of deleted images", (DOOMED,), _doomed),
)
