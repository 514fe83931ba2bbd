"""The Celery app. Queues: "vision" for images (the default), "index" for builds, "intake" for addresses to fetch; and
"sweep", which every worker takes from besides.

Timetable: settings.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Any

from billiard.util import set_pdeathsig  # type: ignore[attr-defined]  # its stubs lack it
from celery import Celery
from celery.signals import (
    celeryd_after_setup,
    celeryd_init,
    heartbeat_sent,
    setup_logging,
    worker_process_init,
    worker_shutdown,
)
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import Error as DatabaseError
from redis.exceptions import RedisError

from catalog import queues, workers
from catalog.vision import helper, providers, registry
from catalog.vision.cores import usable_cores
from catalog.vision.errors import DecoderUnavailable, VisionError

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "visearch_site.settings")

logger = logging.getLogger(__name__)

_duties = {"runs networks": True}  # of this worker; its processes are forks

app = Celery("visearch")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.autodiscover_tasks(["catalog.intake"])


@setup_logging.connect
def keep_django_logging(**_: object) -> None:
    """Connected, so that Celery leaves the logging of settings.LOGGING alone."""


@celeryd_init.connect
def share_cores(options: dict[str, Any] | None = None, **_: object) -> None:
    """Worker processes together keep each core busy with one lane of one thread, unless settings say otherwise."""
    cores = usable_cores()
    processes = int((options or {}).get("concurrency") or cores)
    settings.VISEARCH_THREADS = settings.VISEARCH_THREADS or 1
    settings.VISEARCH_LANES = settings.VISEARCH_LANES or max(1, cores // processes // settings.VISEARCH_THREADS)
    used = processes * settings.VISEARCH_LANES * settings.VISEARCH_THREADS
    if used > cores:
        logger.warning(
            "%d processes with %d lanes of %d threads want %d cores, there are %d: lower VISEARCH_WORKER_PROCESSES "
            "(celery's --concurrency), VISEARCH_LANES or VISEARCH_THREADS.",
            *(processes, settings.VISEARCH_LANES, settings.VISEARCH_THREADS, used, cores),
        )


@celeryd_init.connect
def know_queues(options: dict[str, Any] | None = None, **_: object) -> None:
    """A worker of the queue "intake" alone fetches files and runs no network: it is to stay small."""
    _duties["runs networks"] = set(_queues_of(options)) != {"intake"}


@celeryd_after_setup.connect
def take_sweeps(instance: Any, **_: object) -> None:
    """Whatever -Q says: who comes free first sweeps, so that no backlog of images or addresses keeps it waiting."""
    queues_ = instance.app.amqp.queues
    queues_.select_add(queues_[queues.SWEEP])


def _queues_of(options: Mapping[str, Any] | None) -> list[str]:
    """Those that a worker is started for; the default one where its command names none."""
    asked = (options or {}).get("queues") or settings.CELERY_TASK_DEFAULT_QUEUE
    return asked.split(",") if isinstance(asked, str) else list(asked)


@celeryd_init.connect
def refuse_wrong_settings(**_: object) -> None:
    """A worker runs no system checks, so it would fail at its first image. Celery goes on after any other exception."""
    try:
        registry.descriptions()
    except ImproperlyConfigured as error:
        raise SystemExit(f"The settings cannot work: {error}") from error


class _Attendance:
    """A worker's own process says that it lives, and which queues it serves: for the page of all jobs."""

    name = ""
    queues: Sequence[str] = ()
    said_at = 0.0

    def begin(self, sender: str, options: dict[str, Any] | None = None, **_: object) -> None:
        self.name, self.queues = sender, [*_queues_of(options), queues.SWEEP]

    def go_on(self, **_: object) -> None:
        if self.said_at and time.monotonic() < self.said_at + queues.SAID_EVERY:
            return
        self.said_at = time.monotonic()
        with contextlib.suppress(RedisError, OSError):
            queues.say_alive(self.name, self.queues)

    def end(self, **_: object) -> None:
        with contextlib.suppress(RedisError, OSError):
            queues.say_gone(self.name)


_attendance = _Attendance()
celeryd_init.connect(_attendance.begin)
heartbeat_sent.connect(_attendance.go_on)
worker_shutdown.connect(_attendance.end)


@worker_process_init.connect
def end_with_the_worker(**_: object) -> None:
    """A pool process whose worker is killed -9 would otherwise go on, unseen. Linux only."""
    with contextlib.suppress(OSError):
        set_pdeathsig(signal.SIGKILL)


@worker_process_init.connect
def load_networks(**_: object) -> None:
    """Once in each process, after the fork (sessions do not live through one) and before its first image."""
    if not _duties["runs networks"]:
        return
    from catalog.vision.extract import warm_up  # noqa: PLC0415 - Django's apps are ready in a worker, not at this import

    serving = _serving()
    whole = True
    for pipeline in registry.pipelines():
        try:
            warm_up(pipeline, serving)
        except (VisionError, ImproperlyConfigured) as error:
            logger.error("networks of the pipeline %s are not loaded: %s", pipeline, error)
            whole = False
    try:
        helper.prepare(settings.VISEARCH_LANES)
    except DecoderUnavailable as error:
        logger.error("images cannot be read: %s", error)
    if whole:
        logger.info("networks loaded, they run on %s", ", ".join(providers.in_use()) or "nothing: none is needed")
    workers.report()


def _serving() -> Mapping[str, Sequence[str]] | None:
    """Pipeline to the embedders that run; None, which means the first ones, where the database does not say."""
    from catalog.embedding_models import serving_models  # noqa: PLC0415 - as above
    from catalog.lineage import embedders_of  # noqa: PLC0415 - as above

    try:
        return embedders_of(serving_models())
    except DatabaseError as error:
        logger.warning("the database does not say what serves: %s", error)
        return None


@app.task(name="visearch_site.process_id", ignore_result=False)
def process_id() -> int:
    """The id of the process that ran this task: proof that work really leaves the web process."""
    return os.getpid()
