"""Bringing an image's regions up to date with what was detected: update in place, keep what a person did."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from catalog.curation.errors import CurationError
from catalog.curation.log import record
from catalog.curation.people import check_may_use_name, cleaned_name
from catalog.models import Embedding, EmbeddingModel, Image, IntakeJob, IntakeLine, Region
from catalog.naming import person_named, rejected_people
from catalog.vision.types import Box, Detection, ExtractedRegion

FACE = "face"
SAME_REGION_IOU = 0.5  # detecting again: at least this overlap means the same region


def box_of(region: Region) -> Box:
    return Box(region.x, region.y, region.width, region.height)


def detection_of(region: Region) -> Detection:
    """A stored region as the vision code knows it, in pixels of the oriented original."""
    landmarks = region.landmarks and tuple((float(x), float(y)) for x, y in region.landmarks)
    return Detection(box_of(region), region.score if region.score is not None else 1.0, landmarks or None)


def is_kept(region: Region) -> bool:
    """Somebody named, dismissed or drew it: no detector takes that away."""
    return bool(region.person_id) or region.dismissed or region.origin == Region.Origin.PERSON


def drawn_regions(images: Sequence[Image], models: Sequence[EmbeddingModel]) -> Mapping[UUID, list[Region]]:
    """What people drew and has no vector of these models yet, by the key of its image."""
    drawn: dict[UUID, list[Region]] = defaultdict(list)
    by_people = Region.objects.filter(image__in=images, origin=Region.Origin.PERSON)
    for region in by_people.exclude(embeddings__model__in=models):
        drawn[region.image_id].append(region)
    return drawn


def update_regions(
    found: Mapping[UUID, Sequence[ExtractedRegion]],
    pipeline: str,
    detector: str,
    models: Sequence[EmbeddingModel],
) -> list[tuple[Region, ExtractedRegion]]:
    """Match what was found in each image with its stored regions of this pipeline, and store the outcome.

    Must run in a transaction. Each found region takes the best free stored one with IoU >= 0.5, whose box, score and
    landmarks it updates (a box that a person drew stays as drawn, and is not returned: its vector belongs to the drawn
    box). The rest are made. Stored ones that were not found again go, unless somebody named, dismissed or drew them.
    Of a region whose box or landmarks changed the embeddings of all but ``models`` go, since they are of another crop;
    whoever calls stores those of ``models``.
    """
    stored: dict[UUID, dict[UUID, Region]] = {image: {} for image in found}
    for region in Region.objects.filter(image__in=found, pipeline=pipeline):
        stored[region.image_id][region.pk] = region
    pairs = []
    for image, extracted in found.items():
        pairs += _match(image, pipeline, extracted, stored[image])
    moved = [region.pk for region, each in pairs if _take_over(region, detector, each.detection)]
    Embedding.objects.filter(region__in=moved).exclude(model__in=models).delete()
    _save([region for region, _ in pairs])
    gone = [region.pk for free in stored.values() for region in free.values() if not is_kept(region)]
    if gone:
        Region.objects.filter(pk__in=gone).delete()
    return pairs


def _match(
    image: UUID, pipeline: str, found: Sequence[ExtractedRegion], free: dict[UUID, Region]
) -> list[tuple[Region, ExtractedRegion]]:
    """Takes what it matches out of ``free``."""
    pairs = []
    for extracted in found:
        region = best_match(extracted.detection.box, free.values())
        if region is not None:
            del free[region.pk]
        if region is None or region.origin != Region.Origin.PERSON:
            pairs.append((region or Region(image_id=image, pipeline=pipeline), extracted))
    return pairs


def best_match(box: Box, candidates: Iterable[Region]) -> Region | None:
    """The one that overlaps most with ``box``, where that is enough to be the same region."""
    best = max(candidates, key=lambda region: box_of(region).iou(box), default=None)
    return best if best is not None and box_of(best).iou(box) >= SAME_REGION_IOU else None


def _take_over(region: Region, detector: str, detection: Detection) -> bool:
    """True where a stored region now has another box or other landmarks, that is another crop."""
    was = None if region._state.adding else _place(region)
    box = detection.box
    region.x, region.y, region.width, region.height = box.x, box.y, box.width, box.height
    region.score, region.detector = detection.score, detector
    region.landmarks = [list(point) for point in detection.landmarks] if detection.landmarks else None
    return was is not None and was != _place(region)


def _place(region: Region) -> tuple[Box, Any]:
    return box_of(region), region.landmarks


def _save(regions: Sequence[Region]) -> None:
    new = [region for region in regions if region._state.adding]
    old = [region for region in regions if not region._state.adding]  # before the new ones are no longer being added
    Region.objects.bulk_create(new)
    if old:
        Region.objects.bulk_update(old, ["x", "y", "width", "height", "score", "detector", "landmarks"])


def name_only_faces(images: Sequence[UUID]) -> None:
    """Name the person that an image's intake asked for, where it has exactly one face and nobody named it yet.

    Not where somebody said that this face is not this person; nor where whoever began the job may not use the name
    (now: they may have seen that person when it began), then its line says so.
    """
    asked = IntakeLine.objects.filter(image__in=images).exclude(person_name="").select_related("job__started_by")
    by_name = sorted(_first_of_each(asked.order_by("id")), key=lambda line: line.person_name)
    for line in by_name:  # two who make the same new people make them in the same order
        faces = list(Region.objects.filter(image=line.image_id, pipeline=FACE, dismissed=False)[:2])
        if len(faces) == 1 and faces[0].person_id is None:
            _name(faces[0], line)


def _first_of_each(lines: Iterable[IntakeLine]) -> list[IntakeLine]:
    first: dict[UUID | None, IntakeLine] = {}
    for line in lines:
        first.setdefault(line.image_id, line)
    return list(first.values())


def _name(face: Region, line: IntakeLine) -> None:
    user = line.job.started_by
    try:
        name = cleaned_name(line.person_name)
        _check_may_name(line.job, name)
    except CurationError as error:
        _say(line, f"Its face was not named {line.person_name}. {error}")
        return
    person = person_named(name)
    if person.pk in rejected_people(face):
        return
    face.person = person
    face.save(update_fields=["person"])
    if user is not None:
        record(user, face.image, f"Named its only face {person.name}, as the list says.")


def _check_may_name(job: IntakeJob, name: str) -> None:
    """Raises CurationError. Whoever has a shell on the server may use any name."""
    if job.started_by is not None:
        check_may_use_name(name, job.started_by)
    elif not job.is_operators:
        raise CurationError("Whoever began this job has no account any more. Name it in the admin.")


def _say(line: IntakeLine, said: str) -> None:
    """After what the line says already, once: its image may be processed again and again."""
    if said not in line.reason:
        IntakeLine.objects.filter(pk=line.pk).update(reason=f"{line.reason} {said}".lstrip())
