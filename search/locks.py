"""One builder per embedding model, over all processes and machines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import DEFAULT_DB_ALIAS, connections

from catalog.locks import held, key_of
from catalog.models import EmbeddingModel

__all__ = ["RebuildRunning", "builder_lock", "held", "is_building"]


class RebuildRunning(Exception):
    """Somebody else is building the index of this model right now."""


@contextmanager
def builder_lock(model: EmbeddingModel) -> Iterator[None]:
    """Hold the advisory lock of this model's index. Raises RebuildRunning at once where it is taken.

    Should its connection break during a long build, a second builder can start; then only the newer one can publish
    (search.engines.generations).
    """
    with held(_subject(model)) as is_ours:
        if not is_ours:
            raise RebuildRunning(
                f"The index of {model} ({model.pipeline}) is being built by another process. Wait for it."
            )
        yield


def is_building(model: EmbeddingModel) -> bool:
    """Whether anybody, on whatever machine, holds that lock now. Takes nothing."""
    is_held = """
        SELECT EXISTS (
            SELECT FROM pg_locks
            WHERE locktype = 'advisory' AND granted AND objsubid = 1
              AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
              AND (classid::bigint << 32) | objid::bigint = %s
        )
    """
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute(is_held, [key_of(_subject(model))])
        row = cursor.fetchone()
    return bool(row and row[0])


def _subject(model: EmbeddingModel) -> str:
    return f"visearch index {model.pk}"
