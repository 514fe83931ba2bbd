"""What worker processes say of themselves once their networks run: kept in the cache, for the page of search health.

A web process need not have loaded a network, and what it would run on is not what a worker on another host runs on.
"""

from __future__ import annotations

import socket
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.utils import timezone

from catalog.vision import providers
from catalog.vision.cores import usable_cores

KEPT = timedelta(days=1)  # a host that says nothing for so long has no worker
_KEY = "vision-workers"


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """``runs_on``: names of VISEARCH_ONNX_PROVIDERS that networks really run on, best first. Per process: ``lanes``
    batches at once, and ``threads`` of a run of a network."""

    host: str
    runs_on: tuple[str, ...]
    lanes: int
    threads: int
    cores: int
    said_at: datetime


def report() -> None:
    """Say it for this host, if this process has loaded networks. Of two hosts in the same moment one may be lost, until
    it says so again within minutes (catalog.tasks.process_images)."""
    runs_on = providers.in_use()
    if not runs_on:
        return
    mine = WorkerReport(
        host=socket.gethostname(),
        runs_on=runs_on,
        lanes=max(1, settings.VISEARCH_LANES),
        threads=settings.VISEARCH_THREADS or usable_cores(),
        cores=usable_cores(),
        said_at=timezone.now(),
    )
    said = {each.host: {**asdict(each), "said_at": each.said_at.isoformat()} for each in (*reports(), mine)}
    cache.set(_KEY, said, KEPT.total_seconds())


def reports() -> list[WorkerReport]:
    """The last of each host within KEPT, by host; [] where none spoke or the cache is away."""
    kept = cache.get(_KEY)
    said = [_read(each) for each in (kept.values() if isinstance(kept, dict) else ())]
    now = timezone.now()
    return sorted((each for each in said if each and now - each.said_at < KEPT), key=lambda each: each.host)


def _read(said: Any) -> WorkerReport | None:
    """None for what another version of this site said in another form: its host speaks again when it is upgraded."""
    try:
        report_ = WorkerReport(**said)
        runs_on, said_at = tuple(report_.runs_on), datetime.fromisoformat(said["said_at"])
        return replace(report_, runs_on=runs_on, said_at=said_at) if timezone.is_aware(said_at) else None
    except (TypeError, ValueError):
        return None
