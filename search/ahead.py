"""The model that is about to serve, opened before it does: to read and check an index of millions takes seconds.

Whoever switches says so in the cache and waits a little. Every process that is searched in looks there once a second,
beside its queries, and opens that model's index and network. Where the cache is away nothing is opened ahead: the first
query after the switch does it then.
"""

from __future__ import annotations

import logging
import threading
import time

from django.core.cache import cache
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from catalog.exceptions import VisionError
from catalog.lineage import embedders_of
from catalog.models import EmbeddingModel
from catalog.selectors import vector_state
from catalog.vision.extract import warm_up
from search import serving
from search.serving import SMALL, index_size

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
ANNOUNCED_SECONDS = 60
BYTES_PER_SECOND = 200_000_000  # of an index that is read, hashed and loaded, at the slow end
LONGEST = 15.0

_looked: dict[str, float] = {}  # pipeline to monotonic seconds
_lock = threading.Lock()


def announce(model: EmbeddingModel) -> float:
    """Let processes open it; how many seconds to give them until it serves."""
    size = index_size(model, vector_state(model).count)
    if size <= SMALL:
        return 0.0
    cache.set(_key(model.pipeline), str(model.pk), ANNOUNCED_SECONDS)
    return min(LONGEST, 2 * LOOK_SECONDS + size / BYTES_PER_SECOND)


def look(pipeline: str) -> threading.Thread | None:
    """Called with every search; once a second it looks whether a model was announced, in a thread of its own."""
    now = time.monotonic()
    with _lock:
        if now - _looked.get(pipeline, -LOOK_SECONDS) < LOOK_SECONDS:
            return None
        _looked[pipeline] = now
    thread = threading.Thread(target=_open, args=(pipeline,), name="open-ahead", daemon=True)
    thread.start()
    return thread


def _open(pipeline: str) -> None:
    key = cache.get(_key(pipeline))
    if not key:
        return
    try:
        model = EmbeddingModel.objects.select_related("derived_from").filter(pk=key, pipeline=pipeline).first()
        if model is not None and model.state != EmbeddingModel.State.SERVING and not serving.is_open(model):
            serving.snapshot(model)
            warm_up(pipeline, embedders_of([model]))
            logger.info("%s is open before it serves %s", model, pipeline)
    except (VisionError, ImproperlyConfigured) as error:
        logger.warning("what is to serve %s cannot be opened ahead: %s", pipeline, error)
    finally:
        connections.close_all()  # Django keeps one for each thread


def _key(pipeline: str) -> str:
    return f"serves-next-{pipeline}"
