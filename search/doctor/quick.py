"""The doctor's quick form for /readyz: a few short queries and one small file per index, in words for everybody."""

from __future__ import annotations

import logging
from collections.abc import Callable

from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from catalog.doctor.waiting import old_dooms, stuck_claims, unfinished_lines
from catalog.embedding_models import serving_models
from catalog.models import EmbeddingModel
from catalog.selectors import last_embedding_id
from search.engines.folder_engine import FolderEngine
from search.engines.registry import index_for
from search.health import index_trouble
from search.models import IndexGeneration

logger = logging.getLogger(__name__)


def warnings() -> list[str]:
    """What somebody should look after, though the site answers; [] where all is well. Raises DatabaseError."""
    return [said for look in (_images, _uploads, _deleted, _indexes) for said in look()]


def _images() -> list[str]:
    return _if(stuck_claims(timezone.now()).exists, "Images wait for a worker, and none takes them: start it.")


def _uploads() -> list[str]:
    said = "Uploads that were interrupted are not cleaned up: start beat."
    return _if(unfinished_lines(timezone.now()).exists, said)


def _deleted() -> list[str]:
    said = "Files of deleted images are still there: start beat, or make their storage writable."
    return _if(old_dooms(timezone.now()).exists, said)


def _if(found: Callable[[], bool], said: str) -> list[str]:
    return [f"{said} `manage.py doctor` says more."] if found() else []


def _indexes() -> list[str]:
    """Of the indexes that this machine alone keeps: a probe asks no other, and one that follows others may lag."""
    said = []
    for model in serving_models():
        if not _is_kept_here(model):
            continue
        generation = model.generations.filter(status=IndexGeneration.Status.PUBLISHED).first()
        trouble = index_trouble(model, generation) or _is_ahead(generation)
        if trouble:
            logger.warning("readyz: %s: %s", model.pipeline, trouble)
            said.append(f"The index of {model.pipeline} needs to be looked after. `manage.py doctor` says more.")
    return said


def _is_ahead(generation: IndexGeneration | None) -> str:
    """As the doctor's index-ahead, by the record."""
    if generation is None or generation.highest_embedding_id <= last_embedding_id():
        return ""
    return f"Generation {generation.name} knows embeddings that the database never gave out."


def _is_kept_here(model: EmbeddingModel) -> bool:
    try:
        engine, spec = index_for(model.pipeline, model.fingerprint, model.dimension)
    except ImproperlyConfigured:  # the system checks say it
        return False
    return isinstance(engine, FolderEngine) and spec.depot is None
