"""What the page remembers between two requests, and for how long."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from django_redis import get_redis_connection  # type: ignore[import-untyped]

from catalog.vision.types import Box
from search import query_tokens
from search.query_tokens import PREFIX, SECONDS, MemoryAway, QueryForgotten, keep, recall
from search.querying import Query, QueryRegion, QueryVector
from visearch_site.local.servers import Servers


def query() -> Query:
    face = QueryRegion("face", Box(1.5, 2.0, 30.25, 40.0), 0.987)
    whole = QueryRegion("image", Box(0.0, 0.0, 400.0, 300.0), 1.0)
    vectors = np.random.default_rng(1).normal(size=(2, 128)).astype(np.float32)
    return Query(
        width=400,
        height=300,
        vectors=(QueryVector(face, "f" * 64, vectors[0]), QueryVector(whole, "a" * 64, vectors[1])),
        looked_for=("face", "image"),
    )


def same(one: Query, other: Query) -> bool:
    vectors = zip(one.vectors, other.vectors, strict=True)
    alike = all(
        (a.region, a.fingerprint) == (b.region, b.fingerprint) and np.array_equal(a.vector, b.vector)
        for a, b in vectors
    )
    return alike and (one.width, one.height, one.looked_for) == (other.width, other.height, other.looked_for)


def test_a_query_comes_back_as_it_was() -> None:
    token = keep(query())
    assert token is not None
    assert same(recall(token), query())


def test_no_two_tokens_are_alike_and_none_can_be_guessed() -> None:
    tokens = {keep(query()) for _ in range(20)}
    assert len(tokens) == 20
    assert all(token is not None and len(token) >= 22 for token in tokens)


def test_it_is_forgotten_after_ten_minutes() -> None:
    token = keep(query())
    redis = get_redis_connection("default")
    assert 0 < redis.ttl(f"{PREFIX}{token}") <= SECONDS == 600
    redis.pexpire(f"{PREFIX}{token}", 1)
    while redis.exists(f"{PREFIX}{token}"):
        pass
    with pytest.raises(QueryForgotten):
        recall(str(token))


def test_looking_again_does_not_make_it_live_longer() -> None:
    token = keep(query())
    redis = get_redis_connection("default")
    redis.expire(f"{PREFIX}{token}", 30)
    recall(str(token))
    assert redis.ttl(f"{PREFIX}{token}") <= 30


def test_only_boxes_vectors_and_models_are_kept() -> None:
    kept: dict[str, Any] = json.loads(get_redis_connection("default").get(f"{PREFIX}{keep(query())}"))
    assert set(kept) == {"width", "height", "looked_for", "unavailable", "vectors"}
    assert [set(each) for each in kept["vectors"]] == [{"pipeline", "box", "score", "fingerprint", "vector"}] * 2


def test_what_was_never_kept_is_forgotten_too() -> None:
    with pytest.raises(QueryForgotten):
        recall("never-given-to-anybody")


def test_without_redis_nothing_is_kept_and_nobody_is_told_that_it_was_forgotten(
    take_redis_away: Callable[[], None],
) -> None:
    take_redis_away()
    assert keep(query()) is None
    with pytest.raises(MemoryAway):
        recall("some-token")


def test_a_redis_that_is_full_is_no_reason_to_fail(servers: Servers) -> None:
    redis = get_redis_connection("default")
    before = redis.config_get("maxmemory")["maxmemory"]
    redis.config_set("maxmemory", 1)
    try:
        assert query_tokens.keep(query()) is None
    finally:
        redis.config_set("maxmemory", before)
