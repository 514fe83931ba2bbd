"""What one process does at a time, over all processes and machines."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.db import DEFAULT_DB_ALIAS, Error, connections

# Of this transaction alone; transaction_timeout is known to Postgres 17 and newer.
_NO_LIMITS = """
    SELECT set_config(name, '0', true) FROM pg_settings
    WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')
"""


@contextmanager
def held(subject: str) -> Iterator[bool]:
    """Hold the advisory lock of what this names, in a connection of its own; False where somebody else does.

    Postgres lets go of it when the process dies, and whatever happens on the default connection (transactions,
    reconnects) leaves it alone. It belongs to a transaction that stays open and does nothing, so that a pooler which
    lends its connections to the server by the transaction (pgbouncer) lends this one for as long. Such a transaction
    keeps no old rows alive.
    """
    connection = connections.create_connection(DEFAULT_DB_ALIAS)
    try:
        connection.set_autocommit(False)
        with connection.cursor() as cursor:
            cursor.execute(_NO_LIMITS)
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [key_of(subject)])
            row = cursor.fetchone()
        yield bool(row and row[0])
    finally:
        with suppress(Error):  # at once; the server notices a closed connection later
            connection.rollback()
        connection.close()


def wait_for(subject: str) -> None:
    """Hold the advisory lock of what this names until the end of this transaction; whoever has it is waited for."""
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [key_of(subject)])


def key_of(subject: str) -> int:
    """An int64, as pg_try_advisory_lock takes it, that no other use of advisory locks is likely to share."""
    digest = hashlib.sha256(subject.encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
