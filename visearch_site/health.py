"""/healthz: the process answers. /readyz: everything it needs does, or in words what is wrong and what to do."""

from __future__ import annotations

import logging
from collections.abc import Callable

from django.db import Error as DatabaseError
from django.db import ProgrammingError
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from django_redis import get_redis_connection  # type: ignore[import-untyped]
from redis.exceptions import RedisError

from catalog.embedding_models import serving_models
from catalog.vision import registry

logger = logging.getLogger(__name__)


@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"status": "ok"})


@never_cache
@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """200 or 503, with the problems of each part, none where all is well. "No index built yet" is no problem."""
    checks = {name: check() for name, check in CHECKS.items()}
    ready = not any(checks.values())
    return JsonResponse({"status": "ok" if ready else "unavailable", "problems": checks}, status=200 if ready else 503)


def database_problems() -> list[str]:
    try:
        serving_models()
    except ProgrammingError:
        logger.exception("readyz: tables are missing")
        return ["The database answers, but its tables are missing. Run `manage.py migrate`."]
    except DatabaseError:
        logger.exception("readyz: no database")
        return ["The database does not answer. Start it, or correct DATABASE_URL; the log has its words."]
    return []


def redis_problems() -> list[str]:
    """Without Redis the site answers, but nothing is throttled and what is uploaded waits for the sweep."""
    try:
        get_redis_connection("default").ping()
    except (RedisError, OSError):
        logger.exception("readyz: no Redis")
        return ["Redis does not answer. Start it, or correct REDIS_URL; the log has its words."]
    return []


def model_problems() -> list[str]:
    """Every network's file must be whole, and every pipeline have a model that serves."""
    broken = registry.model_problems()
    if broken:
        logger.error("readyz: %s", "; ".join(broken.values()))  # with paths, which are nobody else's business
    files = [f"The file of {name} is missing or altered. Run `manage.py models build`." for name in broken]
    try:
        serving = {model.pipeline for model in serving_models()}
    except DatabaseError:  # said by database_problems
        return files
    idle = [name for name in registry.pipelines() if name not in serving]
    return files + [f"No embedding model serves the pipeline {name!r}. Run `manage.py models build`." for name in idle]


CHECKS: dict[str, Callable[[], list[str]]] = {
    "database": database_problems,
    "redis": redis_problems,
    "models": model_problems,
}
