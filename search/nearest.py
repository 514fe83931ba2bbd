"""From a vector to the nearest images.

1. nearest vectors: generation and delta (search.serving)
2. hits through the database: what is deleted, hidden, dismissed or forbidden drops out, more is asked for, k is filled;
   where that is most of many, the database says what may be shown, and this alone is searched
3. one region for each image
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from catalog.models import Collection, Embedding, EmbeddingModel, Image, Region
from catalog.selectors import regions_by_embedding_id, shown_embedding_ids
from search.asking import asks, milliseconds_since, widening
from search.engines.types import Hits, Scope
from search.explaining import Explanation
from search.ranking import best_per_key
from search.scopes import scope_of
from search.serving import Snapshot

if TYPE_CHECKING:
    from catalog.querysets import Viewer

FIRST_ASK = 2  # hits asked for per image wanted: images with several faces, hits that drop out
LOOK_UP = 250  # hits that are looked up at a time
FEW_LABELLED = 20_000  # up to so many embeddings of a label the index is asked for these alone from the start
MANY_DROPPED = 500  # with fewer hits that may not be shown it is not worth reading the ids of all that may
DEARER = 10  # times as long it takes to look up a hit as to read one id of all: 20 to 50 us, 2 to 5 us of 40,000 images


@dataclass(frozen=True, slots=True)
class Wanted:
    """``k`` images of these collections, for this viewer; ``label`` "" for any; ``limit``: the largest distance."""

    model: EmbeddingModel
    collections: Sequence[Collection]
    viewer: Viewer
    k: int
    label: str = ""
    without: Image | None = None
    limit: float | None = None

    def scopes(self) -> Iterator[Scope]:
        """Where to look at the first ask, the second, and so on.

        With a label: the embeddings that have it, by id, as else all of the index might have to be read for a label
        that lies far from the query. Where there are so many that some are likely among the nearest hits, they are
        named only if those were not enough.
        """
        if not self.label:
            yield from repeat(scope_of(self.collections, self.model.pipeline))
        ids = self._labelled_ids(FEW_LABELLED + 1)
        if len(ids) > FEW_LABELLED:
            yield scope_of(self.collections, self.model.pipeline)
            ids = self._labelled_ids()
        yield from repeat(Scope(ids=ids))

    def _labelled_ids(self, most: int | None = None) -> NDArray[np.int64]:
        """The embeddings with the label, in order."""
        rows = Embedding.objects.filter(
            model=self.model, region__image__label=self.label, region__image__collection__in=self.collections
        )
        return np.fromiter(rows.order_by("id").values_list("pk", flat=True)[:most], dtype=np.int64)

    def shown(self, ids: Sequence[int]) -> dict[int, Region]:
        """The regions of those hits that may be shown and are wanted."""
        if not ids:
            return {}
        regions = regions_by_embedding_id(ids, self.model.pipeline, self._keys(), self.viewer)
        return {hit: region for hit, region in regions.items() if self._is_wanted(region)}

    def shown_ids(self) -> NDArray[np.int64]:
        """All hits that may be shown and have the label, in order."""
        return shown_embedding_ids(self.model, self._keys(), self.viewer, self.label)

    def _keys(self) -> list[UUID]:
        return [collection.pk for collection in self.collections]

    def _is_wanted(self, region: Region) -> bool:
        if self.without is not None and region.image_id == self.without.pk:
            return False
        return not self.label or region.image.label == self.label


def nearest_images(
    snapshot: Snapshot, vector: NDArray[np.float32], wanted: Wanted
) -> tuple[list[tuple[Region, float]], Explanation]:
    """The nearest region of each of the k nearest images, with its distance, nearest first; and how they were found.

    Raises NothingToCompare.
    """
    begun = time.perf_counter()
    found = _Found(wanted, Explanation(snapshot.generation))
    if wanted.collections:
        _fill(found, snapshot, vector)
    return found.best, replace(found.explanation, milliseconds=milliseconds_since(begun))


@dataclass(slots=True)
class _Found:
    """What has been found so far: the best region of each image, and what is known of all hits."""

    wanted: Wanted
    explanation: Explanation
    best: list[tuple[Region, float]] = field(default_factory=list)
    _regions: dict[int, Region] = field(default_factory=dict)
    _looked_up: set[int] = field(default_factory=set)

    def steps(self, total: int) -> Iterator[tuple[Scope, int]]:
        """The scopes of ``wanted``, ever more hits in each; once too many dropped out, only what may be shown, by id.

        ``total``: how many embeddings there are to search in.
        """
        first = (self.wanted.k + (self.wanted.without is not None)) * FIRST_ASK
        steps = zip(self.wanted.scopes(), widening(first), strict=False)
        while not self._is_hopeless(total):
            yield next(steps)
        yield from zip(repeat(Scope(ids=self.wanted.shown_ids())), widening(first), strict=False)

    def _is_hopeless(self, total: int) -> bool:
        """Whether reading the ids of all that may be shown costs less than going on to look up what may not."""
        dropped = len(self._looked_up) - len(self._regions)
        return dropped >= MANY_DROPPED and dropped * DEARER >= total

    def take(self, hits: Hits) -> int:
        """Instead of those before; what is known of a hit is not read again. How many of them may not be shown.

        They are looked up by and by, until there are enough images.
        """
        ids, distances = hits.ids.tolist(), hits.distances.tolist()
        for end in range(LOOK_UP, len(ids) + LOOK_UP, LOOK_UP):
            self._look_up(ids[end - LOOK_UP : end])
            images = {hit: region.image_id for hit, region in self._regions.items()}
            self.best = best_per_key(zip(ids[:end], distances, strict=False), self._regions, images, self.wanted.k)
            if len(self.best) == self.wanted.k:
                break
        return sum(hit in self._looked_up and hit not in self._regions for hit in ids)

    def _look_up(self, ids: Sequence[int]) -> None:
        new = [hit for hit in ids if hit not in self._looked_up]
        self._looked_up.update(new)
        self._regions |= self.wanted.shown(new)


def _fill(found: _Found, snapshot: Snapshot, vector: NDArray[np.float32]) -> None:
    """Ask, look up, and ask again for more until k images are found or there is nothing more within the limit."""
    wanted, newer = found.wanted, len(snapshot.delta)
    steps = found.steps(newer + (snapshot.reader.count if snapshot.reader else 0))
    for asked in asks(snapshot, vector, steps, wanted.limit):
        dropped = found.take(asked.within)
        found.explanation = found.explanation.after(
            asked.hits, dropped=dropped, delta=newer, milliseconds=asked.milliseconds
        )
        if len(found.best) == wanted.k:
            return
