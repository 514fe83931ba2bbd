"""/healthz: the process answers. /readyz: everything it needs does, or in words what is wrong and what to do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress

from django.core.exceptions import ImproperlyConfigured
from django.db import Error as DatabaseError
from django.db import ProgrammingError
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from django_redis import get_redis_connection  # type: ignore[import-untyped]
from redis.exceptions import RedisError

from catalog.embedding_models import change_of, check_may_serve, serving_models
from catalog.exceptions import CannotServe
from catalog.models import EmbeddingModel
from catalog.vision import registry
from search.doctor.quick import warnings

logger = logging.getLogger(__name__)


@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"status": "ok"})


@never_cache
@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """200 or 503, with the problems of each part, none where all is well. "No index built yet" is no problem.

    ``warnings``: the doctor's quick form, of what takes no site out of service but wants looking after.
    """
    checks = {name: check() for name, check in CHECKS.items()}
    ready = not any(checks.values())
    said: dict[str, object] = {"status": "ok" if ready else "unavailable", "problems": checks}
    said["warnings"] = [] if checks["database"] else _warnings()
    return JsonResponse(said, status=200 if ready else 503)


def _warnings() -> list[str]:
    try:
        return warnings()
    except DatabaseError:  # it went away in this moment; the next probe says so
        return []


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
    """Every network's file must be whole, but for a model beside the serving one, and every pipeline be served."""
    try:
        registry.descriptions()
    except ImproperlyConfigured as error:
        logger.error("readyz: %s", error)
        return [str(error)]
    serving: dict[str, EmbeddingModel] | None = None
    with suppress(DatabaseError):  # said by database_problems
        serving = {model.pipeline: model for model in serving_models()}
    broken = registry.model_problems(_beside(serving or {}))
    if broken:
        logger.error("readyz: %s", "; ".join(broken.values()))  # with paths, which are nobody else's business
    files = [f"The file of {name} is missing or altered. Run `manage.py models build`." for name in broken]
    if serving is None:
        return files
    in_use = [model for name, model in serving.items() if name in registry.pipelines()]
    files += [problem for model in in_use for problem in _serving_problems(model)]
    idle = [name for name in registry.pipelines() if name not in serving]
    return files + [f"No embedding model serves the pipeline {name!r}. Run `manage.py models build`." for name in idle]


def _beside(serving: Mapping[str, EmbeddingModel]) -> set[str]:
    """Embedders of the settings that do not serve, where another one does."""
    served = {pipeline: (model.derived_from or model).embedder for pipeline, model in serving.items()}
    return {
        name
        for pipeline in registry.pipelines().values()
        for name in pipeline.embedders
        if name != served.get(pipeline.name, name)
    }


def _serving_problems(model: EmbeddingModel) -> list[str]:
    if model.derived_from is None:
        change = change_of(model)  # its files are said above
        return [change] if change else []
    try:
        check_may_serve(model)
    except CannotServe as error:
        logger.error("readyz: %s", error)
        return [f"The taught model {model.embedder} cannot be used. `manage.py models` says why; see docs/teaching.md."]
    return []


CHECKS: dict[str, Callable[[], list[str]]] = {
    "database": database_problems,
    "redis": redis_problems,
    "models": model_problems,
}
