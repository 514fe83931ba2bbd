"""Whether Redis, which carries messages to the workers, answers."""

from __future__ import annotations

from django_redis import get_redis_connection  # type: ignore[import-untyped]
from redis.exceptions import RedisError

AWAY = (
    "Redis does not answer, so no worker hears of new work. What you upload is stored and safe; it is processed within "
    "a minute after Redis is back."
)


def is_away() -> bool:
    try:
        get_redis_connection("default").ping()
    except (RedisError, OSError):
        return True
    return False
