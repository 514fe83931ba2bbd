"""What the commands that put images in have in common: their options, the collection, the list."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, OutputWrapper

from catalog.intake.errors import MOST_NAMED, JobError, ListRefused, Problem
from catalog.intake.jobs import checked_rule
from catalog.intake.texts import MOST_BYTES
from catalog.intake.url_lists import Address
from catalog.models import Collection, IntakeJob
from catalog.overview import progress_of
from catalog.vision import registry

STDIN = "-"


def add_list(parser: ArgumentParser, what: str) -> None:
    parser.add_argument("file", metavar="FILE", help=f"{what}; - is standard input")


def content_of(name: str) -> bytes:
    """At most so much that it is seen to be too large. Raises CommandError."""
    try:
        if name == STDIN:
            return sys.stdin.buffer.read(MOST_BYTES + 1)
        with Path(name).open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except OSError as error:
        raise CommandError(f"{name} cannot be read ({error.strerror}). Name a file that you may read.") from error


def name_of(name: str) -> str:
    return "standard input" if name == STDIN else Path(name).name


def refused(error: ListRefused) -> CommandError:
    """All that is wrong with a list, and that nothing was stored."""
    return CommandError(f"{error}\nNothing was stored: mend the list, and give it again.")


def tell_repeated(repeated: Sequence[Problem], stderr: OutputWrapper) -> None:
    for problem in repeated[:MOST_NAMED]:
        stderr.write(f"{problem}")
    if len(repeated) > MOST_NAMED:
        stderr.write(f"and {len(repeated) - MOST_NAMED} more that stand there already")


def tell_refused(addresses: Sequence[Address], stderr: OutputWrapper) -> None:
    refused = [each for each in addresses if each.refusal]
    for each in refused[:MOST_NAMED]:
        stderr.write(f"line {each.number}: {each.said} is refused: {each.refusal}")
    if len(refused) > MOST_NAMED:
        stderr.write(f"and {len(refused) - MOST_NAMED} more that are refused; the job's lines say why")


# --- Collections ------------------------------------------------------------------------------------------------------


def add_collection(parser: ArgumentParser) -> None:
    parser.add_argument("--collection", required=True, metavar="NAME", help="made when there is none of that name")
    new = parser.add_argument_group("for a new collection (one that exists keeps its own settings)")
    new.add_argument(
        "--pipelines", default="image", help="what runs on its images: face, image, digit; several as face,image"
    )
    new.add_argument("--public", action="store_true", help="anybody may see and search it")
    new.add_argument(
        "--near-duplicates",
        choices=Collection.NearDuplicates.values,
        default=Collection.NearDuplicates.WARN.value,
        help="what becomes of an image that looks like another: off, as for drawings and digits, warn, or hold: "
        "nothing runs on it until somebody chooses",
    )
    new.add_argument("--face-search", choices=["staff", "everyone"], default="staff", help="who may search faces")


def collection_of(options: dict[str, Any], stdout: OutputWrapper) -> Collection:
    """The collection of that name, made when new. Raises CommandError."""
    names = [name.strip() for name in options["pipelines"].split(",") if name.strip()]
    known = list(registry.pipelines())
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise CommandError(f"No such pipeline: {', '.join(unknown)}. There are: {', '.join(known)}.")
    longest = Collection._meta.get_field("name").max_length or 0
    if not 0 < len(options["collection"].strip()) <= longest:
        raise CommandError(f"A collection's name has 1 to {longest} characters, and not spaces alone.")
    collection, made = Collection.objects.get_or_create(
        name=options["collection"],
        defaults={
            "pipelines": names,
            "is_public": options["public"],
            "face_search": options["face_search"],
            "near_duplicates": options["near_duplicates"],
        },
    )
    what = "New collection" if made else "Collection"
    pipelines = ", ".join(collection.pipelines) or "no pipelines"
    stdout.write(f"{what} {collection.name!r}: {'public' if collection.is_public else 'private'}, {pipelines}")
    return collection


# --- Normalising ------------------------------------------------------------------------------------------------------


def add_rule(parser: ArgumentParser) -> None:
    rules = parser.add_mutually_exclusive_group()
    rules.add_argument("--longest-side", type=int, metavar="PIXELS", help="keep no image larger than that")
    rules.add_argument("--square", type=int, metavar="PIXELS", help="make of every image a square of that size")


def rule_of(options: dict[str, Any]) -> str:
    """As IntakeJob.normalise has it. Raises CommandError."""
    rules = {"longest": options["longest_side"], "square": options["square"]}
    rule = next((f"{rule}:{side}" for rule, side in rules.items() if side is not None), "")
    try:
        return checked_rule(rule)
    except JobError as error:
        raise CommandError(str(error)) from error


# --- How it ended -----------------------------------------------------------------------------------------------------


def add_strict(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--strict", action="store_true", help="exit status 1 where a file of the job failed, was refused or still waits"
    )


def check_ended_well(begun: Sequence[IntakeJob], options: dict[str, Any]) -> None:
    """Where --strict was asked for. Raises CommandError, which ends with the exit status 1."""
    if not options["strict"]:
        return
    counts = Counter[str]()
    for job in begun:
        now = progress_of(job)
        counts.update({verdict: now.verdicts.get(verdict, 0) for verdict in ("failed", "refused", "cancelled")})
        counts["waiting"] += now.waiting if _is_followed(options) else 0
    if said := ", ".join(f"{count} {what}" for what, count in counts.items() if count):
        raise CommandError(f"Not all of it is in: {said} (--strict).")


def _is_followed(options: dict[str, Any]) -> bool:
    return bool(options["follow"]) if "follow" in options else not options["no_wait"]


# --- Jobs -------------------------------------------------------------------------------------------------------------


def tell_begun(job: IntakeJob, stdout: OutputWrapper, *, is_new: bool) -> None:
    total = job.lines.count()
    if is_new:
        stdout.write(f"Job {job.pk}: {total} planned")
        return
    left = job.lines.filter(verdict__in=["waiting", "receiving"]).count()
    stdout.write(f"Going on with job {job.pk}, begun {job.created_at:%Y-%m-%d %H:%M} UTC: {left} of {total} are left")
    if job.tried_again:
        stdout.write(f"Of these {job.tried_again} had failed or were refused, and are tried again")
    if job.state == IntakeJob.State.PAUSED:
        stdout.write(f"It is paused: `manage.py intake_job {job.pk} resume`, or its page in the admin, lets it go on.")
