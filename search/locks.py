"""One builder per embedding model, over all processes and machines."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.db import DEFAULT_DB_ALIAS, Error, connections

from catalog.models import EmbeddingModel


class RebuildRunning(Exception):
    """Somebody else is building the index of this model right now."""


@contextmanager
def builder_lock(model: EmbeddingModel) -> Iterator[None]:
    """Hold the advisory lock of this model's index. Raises RebuildRunning at once where it is taken.

    The lock lives in a connection of its own: Postgres lets go of it when the process dies, and whatever happens on
    the default connection (transactions, reconnects) leaves it alone. Should this connection break during a long
    build, a second builder can start; then only the newer one can publish (search.engines.generations).
    """
    with held(_subject(model)) as is_ours:
        if not is_ours:
            raise RebuildRunning(
                f"The index of {model} ({model.pipeline}) is being built by another process. Wait for it."
            )
        yield


@contextmanager
def held(subject: str) -> Iterator[bool]:
    """Hold the advisory lock of what this names, in a connection of its own; False where somebody else does.

    It belongs to a transaction that stays open and does nothing, so that a pooler which lends its connections to the
    server by the transaction (pgbouncer) lends this one for as long. Such a transaction keeps no old rows alive.
    """
    connection = connections.create_connection(DEFAULT_DB_ALIAS)
    try:
        connection.set_autocommit(False)
        with connection.cursor() as cursor:
            cursor.execute(_NO_LIMITS)
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_key(subject)])
            row = cursor.fetchone()
        yield bool(row and row[0])
    finally:
        with suppress(Error):  # at once; the server notices a closed connection later
            connection.rollback()
        connection.close()


# Of this transaction alone; transaction_timeout is known to Postgres 17 and newer.
_NO_LIMITS = """
    SELECT set_config(name, '0', true) FROM pg_settings
    WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')
"""


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
        cursor.execute(is_held, [_key(_subject(model))])
        row = cursor.fetchone()
    return bool(row and row[0])


def _subject(model: EmbeddingModel) -> str:
    return f"visearch index {model.pk}"


def _key(subject: str) -> int:
    """An int64, as pg_try_advisory_lock takes it, that no other use of advisory locks is likely to share."""
    digest = hashlib.sha256(subject.encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
