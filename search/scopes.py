"""Where an index is to look for who may search in some collections."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from catalog.models import Collection
from search.engines.types import EVERYWHERE, Scope


def scope_of(collections: Sequence[Collection], pipeline: str) -> Scope:
    """These collections; EVERYWHERE where no other runs the pipeline, so that no vector has to be looked at for it."""
    if len(collections) == Collection.objects.filter(pipelines__contains=[pipeline]).count():
        return EVERYWHERE
    return Scope(collections=np.array([each.index_key for each in collections], dtype=np.int64))
