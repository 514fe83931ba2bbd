"""A lock is held for as long as its work takes, whatever lies between the site and Postgres, and not longer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, connections

from search.locks import held
from tests.stack import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


def is_free(subject: str) -> bool:
    with held(subject) as is_ours:
        return is_ours


def query(sql: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else []


HOLDERS = """
    SELECT state, backend_xmin, backend_xid FROM pg_stat_activity JOIN pg_locks USING (pid)
    WHERE locktype = 'advisory' AND granted AND datname = current_database()
"""


def test_one_holds_it_and_the_next_when_that_is_over() -> None:
    with held("this") as is_ours:
        assert is_ours
        assert not is_free("this")
        assert is_free("that")
    assert is_free("this")
    with pytest.raises(KeyError), held("this"):
        raise KeyError
    assert is_free("this")


def test_it_is_held_by_a_transaction_that_keeps_no_old_rows_alive() -> None:
    """A pooler gives a connection of the server to others whenever no transaction is open in it."""
    with held("this"):
        assert query(HOLDERS) == [("idle in transaction", None, None)]
    assert query(HOLDERS) == []


@pytest.fixture
def impatient() -> Iterator[None]:
    """A server that ends transactions in which nothing happens, as some are set up to."""
    (name,) = query("SELECT current_database()")[0]
    query(f'ALTER DATABASE "{name}" SET idle_in_transaction_session_timeout = 50')
    yield
    query(f'ALTER DATABASE "{name}" RESET idle_in_transaction_session_timeout')


@pytest.mark.usefixtures("impatient")
def test_a_server_that_ends_idle_transactions_leaves_it_alone() -> None:
    with held("this"):
        idle = connections.create_connection("default")  # as the lock's, but younger
        idle.set_autocommit(False)
        with idle.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            (pid,) = cursor.fetchone()
        wait_for("the timeout", lambda: not query(f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid}"))
        idle.close()
        assert not is_free("this")
