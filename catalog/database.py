"""Living through a database that is away for a moment (restarted, failed over)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import InterfaceError, OperationalError, connection

logger = logging.getLogger(__name__)

T = TypeVar("T")
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
