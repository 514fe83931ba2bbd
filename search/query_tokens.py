"""What lives between two requests of the page: a query's boxes and vectors, ten minutes in Redis, under a random token.

Never the photo. A token says nothing about who searched, and gives nobody more: whoever follows it finds what they
themselves may see.
"""

from __future__ import annotations

import base64
import json
import logging
import secrets
from typing import Any, cast

import numpy as np
from django_redis import get_redis_connection  # type: ignore[import-untyped]
from redis.exceptions import RedisError

from catalog.vision.types import Box
from search.querying import Query, QueryRegion, QueryVector

logger = logging.getLogger(__name__)

SECONDS = 600
PREFIX = "visearch:query:"
TOKEN_BYTES = 16
_AWAY = (RedisError, OSError)


class QueryForgotten(Exception):
    """There is no query of this token, or not any more."""


class MemoryAway(Exception):
    """Redis does not answer."""


def keep(query: Query) -> str | None:
    """The token under which the query is kept for SECONDS; None where Redis does not take it."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    try:
        get_redis_connection("default").set(PREFIX + token, to_json(query), ex=SECONDS)
    except _AWAY as error:
        logger.error("a query is not kept for its next request: %s", error)
        return None
    return token


def recall(token: str) -> Query:
    """Raises QueryForgotten, MemoryAway."""
    try:
        kept = cast("bytes | None", get_redis_connection("default").get(PREFIX + token))
    except _AWAY as error:
        raise MemoryAway from error
    if kept is None:
        raise QueryForgotten
    return from_json(kept)


def to_json(query: Query) -> str:
    return json.dumps(
        {
            "width": query.width,
            "height": query.height,
            "looked_for": query.looked_for,
            "unavailable": query.unavailable,
            "vectors": [_packed(each) for each in query.vectors],
        }
    )


def from_json(kept: bytes | str) -> Query:
    stored = json.loads(kept)
    return Query(
        width=stored["width"],
        height=stored["height"],
        vectors=tuple(_unpacked(each) for each in stored["vectors"]),
        looked_for=tuple(stored["looked_for"]),
        unavailable=tuple(stored["unavailable"]),
    )


def _packed(each: QueryVector) -> dict[str, Any]:
    box = each.region.box
    return {
        "pipeline": each.region.pipeline,
        "box": [box.x, box.y, box.width, box.height],
        "score": each.region.score,
        "fingerprint": each.fingerprint,
        "vector": base64.b64encode(each.vector.astype("<f4").tobytes()).decode(),
    }


def _unpacked(stored: dict[str, Any]) -> QueryVector:
    region = QueryRegion(stored["pipeline"], Box(*stored["box"]), stored["score"])
    vector = np.frombuffer(base64.b64decode(stored["vector"]), dtype="<f4").astype(np.float32)
    return QueryVector(region, stored["fingerprint"], vector)
