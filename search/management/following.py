"""A bar for whoever follows a worker that fills a model."""

from __future__ import annotations

import time

from django.core.management.base import OutputWrapper
from tqdm import tqdm

from catalog.database import retry_while_away
from catalog.keeping import standing
from catalog.models import EmbeddingModel
from search import progress
from search.progress import REQUESTED
from search.switching.background import YIELDING, stopped_by, subject

LOOK_SECONDS = 1.0
PATIENCE = 120.0  # seconds without any progress until we stop following


def follow_filling(model: EmbeddingModel, out: OutputWrapper) -> None:
    """Until nothing is left to compute, somebody pauses it, a worker cannot go on, or nothing happens for PATIENCE, in
    which a worker neither computes nor waits for images. Ctrl-C stops following."""
    patience, last = time.monotonic() + PATIENCE, -1
    with tqdm(unit=" embeddings", disable=None, leave=False) as bar:
        while _goes_on(model) and time.monotonic() < patience:
            said = progress.reported(subject(model))
            if said is not None:
                bar.set_description(said.step, refresh=False)
                bar.total, bar.n = said.total, said.done
                bar.refresh()
            if said is not None and (said.step == YIELDING or (said.done != last and said.step != REQUESTED)):
                patience, last = time.monotonic() + PATIENCE, said.done
            time.sleep(LOOK_SECONDS)
    now = retry_while_away(lambda: standing(model))
    out.write(f"{model} has {now.have} of {now.total} embeddings.")
    if now.failed:
        out.write(f"{now.failed} could not be computed; the log of the worker names the images.")
    why = stopped_by(model)
    if why:
        out.write(f"A worker could not go on: {why} It is tried again every minute.")
    elif now.left:
        out.write("The rest is computed when a worker is free and no image waits; after a pause `model fill` goes on.")


def _goes_on(model: EmbeddingModel) -> bool:
    """Cheap while a worker says how far it is; where none says anything the rows are counted."""
    fill = EmbeddingModel.objects.filter(pk=model.pk).values_list("fill", "filled_to").first()
    if fill is None or fill[0] != EmbeddingModel.Fill.ASKED:
        return False
    if progress.reported(subject(model)) is not None:
        return True
    if stopped_by(model):
        return False
    model.filled_to = fill[1]
    return bool(standing(model).left)
