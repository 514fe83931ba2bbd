"""What a worker of the queue "intake" does: claim ► fetch, several at once ► catalog.uploads ► a verdict on the line.

Threads do nothing but fetch; rows are read and written by one. Whoever dies leaves leases that run out, and lines that
the sweep puts back (catalog.recovery).
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import timedelta
from functools import partial
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings

from catalog import claims
from catalog.database import retry_while_away
from catalog.exceptions import ImageRefused
from catalog.fetching import Fetched, FetchFailed, FetchRefused, fetch
from catalog.intake import lines
from catalog.intake.receiving import arrival_of, receive_lines
from catalog.models import IntakeJob, IntakeLine
from catalog.uploads import Arrival, refuse

logger = logging.getLogger(__name__)

NO_ROOM = "no-room"  # of a fetch: this machine's disk is at fault
NO_ROOM_REST = timedelta(minutes=2)
Arrived = tuple[IntakeLine, Future[Fetched]]


def take_in(seconds: float) -> bool:
    """Fetch what waits until nothing does or ``seconds`` are over; whether some may still wait.

    First those that a worker died on, one by one; then all others, VISEARCH_FETCH_AT_ONCE at a time.
    """
    until = time.monotonic() + seconds
    with ThreadPoolExecutor(settings.VISEARCH_FETCH_AT_ONCE, thread_name_prefix="fetch") as pool:
        round_ = _Round(pool)
        try:
            while time.monotonic() < until and round_.begin(lines.claim_suspect):
                round_.finish_all()
            return round_.go_on(until)
        finally:
            round_.end()


class _Round:
    """What one task has under way, all by one claim."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._token = claims.new_token()
        self._under_way: dict[Future[Fetched], IntakeLine] = {}
        self._has_room = True
        self._renewed = time.monotonic()

    def go_on(self, until: float) -> bool:
        """Fill every free place and finish what is done, until nothing is left to claim or the time is over."""
        while time.monotonic() < until and self._has_room:
            free = settings.VISEARCH_FETCH_AT_ONCE - len(self._under_way)
            began = bool(free) and self.begin(partial(lines.claim_addresses, size=free))
            if not self._under_way and not began:
                return False
            self._finish_some()
        self.finish_all()
        return self._has_room

    def begin(self, claim: Callable[[str], list[IntakeLine]]) -> bool:
        claimed = retry_while_away(partial(claim, self._token))
        for line in claimed:
            self._under_way[self._pool.submit(fetch, line.url)] = line
        return bool(claimed)

    def finish_all(self) -> None:
        while self._under_way:
            self._finish_some()

    def end(self) -> None:
        """Leave nothing behind: where something broke, what is fetched is thrown away and its lines wait again."""
        for future in self._under_way:
            future.cancel()
            future.add_done_callback(_close)
        retry_while_away(partial(lines.let_go, self._token))

    def _finish_some(self) -> None:
        lease = settings.VISEARCH_LEASE_SECONDS
        done, _ = wait(self._under_way, timeout=lease / 4, return_when=FIRST_COMPLETED)
        if time.monotonic() > self._renewed + lease / 4:
            retry_while_away(partial(lines.renew, self._token))
            self._renewed = time.monotonic()
        arrived = [(self._under_way.pop(future), future) for future in done]
        try:
            self._say_what_failed(arrived)
            self._receive([each for each in arrived if not each[1].exception()])
        finally:
            for _, future in arrived:
                _close(future)

    def _say_what_failed(self, arrived: Sequence[Arrived]) -> None:
        for line, future in arrived:
            error = future.exception()
            if error is not None and retry_while_away(partial(lines.still_mine, self._token, [line])):
                self._say(line, error)

    def _say(self, line: IntakeLine, error: BaseException) -> None:
        if isinstance(error, FetchRefused):
            refuse(line.job, line.source, ImageRefused(error.code, str(error)), line)
        elif isinstance(error, FetchFailed) and error.code == NO_ROOM:
            self._has_room = False
            lines.put_back(line, error.code, f"Waiting: {error}", NO_ROOM_REST, untried=True)
        elif isinstance(error, FetchFailed) and error.code == lines.SLOW_DOWN:
            lines.wait_for_host(line, str(error), error.retry_after)
        elif isinstance(error, FetchFailed):
            lines.try_again_or_fail(line, error.code, str(error), error.retry_after)
        else:
            logger.error("%s could not be fetched", line.url, exc_info=error)
            kind = type(error).__name__
            lines.try_again_or_fail(line, "unexpected", f"Fetching failed unexpectedly ({kind}). The log says more.")

    def _receive(self, arrived: Sequence[Arrived]) -> None:
        by_job: dict[IntakeJob, dict[IntakeLine, Fetched]] = defaultdict(dict)
        for line, future in arrived:
            by_job[line.job][line] = future.result()
        for job, files in by_job.items():  # asked for each, since to receive those of one may take a minute
            mine = retry_while_away(partial(lines.still_mine, self._token, list(files)))
            self._has_room = receive_lines(job, [_arrival(line, files[line]) for line in mine]) and self._has_room


def _arrival(line: IntakeLine, fetched: Fetched) -> Arrival:
    """The content alone says what it is: servers send any format under any name, so its extension is left off."""
    name = fetched.name.rpartition(".")[0] or fetched.name
    return arrival_of(line, fetched.file, name.replace(".", " "), source_url=_for_everybody(line.url))


def _for_everybody(url: str) -> str:
    """Shoppers see it: without what may be a key (a signature, a token, a password). A list may name another."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _close(future: Future[Fetched]) -> None:
    if not future.cancelled() and future.exception() is None:
        future.result().close()
