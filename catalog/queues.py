"""What Redis knows of the workers: how many messages wait in each queue, and which workers are there to take them.

A message is only a nudge (catalog.tasks): what really waits is in the database.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.conf import settings
from django_redis import get_redis_connection  # type: ignore[import-untyped]
from redis.exceptions import RedisError

SAID_EVERY = 20.0  # seconds; Celery's own heartbeat is every two
BELIEVED = 75.0  # seconds after which a worker that said nothing is gone
SWEEP = "sweep"  # the queue that every worker takes from, whichever others it is started for
ALIVE = "visearch:workers-alive"  # a hash in Redis: node name to what it said last


@dataclass(frozen=True, slots=True)
class Worker:
    """A Celery worker by its node name (``celery@host``), and the queues that it takes messages from."""

    name: str
    queues: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Queues:
    """``depths``: messages by queue, those that a worker has taken not counted."""

    depths: Mapping[str, int]
    workers: Sequence[Worker]

    @property
    def unserved(self) -> list[str]:
        """Queues that no worker takes messages from."""
        served = {queue for worker in self.workers for queue in worker.queues}
        return [queue for queue in self.depths if queue not in served]


def names() -> list[str]:
    """Every queue that a task is sent to, by the settings."""
    routed = [route["queue"] for route in settings.CELERY_TASK_ROUTES.values()]
    return list(dict.fromkeys([settings.CELERY_TASK_DEFAULT_QUEUE, *sorted(routed)]))


def look() -> Queues | None:
    """One question to Redis; None where it does not answer."""
    queues = names()
    try:
        with get_redis_connection("default").pipeline(transaction=False) as pipeline:
            for queue in queues:
                pipeline.llen(queue)
            *depths, said = pipeline.hgetall(ALIVE).execute()
    except (RedisError, OSError):
        return None
    return Queues(dict(zip(queues, depths, strict=True)), _workers(said))


def _workers(said: Mapping[bytes, bytes]) -> list[Worker]:
    now = time.time()
    found = {name.decode(): json.loads(text) for name, text in said.items()}
    alive = {name: each for name, each in found.items() if now - each["at"] < BELIEVED}
    return [Worker(name, tuple(alive[name]["queues"])) for name in sorted(alive)]


def say_alive(name: str, queues: Sequence[str]) -> None:
    """Of a worker, every SAID_EVERY seconds. Raises RedisError."""
    redis = get_redis_connection("default")
    redis.hset(ALIVE, name, json.dumps({"at": time.time(), "queues": list(queues)}))
    for other, text in redis.hgetall(ALIVE).items():
        if time.time() - json.loads(text)["at"] > 60 * BELIEVED:
            redis.hdel(ALIVE, other)


def say_gone(name: str) -> None:
    """Of a worker that shuts down. Raises RedisError."""
    get_redis_connection("default").hdel(ALIVE, name)
