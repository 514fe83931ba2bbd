"""Several batches at once in one worker process: each lane is a thread that claims, extracts and stores by itself.

A lane alone leaves a core idle while it writes rows and waits for the disk, and networks this small gain little from a
second thread. So a worker process runs as many lanes as it has cores, each network on one thread.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from uuid import UUID

from django.conf import settings
from django.db import connections

from catalog import claims
from catalog.database import retry_while_away
from catalog.processing import process_batch


def drain(first: UUID | None, seconds: float) -> bool:
    """Process what waits, ``first`` first, until nothing does or ``seconds`` are over; whether some may still wait.

    One batch, then VISEARCH_LANES at once if more is waiting. Raises what a lane raised, when all have ended.
    """
    until = time.monotonic() + seconds
    lanes = max(1, settings.VISEARCH_LANES)
    if lanes == 1:
        return _process_until(until, first)
    if not process_batch(first) or not retry_while_away(partial(claims.waiting_count, 1)):
        return False
    with ThreadPoolExecutor(lanes, thread_name_prefix="lane") as pool:
        futures = [pool.submit(_lane, until) for _ in range(lanes)]
    return True in [future.result() for future in futures]  # all of them: the first True must not hide an error


def _lane(until: float) -> bool:
    try:
        return _process_until(until)
    finally:
        connections.close_all()  # Django keeps one for each thread


def _process_until(until: float, first: UUID | None = None) -> bool:
    while process_batch(first):
        if time.monotonic() > until:
            return True
    return False
