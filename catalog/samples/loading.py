"""Putting a set of samples in, by the one way in (catalog.uploads), each set once."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice

from catalog.models import Collection, IntakeJob, IntakeLine
from catalog.samples.sets import SampleSet
from catalog.samples.types import Sample
from catalog.uploads import Arrival, receive_in_batches, receive_many


def missing(chosen: SampleSet, at_most: int | None = None) -> list[Sample]:
    """The samples of the set (of its first `at_most`) that were never put in. Raises SamplesMissing."""
    job = _job_of(chosen)
    done = set(job.lines.exclude(verdict=IntakeLine.Verdict.FAILED).values_list("source", flat=True)) if job else set()
    return [sample for sample in islice(chosen.read(), at_most) if sample.name not in done]


def load(chosen: SampleSet, samples: Sequence[Sample], on_line: Callable[[IntakeLine], None]) -> IntakeJob:
    """Put these samples into the set's collection, in its one job; ``on_line`` hears of each as it goes.

    Raises StorageUnavailable where files cannot be kept; another run goes on from there.
    """
    job = _job_of(chosen) or _new_job(chosen)
    receive_in_batches(samples, partial(_receive, job), on_line)
    return job


def _receive(job: IntakeJob, samples: Sequence[Sample]) -> list[IntakeLine]:
    arrivals = [Arrival(io.BytesIO(each.content()), each.name, each.facts, each.person_name) for each in samples]
    return receive_many(job, arrivals)


def _job_of(chosen: SampleSet) -> IntakeJob | None:
    """The job that began this set. Somebody may have renamed its collection since, but not deleted it."""
    jobs = IntakeJob.objects.filter(source=IntakeJob.Source.FOLDER, collection__name=chosen.name, started_by=None)
    return jobs.order_by("id").first()


def _new_job(chosen: SampleSet) -> IntakeJob:
    collection, _ = Collection.objects.get_or_create(
        name=chosen.name,
        defaults={
            "description": chosen.description,
            "pipelines": list(chosen.pipelines),
            "is_public": True,
            "face_search": chosen.face_search,
            "near_duplicates": chosen.near_duplicates,
        },
    )
    return IntakeJob.objects.create(collection=collection, source=IntakeJob.Source.FOLDER)
