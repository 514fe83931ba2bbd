"""Models that are kept ready beside the one that serves: workers compute what they lack, now and as images come.

``EmbeddingModel.fill`` says of which somebody asked it; of the way back the switch asks it by itself. ``filled_to`` is
the highest id of the embeddings that say which regions there are (catalog.filling_from_images) up to which all was
tried: ids of one model commit in order, so nothing comes below it, and what could not be computed is not tried again
and again. Whoever switches or asks anew sets it back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from django.db import transaction

from catalog import filling, filling_from_images
from catalog.embedding_models import check_may_serve
from catalog.lineage import lineage
from catalog.models import EmbeddingModel
from catalog.selectors import vector_state

State, Fill = EmbeddingModel.State, EmbeddingModel.Fill


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a model is: ``have`` embeddings are stored, ``lacking`` are not, and ``failed`` of these cannot be."""

    have: int
    lacking: int
    failed: int

    @property
    def total(self) -> int:
        return self.have + self.lacking

    @property
    def left(self) -> int:
        """What workers have still to do."""
        return self.lacking - self.failed


def kept_models() -> list[EmbeddingModel]:
    """Those that workers fill, by pipeline, the oldest first."""
    return list(
        EmbeddingModel.objects.filter(fill=Fill.ASKED).select_related("derived_from").order_by("pipeline", "id")
    )


@transaction.atomic
def ask(row: EmbeddingModel) -> None:
    """Let workers fill it from now on; what could not be computed before is tried once more.

    Raises CannotServe where it could not serve anyway.
    """
    check_may_serve(row)
    mine = EmbeddingModel.objects.filter(pk=row.pk)
    mine.filter(state=State.RETIRED, retired_at__isnull=True).update(state=State.BUILDING)
    mine.update(fill=Fill.ASKED, filled_to=0)


def pause(row: EmbeddingModel) -> bool:
    """Whether it was being filled. What was computed stays; `ask` goes on."""
    return bool(EmbeddingModel.objects.filter(pk=row.pk, fill=Fill.ASKED).update(fill=Fill.PAUSED))


def standing(row: EmbeddingModel) -> Standing:
    """Counts all of its pipeline: seconds where there are millions."""
    base = lineage(row)[0]
    of_base = filling_from_images.lacking(base)
    lacking = of_base.count()
    failed = of_base.filter(id__lte=row.filled_to).count() if lacking and row.filled_to else 0
    if row != base:
        lacking += filling.lacking(row).count()
    return Standing(vector_state(row).count, lacking, failed)


def is_filled(row: EmbeddingModel) -> bool:
    """Whether nothing is left that was not tried."""
    base = lineage(row)[0]
    if filling_from_images.lacking(base).filter(id__gt=row.filled_to).exists():
        return False
    return row == base or not filling.lacking(row).exists()


def batches(row: EmbeddingModel, size: int) -> Iterator[int]:
    """Compute what it lacks, ``size`` embeddings from images at a time: how many each batch has stored.

    Ends when all was tried, or when another model serves since: then there is other work to do. Killed at any moment it
    is gone on with by whoever asks next. Raises CannotServe where it cannot be computed here, ModelUnavailable,
    StorageUnavailable.
    """
    check_may_serve(row)
    for each in lineage(row):
        if each.derived_from is not None:
            yield from filling.batches(each)
            continue
        for count, last_id in filling_from_images.batches(each, row.filled_to, size):
            if not _advance(row, last_id):
                return
            yield count


def _advance(row: EmbeddingModel, last_id: int) -> bool:
    """False where somebody has set it back, or gone ahead, since we looked."""
    mine = EmbeddingModel.objects.filter(pk=row.pk, filled_to=row.filled_to)
    if not mine.update(filled_to=last_id):
        return False
    row.filled_to = last_id
    return True
