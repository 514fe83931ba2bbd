"""What samples there are. Each set becomes one public collection; `catalog.samples.loading` puts it in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from catalog.models import Collection
from catalog.samples import mnist, photographs, pictograms
from catalog.samples.types import Sample


@dataclass(frozen=True, slots=True)
class SampleSet:
    """``key``: its name in commands. ``read`` gives its samples in the order in which they are loaded.

    ``near_duplicates``: only photographs are looked at. 127 of the 761 drawings look like another one to a perceptual
    hash, as their makers meant them to, and three of four digits.
    """

    key: str
    name: str
    description: str
    pipelines: tuple[str, ...]
    face_search: Collection.FaceSearch
    read: Callable[[], Iterator[Sample]]
    near_duplicates: Collection.NearDuplicates = Collection.NearDuplicates.OFF


SETS = {
    each.key: each
    for each in (
        SampleSet(
            "leaders",
            "World leaders",
            "Official photographs in the public domain. Search with another photo of one of them.",
            ("face", "image"),
            Collection.FaceSearch.EVERYONE,
            photographs.read,
            Collection.NearDuplicates.WARN,
        ),
        SampleSet(
            "objects",
            "Objects",
            "Hundreds of drawn things, each with near relatives: fruit, trains, clocks, tools.",
            ("image",),
            Collection.FaceSearch.STAFF,
            pictograms.read,
        ),
        SampleSet(
            "digits",
            "Digits",
            "5,000 digits that people wrote by hand, from MNIST. Search with a photo of one that you wrote.",
            ("digit",),
            Collection.FaceSearch.STAFF,
            mnist.read,
        ),
    )
}
