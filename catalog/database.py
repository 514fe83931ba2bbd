"""Living through a database that is away for a moment (restarted, failed over); a lock that Django has no word for."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from django.db import InterfaceError, OperationalError, connection
from django.db.models import CharField, Model

logger = logging.getLogger(__name__)

T = TypeVar("T")
Row = TypeVar("Row", bound=Model)
AWAY = (OperationalError, InterfaceError)  # what a database that cannot be reached looks like


def retry_while_away(action: Callable[[], T], seconds: float = 60.0) -> T:
    """Run ``action`` again on a fresh connection for as long as the database cannot be reached, ``seconds`` at most.

    ``action`` must be safe to run twice: when a connection breaks during COMMIT nobody knows whether it took place.
    Inside a transaction there is nothing to retry, so the error goes straight up. Raises the last error.
    """
    until = time.monotonic() + seconds
    pause = 0.2
    while True:
        try:
            return action()
        except AWAY as error:
            if connection.in_atomic_block or time.monotonic() > until:
                raise
            logger.warning("the database is away, trying again in %.1f s: %s", pause, str(error).strip())
            connection.close()
            time.sleep(pause)
            pause = min(pause * 2, 5.0)


def update_rows(rows: Sequence[Model], names: Sequence[str]) -> None:
    """Write these columns of all the rows, which are of one model, in one statement.

    `QuerySet.bulk_update` builds an expression for every value, which costs 0.1 ms each: as much for a batch of files
    as to decode them.
    """
    if not rows:
        return
    meta = type(rows[0])._meta
    fields: list[Any] = [meta.pk, *(meta.get_field(name) for name in names)]
    given = ", ".join(f"%s::{_kind(field)}[]" for field in fields)
    columns: list[str] = [field.column for field in fields]
    changes = ", ".join(f"{column} = new.{column}" for column in columns[1:])
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {meta.db_table} AS old SET {changes} FROM unnest({given}) AS new({', '.join(columns)})"  # noqa: S608
            f" WHERE old.{columns[0]} = new.{columns[0]}",
            [[_value(field, row) for row in rows] for field in fields],
        )


def _kind(field: Any) -> str:
    """Text where a column has a most: a cast to it would cut off in silence what is too long."""
    return "text" if isinstance(field, CharField) else str(field.db_type(connection))


def _value(field: Any, row: Model) -> Any:
    value = field.get_db_prep_save(getattr(row, field.attname), connection)
    return str(value) if isinstance(value, str) else value  # of an enumeration, too


def locked_against_deletion(model: type[Row], keys: Iterable[Any], *columns: str) -> dict[Any, Row]:
    """The rows of these keys that are there, with these columns, locked FOR KEY SHARE in the order of their keys.

    None of them is deleted before the transaction ends: without it a foreign key would break the whole transaction.
    Whoever changes another column of one is not waited for, unless they lock it FOR UPDATE.
    """
    read, table = ", ".join(["id", *columns]), model._meta.db_table
    rows = model._base_manager.raw(
        f"SELECT {read} FROM {table} WHERE id = ANY(%s) ORDER BY id FOR KEY SHARE",  # noqa: S608
        [list(keys)],
    )
    return {row.pk: row for row in rows}
