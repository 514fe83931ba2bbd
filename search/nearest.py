"""From a vector to the nearest images.

1. nearest vectors: generation and delta (search.serving)
2. hits through the database: what is deleted, hidden, dismissed or forbidden drops out, more is asked for, k is filled
3. one region for each image
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from catalog.models import Collection, Embedding, EmbeddingModel, Image, Region
from catalog.selectors import regions_by_embedding_id
from search.engines.types import Hits, Scope
from search.explaining import Explanation
from search.ranking import best_per_key, within
from search.scopes import scope_of
from search.serving import Snapshot

if TYPE_CHECKING:
    from catalog.querysets import Viewer

FIRST_ASK = 2  # hits asked for per image wanted: images with several faces, hits that drop out
ASK_MORE = 4  # and times more each time that was not enough
FEW_LABELLED = 20_000  # up to so many embeddings of a label the index is asked for these alone from the start


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
        keys = [collection.pk for collection in self.collections]
        regions = regions_by_embedding_id(ids, self.model.pipeline, keys, self.viewer)
        return {hit: region for hit, region in regions.items() if self._is_wanted(region)}

    def _is_wanted(self, region: Region) -> bool:
        if self.without is not None and region.image_id == self.without.pk:
            return False
        return not self.label or region.image.label == self.label


def nearest_images(
    snapshot: Snapshot, vector: NDArray[np.float32], wanted: Wanted
) -> tuple[list[tuple[Region, float]], Explanation]:
    """The nearest region of each of the k nearest images, with its distance, nearest first; and how they were found."""
    begun = time.perf_counter()
    found = _Found(wanted, Explanation(snapshot.generation))
    if wanted.collections:
        _fill(found, snapshot, vector)
    return found.best, replace(found.explanation, milliseconds=_since(begun))


@dataclass(slots=True)
class _Found:
    """What has been found so far: the best region of each image, and what is known of all hits."""

    wanted: Wanted
    explanation: Explanation
    best: list[tuple[Region, float]] = field(default_factory=list)
    _regions: dict[int, Region] = field(default_factory=dict)
    _looked_up: set[int] = field(default_factory=set)

    def take(self, hits: Hits) -> int:
        """Instead of those before; what is known of a hit is not read again. How many of them may not be shown."""
        ids = [int(hit) for hit in hits.ids]
        new = [hit for hit in ids if hit not in self._looked_up]
        self._looked_up.update(new)
        self._regions |= self.wanted.shown(new)
        images = {hit: region.image_id for hit, region in self._regions.items()}
        self.best = best_per_key(zip(ids, hits.distances.tolist(), strict=True), self._regions, images, self.wanted.k)
        return sum(hit not in self._regions for hit in ids)


def _fill(found: _Found, snapshot: Snapshot, vector: NDArray[np.float32]) -> None:
    """Ask, look up, and ask again for more until k images are found or there is nothing more within the limit."""
    wanted = found.wanted
    count = (wanted.k + (wanted.without is not None)) * FIRST_ASK
    for scope in wanted.scopes():
        begun = time.perf_counter()
        hits = snapshot.search(vector, count, scope)
        took = _since(begun)
        inside = within(hits, wanted.limit)
        dropped = found.take(inside)
        found.explanation = found.explanation.after(hits, dropped=dropped, delta=len(snapshot.delta), milliseconds=took)
        if len(found.best) == wanted.k or len(hits) < count or len(inside) < len(hits):
            return
        count *= ASK_MORE


def _since(begun: float) -> float:
    """Milliseconds."""
    return 1000 * (time.perf_counter() - begun)
